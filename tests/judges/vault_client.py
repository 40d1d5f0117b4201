"""hvac, the Python client of Vault, against the surface under `/vault`.

Arguments: base URL with `/vault`, role id, secret id, and the secrets to read: JSON of paths and their data.
"""

import json
import sys

import hvac
from hvac import exceptions

url, role_id, secret_id, expected = sys.argv[1:]
expected = json.loads(expected)


def refused(kind, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind as error:
        return str(error)
    raise SystemExit(f"{call.__name__} {arguments} {named} was not refused")


client = hvac.Client(url=url)
assert client.sys.is_initialized() and not client.sys.is_sealed()
assert client.sys.read_health_status(method="GET")["initialized"]
assert client.sys.read_health_status().status_code == 200
assert not client.is_authenticated()
refused(exceptions.InvalidRequest, client.auth.approle.login, role_id=role_id, secret_id="wrong")

login = client.auth.approle.login(role_id=role_id, secret_id=secret_id)["auth"]
assert client.token == login["client_token"] and login["renewable"], login
assert login["lease_duration"] == 600, login
assert client.is_authenticated()
itself = client.auth.token.lookup_self()["data"]
assert itself["display_name"] == "approle:judge" and itself["renewable"], itself
assert 0 < itself["ttl"] <= 600 and itself["accessor"] == login["accessor"], itself
for increment in [None, "300", "5m", 300]:
    renewed = client.auth.token.renew_self(increment=increment)["auth"]
    assert renewed["client_token"] == client.token and 0 < renewed["lease_duration"] <= 600, renewed
refused(exceptions.InvalidRequest, client.auth.token.renew_self, increment="a while")

kv = client.secrets.kv.v2
for path, data in expected.items():
    found = kv.read_secret_version(path, raise_on_deleted_version=True)
    assert found["data"]["data"] == data, (path, found)
    assert found["data"]["metadata"]["version"] >= 1 and not found["data"]["metadata"]["destroyed"], found
    assert kv.read_secret_version(path, version=1, raise_on_deleted_version=False)["data"]["data"]
    assert client.read(f"secret/data/{path}")["data"]["data"] == data
    about = kv.read_secret_metadata(path)["data"]
    assert about["current_version"] >= 1 and "versions" in about, about
    folder, name = path.rsplit("/", 1)
    assert name in kv.list_secrets(folder)["data"]["keys"], path
assert "external/" in kv.list_secrets("")["data"]["keys"]
assert client.list("secret/metadata/external")["data"]["keys"] == ["aws/", "azure/", "google/", "vault/"]

first = kv.create_or_update_secret("app/made", {"n": 1, "deep": {"list": [True, None]}}, cas=0)["data"]
assert first["version"] == 1 and not first["destroyed"], first
stale = refused(exceptions.InvalidRequest, kv.create_or_update_secret, "app/made", {"n": 2}, cas=0)
assert "check-and-set parameter did not match" in stale, stale
assert kv.create_or_update_secret("app/made", {"n": 2}, cas=1)["data"]["version"] == 2
assert kv.patch("app/made", {"more": "x"})["data"]["version"] == 3
assert kv.read_secret("app/made", raise_on_deleted_version=True)["data"]["data"] == {"n": 2, "more": "x"}
old = kv.read_secret_version("app/made", version=1, raise_on_deleted_version=True)["data"]
assert old["data"] == {"n": 1, "deep": {"list": [True, None]}} and old["metadata"]["version"] == 1, old
about = kv.read_secret_metadata("app/made")["data"]
assert (about["current_version"], sorted(about["versions"])) == (3, ["1", "2", "3"]), about
refused(exceptions.InvalidPath, kv.read_secret_version, "app/made", version=9, raise_on_deleted_version=True)
refused(exceptions.InvalidPath, kv.read_secret_version, "app/none", raise_on_deleted_version=False)
refused(exceptions.InvalidPath, kv.list_secrets, "app/none")
refused(exceptions.InvalidRequest, kv.create_or_update_secret, "app/Upper", {})
refused(exceptions.InvalidRequest, kv.create_or_update_secret, "app/made", [1])

denied = refused(exceptions.Forbidden, kv.read_secret_version, "closed/one", raise_on_deleted_version=True)
assert "permission denied" in denied, denied
refused(exceptions.Forbidden, kv.create_or_update_secret, "closed/one", {"n": 1})
refused(exceptions.Forbidden, kv.delete_latest_version_of_secret, "app/made")
refused(exceptions.UnexpectedError, kv.create_or_update_secret, "external/vault/app/db", {"n": 1})
elsewhere = hvac.Client(url=url, token=client.token, namespace="tnt_other")
refused(exceptions.Forbidden, elsewhere.secrets.kv.v2.read_secret_version, "app/made", raise_on_deleted_version=True)

token = client.token
client.logout(revoke_token=True)
ended = hvac.Client(url=url, token=token)
assert not ended.is_authenticated()
refused(exceptions.Forbidden, ended.secrets.kv.v2.read_secret_version, "app/made", raise_on_deleted_version=True)
print(json.dumps({"read": len(expected)}))
