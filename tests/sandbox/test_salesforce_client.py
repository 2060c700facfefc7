"""The local Salesforce is good enough for simple-salesforce, the client most people use."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

from tests.sandbox.conftest import SALESFORCE


class Here(HTTPAdapter):
    """Salesforce lives at https://login.salesforce.com for this client; here it is a path."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> Any:
        parts = urlsplit(request.url or "")
        path = parts.path.removeprefix("/salesforce")
        request.url = f"{self.base}/salesforce{path}" + (f"?{parts.query}" if parts.query else "")
        return super().send(request, *args, **more)


def session(base: str) -> requests.Session:
    here = requests.Session()
    here.trust_env = False
    here.mount("https://", Here(base))
    return here


def signed_in(base: str, **more: Any) -> Any:
    named: dict[str, Any] = {"username": SALESFORCE.username, "consumer_key": SALESFORCE.client_id}
    return Salesforce(session=session(base), version="66.0", **named, **more)


@pytest.fixture
def client(base: str) -> Any:
    """Signed in by a JWT that it signed itself."""
    return signed_in(base, privatekey=SALESFORCE.key.read_text())


def test_it_signs_in_with_a_password_and_a_security_token(base: str):
    password = SALESFORCE.password + SALESFORCE.security_token
    client = signed_in(base, password=password, consumer_secret=SALESFORCE.client_secret)
    assert client.query("SELECT Name FROM Organization")["records"][0]["Name"] == "Sandbox"
    with pytest.raises(SalesforceAuthenticationFailed):
        signed_in(base, password="wrong", consumer_secret=SALESFORCE.client_secret)


def test_a_record_lives_its_life(client: Any):
    made = client.Account.create({"Name": "Acme", "Website": "https://acme.example"})
    assert made["success"]
    assert client.Account.update(made["id"], {"Phone": "+1 415 555 0100"}) == 204
    read = client.Account.get(made["id"])
    assert (read["Name"], read["Phone"]) == ("Acme", "+1 415 555 0100")
    assert client.Account.get_by_custom_id("Id", made["id"])["Name"] == "Acme"
    assert client.Account.delete(made["id"]) == 204
    with pytest.raises(SalesforceResourceNotFound):
        client.Account.get(made["id"])


def test_upserts_find_by_external_id(client: Any):
    path = "Syncline_Id__c/a%2F1"
    assert client.Contact.upsert(path, {"LastName": "Lovelace"}) == 201
    assert client.Contact.upsert(path, {"FirstName": "Ada"}) == 200
    found = client.query("SELECT Name FROM Contact WHERE Syncline_Id__c = 'a/1'")
    assert [row["Name"] for row in found["records"]] == ["Ada Lovelace"]


def test_long_answers_come_in_pages(client: Any):
    for start in range(0, 2100, 200):
        rows = [
            {"attributes": {"type": "Account"}, "Name": f"Account {n:04}"}
            for n in range(start, min(start + 200, 2100))
        ]
        made = client.restful("composite/sobjects", method="POST", json={"records": rows})
        assert all(row["success"] for row in made)
    text = "SELECT Id, Name FROM Account ORDER BY Name"
    first = client.query(text)
    assert (len(first["records"]), first["done"], first["totalSize"]) == (2000, False, 2100)
    # The address is relative to the instance, which is a path here.
    locator = first["nextRecordsUrl"].rpartition("/")[2]
    rest = client.query_more(locator)
    assert (len(rest["records"]), rest["done"]) == (100, True)
    assert rest["records"][-1]["Name"] == "Account 2099"


def test_describes_and_limits_are_read(client: Any):
    fields = {field["name"]: field for field in client.Contact.describe()["fields"]}
    assert fields["LastName"]["nillable"] is False
    assert fields["AccountId"]["referenceTo"] == ["Account"]
    assert fields["Syncline_Id__c"]["externalId"]
    assert "Opportunity" in {o["name"] for o in client.describe()["sobjects"]}
    client.limits()
    usage = client.api_usage["api-usage"]
    assert usage.used > 0
    assert usage.total > usage.used


def test_refusals_are_told(client: Any):
    with pytest.raises(SalesforceMalformedRequest, match="REQUIRED_FIELD_MISSING"):
        client.Contact.create({"FirstName": "Ada"})
    with pytest.raises(SalesforceMalformedRequest, match="INVALID_FIELD"):
        client.query("SELECT Emial FROM Contact")


async def test_a_session_that_ended_is_renewed(base: str, control):
    client = await asyncio.to_thread(signed_in, base, privatekey=SALESFORCE.key.read_text())
    bare: Any = Salesforce(
        session=session(base), session_id=client.session_id, instance_url=f"{base}/salesforce"
    )
    await control.post("/as-person/salesforce/expire-sessions", json={})
    with pytest.raises(SalesforceExpiredSession):
        await asyncio.to_thread(bare.limits)
    assert await asyncio.to_thread(client.limits)  # it can sign in again by itself
