"""Google's own client, and Google's own description of the service, against our imitation of it.

Arguments: base URL, project.
"""

import json
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

import googleapiclient
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceRestTransport,
)

url, project = sys.argv[1:]
parent = f"projects/{project}"


def with_the_client():
    host = urllib.parse.urlsplit(url).netloc
    transport = SecretManagerServiceRestTransport(
        host=host, url_scheme="http", credentials=AnonymousCredentials()
    )
    client = SecretManagerServiceClient(transport=transport)
    secret = client.create_secret(
        parent=parent, secret_id="judge", secret={"replication": {"automatic": {}}}
    )
    # CRC-32C of b"one", as in the payload's documentation.
    client.add_secret_version(parent=secret.name, payload={"data": b"one"})
    second = client.add_secret_version(parent=secret.name, payload={"data": b"\xff\x00two"})
    assert second.name.endswith("/versions/2"), second
    found = client.access_secret_version(name=f"{secret.name}/versions/latest")
    assert found.payload.data == b"\xff\x00two" and found.payload.data_crc32c, found
    assert client.access_secret_version(name=f"{secret.name}/versions/1").payload.data == b"one"
    listed = [secret.name for secret in client.list_secrets(request={"parent": parent, "page_size": 2})]
    assert len(listed) == len(set(listed)) and len(listed) > 2, listed
    client.disable_secret_version(name=second.name)
    newest = client.list_secret_versions(request={"parent": secret.name, "filter": "state:ENABLED"})
    assert [version.name.rsplit("/", 1)[1] for version in newest] == ["1"]
    for name, error in [
        (f"{secret.name}/versions/latest", exceptions.BadRequest),
        (f"{secret.name}/versions/9", exceptions.NotFound),
        (f"{parent}/secrets/none/versions/latest", exceptions.NotFound),
    ]:
        try:
            client.access_secret_version(name=name)
            raise SystemExit(f"{name} was found")
        except error:
            pass
    return len(listed)


def described():
    folder = pathlib.Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    return json.loads((folder / "secretmanager.v1.json").read_text())


def fits(schemas, schema, value, place):
    """Every member of an answer is one that the description has, of its type."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        assert isinstance(value, dict), place
        for name, member in value.items():
            assert name in schema["properties"], f"{place}.{name} is not described"
            fits(schemas, schema["properties"][name], member, f"{place}.{name}")
    elif kind == "array":
        assert isinstance(value, list), place
        for member in value:
            fits(schemas, schema["items"], member, f"{place}[]")
    elif kind == "string":
        assert isinstance(value, str), f"{place}: {value}"
    elif kind == "integer":
        assert isinstance(value, int), f"{place}: {value}"


def with_the_description():
    document = described()
    schemas = document["schemas"]
    secrets = document["resources"]["projects"]["resources"]["secrets"]
    versions = secrets["resources"]["versions"]
    calls = [
        (secrets, "create", {"secretId": "described"}, {"replication": {"automatic": {}}}),
        (secrets, "addVersion", {}, {"payload": {"data": "b25l"}}),
        (secrets, "get", {}, None),
        (secrets, "list", {"pageSize": "1"}, None),
        (versions, "list", {}, None),
        (versions, "get", {}, None),
        (versions, "access", {}, None),
    ]
    for resource, name, query, body in calls:
        method = resource["methods"][name]
        assert set(query) <= set(method["parameters"]), name
        path = method["flatPath"].format(projectsId=project, secretsId="described", versionsId="1")
        request = urllib.request.Request(
            f"{url}/{path}?{urllib.parse.urlencode(query)}",
            method=method["httpMethod"],
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            fits(schemas, {"$ref": method["response"]["$ref"]}, json.load(answer), name)
    return len(calls)


print(json.dumps({"listed": with_the_client(), "described": with_the_description()}))
