"""Outbound Messages of the local Salesforce: SOAP, sent again until acknowledged."""

import asyncio
from typing import Any

import httpx
import pytest
import pytest_asyncio
from lxml import etree

from sandbox.salesforce.defaults import ORGANIZATION
from tests.sandbox.conftest import QUICK, Hook, Receiver, running

DATA = "/_sandbox/as-person/salesforce/services/data/v66.0"
OUT = "{http://soap.sforce.com/2005/09/outbound}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
SF = "{urn:sobject.enterprise.soap.sforce.com}"
ACK = (
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>{}</Ack>'
    "</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)


class Acknowledging(Receiver):
    """Answers with an Ack, unless it is told to say something else first."""

    def reply(self) -> bytes:
        text = self.texts.pop(0) if self.texts else ACK.format("true")
        return text.encode()

    texts: list[str]


@pytest_asyncio.fixture(scope="module")
async def calling() -> Any:
    """A sandbox that sends its messages to a receiver."""
    receiver = Acknowledging()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with (
        running(*QUICK, "--salesforce-outbound", receiver.url) as url,
        httpx.AsyncClient(base_url=url) as control,
    ):
        yield control, receiver
    server.close()


@pytest_asyncio.fixture
async def told(calling: Any) -> Any:
    control, receiver = calling
    await control.post("/_sandbox/reset")
    while (await control.get("/_sandbox/counts")).json()["salesforce"]["pending"]:
        pass  # what was on its way
    receiver.hooks, receiver.texts = [], []
    return calling


def notifications(hook: Hook) -> list[Any]:
    return list(etree.fromstring(hook.body).iter(f"{OUT}Notification"))


async def test_a_message_carries_the_latest_values(told: Any):
    control, receiver = told
    await control.post("/_sandbox/webhooks", json={"vendor": "salesforce", "pause": True})
    body = {"LastName": "O'Neil & Söhne <x>", "DoNotCall": True}
    made = await control.post(f"{DATA}/sobjects/Contact", json=body)
    id = made.json()["id"]
    await control.patch(f"{DATA}/sobjects/Contact/{id}", json={"Title": "Boss"})
    await control.post(f"{DATA}/sobjects/Account", json={"Name": "Acme"})
    assert (await control.get("/_sandbox/counts")).json()["salesforce"]["pending"] == 3
    await control.post("/_sandbox/webhooks", json={"vendor": "salesforce", "resume": True})
    hooks = await receiver.until(lambda hooks: sum(map(len, map(notifications, hooks))) >= 3)
    rows = []
    for hook in hooks:
        assert hook.headers["content-type"].startswith("text/xml")
        root = etree.fromstring(hook.body)
        assert root.findtext(f".//{OUT}OrganizationId") == ORGANIZATION
        types = {row.find(f"{OUT}sObject").get(TYPE) for row in notifications(hook)}
        assert len(types) == 1  # an action is of one object
        rows += notifications(hook) if types == {"sf:Contact"} else []
    for row in rows:
        found = {child.tag.removeprefix(SF): child.text for child in row.find(f"{OUT}sObject")}
        assert (found["Id"], found["LastName"]) == (id, body["LastName"])
        assert (found["Title"], found["DoNotCall"]) == ("Boss", "true")
    assert len({row.findtext(f"{OUT}Id") for row in rows}) == 2


@pytest.mark.parametrize("answer", [ACK.format("false"), "OK", ""])
async def test_without_an_ack_it_comes_again_with_the_same_id(told: Any, answer: str):
    control, receiver = told
    receiver.texts = [answer]
    await control.post(f"{DATA}/sobjects/Account", json={"Name": "Acme"})
    hooks = await receiver.until(lambda hooks: len(hooks) >= 2)
    first, second = ([row.findtext(f"{OUT}Id") for row in notifications(h)] for h in hooks)
    assert first == second


async def test_deletions_are_not_told(told: Any):
    control, receiver = told
    made = await control.post(f"{DATA}/sobjects/Account", json={"Name": "Acme"})
    await receiver.until(lambda hooks: len(hooks) == 1)
    await control.delete(f"{DATA}/sobjects/Account/{made.json()['id']}")
    assert (await control.get("/_sandbox/counts")).json()["salesforce"]["pending"] == 0
