"""Microsoft's own client against our imitation of a Key Vault.

Arguments: base URL, certificate authority (PEM file), tenant, client id, client secret.
"""

import json
import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import SecretClient

url, authority, tenant, client_id, client_secret = sys.argv[1:]


def client(secret):
    credential = ClientSecretCredential(
        tenant, client_id, secret, authority=url, disable_instance_discovery=True, connection_verify=authority
    )
    return SecretClient(
        url, credential, verify_challenge_resource=False, connection_verify=authority, retry_total=0
    )


vault = client(client_secret)
first = vault.set_secret("judge", "one")
second = vault.set_secret("judge", "two")
assert first.properties.version != second.properties.version
assert vault.get_secret("judge").value == "two"
assert vault.get_secret("judge", first.properties.version).value == "one"
assert vault.get_secret("JUDGE").name.lower() == "judge"
assert len(list(vault.list_properties_of_secret_versions("judge"))) == 2

names = [found.name for found in vault.list_properties_of_secrets()]
assert len(names) == len(set(names))
pages = [len(list(page)) for page in vault.list_properties_of_secrets().by_page()]
assert max(pages) <= 25

try:
    vault.get_secret("none")
    raise SystemExit("a missing secret was found")
except ResourceNotFoundError as error:
    assert error.error.code == "SecretNotFound", error

try:
    vault.get_secret("disabled")
    raise SystemExit("a disabled secret was found")
except HttpResponseError as error:
    assert error.status_code == 403 and error.error.code == "Forbidden", error

try:
    client("wrong").get_secret("judge")
    raise SystemExit("a wrong secret logs in")
except ClientAuthenticationError as error:
    assert "7000215" in str(error), error

print(json.dumps({"names": len(names), "pages": pages}))
