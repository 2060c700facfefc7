"""Change Data Capture in the local Salesforce: a stream over gRPC, Avro with bitmaps."""

import io
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import fastavro
import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio

from sandbox.salesforce.messages import CUSTOM, EARLIEST, LATEST, messages
from tests.sandbox.conftest import QUICK, running, signed_in
from tests.sandbox.test_salesforce_records import make

PERSON = "/_sandbox/as-person/salesforce"
DATA = f"{PERSON}/services/data/v66.0"


@dataclass
class Listener:
    """A subscriber as the vendor's example is one: it decodes bitmaps from the right."""

    channel: Any
    metadata: tuple[tuple[str, str], ...]
    schemas: dict[str, Any] = field(default_factory=dict)

    def call(self, name: str, request: str, answer: str, **fields: Any) -> Any:
        ask = self.channel.unary_unary(
            f"/eventbus.v1.PubSub/{name}",
            request_serializer=messages[request].SerializeToString,
            response_deserializer=messages[answer].FromString,
        )
        return ask(messages[request](**fields), metadata=self.metadata)

    def subscribe(self) -> Any:
        ask = self.channel.stream_stream(
            "/eventbus.v1.PubSub/Subscribe",
            request_serializer=messages["FetchRequest"].SerializeToString,
            response_deserializer=messages["FetchResponse"].FromString,
        )
        return ask(metadata=self.metadata)

    async def begin(self, topic: str, *, most: int = 100, **position: Any) -> Any:
        stream = self.subscribe()
        fetch = messages["FetchRequest"](topic_name=topic, num_requested=most, **position)
        await stream.write(fetch)
        return stream

    async def read(self, event: Any) -> dict[str, Any]:
        """An event with its bitmaps replaced by names."""
        id = event.event.schema_id
        if id not in self.schemas:
            found = await self.call("GetSchema", "SchemaRequest", "SchemaInfo", schema_id=id)
            self.schemas[id] = json.loads(found.schema_json)
        schema = self.schemas[id]
        body = io.BytesIO(event.event.payload)
        record: Any = fastavro.schemaless_reader(body, fastavro.parse_schema(schema), None)
        header = record["ChangeEventHeader"]
        for name in ("changedFields", "nulledFields"):
            header[name] = [path for text in header[name] for path in decoded(schema, text)]
        return dict(record)


def decoded(schema: dict[str, Any], text: str) -> list[str]:
    position, _, bits = text.rpartition("-")
    fields, above = schema["fields"], ""
    if position:
        outer = fields[int(position)]
        above = f"{outer['name']}."
        (record,) = [kind for kind in outer["type"] if isinstance(kind, dict)]
        fields = record["fields"]
    number = int(bits, 16)
    return [above + each["name"] for at, each in enumerate(fields) if number >> at & 1]


@dataclass
class Place:
    listener: Listener
    api: httpx.AsyncClient
    control: httpx.AsyncClient

    async def person(self, method: str, path: str, **body: Any) -> Any:
        answer = await self.control.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest_asyncio.fixture(scope="module")
async def server() -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with running(*QUICK, "--salesforce-pubsub-port", str(port)) as url:
        yield url, port


@pytest_asyncio.fixture
async def place(server: tuple[str, int]) -> AsyncIterator[Place]:
    url, port = server
    async with (
        httpx.AsyncClient(base_url=url) as control,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        await control.post("/_sandbox/reset")
        async with signed_in(f"{url}/salesforce") as api:
            token = api.headers["authorization"].removeprefix("Bearer ")
            about = (await api.get("/query", params={"q": "SELECT Id FROM Organization"})).json()
            metadata = (
                ("accesstoken", token),
                ("instanceurl", f"{url}/salesforce"),
                ("tenantid", about["records"][0]["Id"]),
            )
            yield Place(Listener(channel, metadata), api, control)


async def test_topics_and_schemas_are_told(place: Place):
    topic = "/data/AccountChangeEvent"
    info = await place.listener.call("GetTopic", "TopicRequest", "TopicInfo", topic_name=topic)
    assert (info.topic_name, info.can_subscribe, info.can_publish) == (topic, True, False)
    found = await place.listener.call(
        "GetSchema", "SchemaRequest", "SchemaInfo", schema_id=info.schema_id
    )
    schema = json.loads(found.schema_json)
    assert schema["name"] == "AccountChangeEvent"
    assert schema["fields"][0]["name"] == "ChangeEventHeader"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await place.listener.call(
            "GetTopic", "TopicRequest", "TopicInfo", topic_name="/data/NothingChangeEvent"
        )
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_changes_are_told_with_what_changed(place: Place):
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=EARLIEST)
    client = {"sforce-call-options": "client=syncline"}
    fields = {"LastName": "L", "Email": "l@acme.example", "MailingCity": "Oslo", "DoNotCall": True}
    made = await place.api.post("/sobjects/Contact", json=fields, headers=client)
    id = made.json()["id"]
    changes = {
        "FirstName": "Ada",
        "Email": None,
        "MailingCity": "Bergen",
        "Birthdate": "1990-05-01",
    }
    await place.person("PATCH", f"{DATA}/sobjects/Contact/{id}", **changes)
    await place.person("DELETE", f"{DATA}/sobjects/Contact/{id}")
    events: list[dict[str, Any]] = []
    while len(events) < 3:
        response = await stream.read()
        events += [await place.listener.read(event) for event in response.events]
    create, update, delete = events
    head = create["ChangeEventHeader"]
    assert (head["changeType"], head["recordIds"], head["entityName"]) == (
        "CREATE",
        [id],
        "Contact",
    )
    assert head["changeOrigin"] == "com/salesforce/api/rest/66.0;client=syncline"
    assert create["Name"]["LastName"] == "L"
    assert create["MailingAddress"]["City"] == "Oslo"
    assert create["DoNotCall"] is True
    assert head["changedFields"] == []
    head = update["ChangeEventHeader"]
    assert (head["changeType"], head["changeOrigin"]) == ("UPDATE", "")
    assert set(head["changedFields"]) == {
        "Email",
        "Birthdate",
        "LastModifiedDate",
        "Name.FirstName",
        "MailingAddress.City",
    }
    assert head["nulledFields"] == ["Email"]
    assert update["Name"] == {"Salutation": None, "FirstName": "Ada", "LastName": None}
    assert (update["Email"], update["DoNotCall"]) == (None, None)
    assert update["Birthdate"] == 641_520_000_000
    assert delete["ChangeEventHeader"]["changeType"] == "DELETE"
    assert all(value is None for name, value in delete.items() if name != "ChangeEventHeader")
    numbers = [event["ChangeEventHeader"]["commitNumber"] for event in events]
    assert numbers == sorted(set(numbers))


async def test_a_stream_goes_on_where_it_was_left(place: Place):
    for name in ("A", "B", "C"):
        await make(place.api, "Account", Name=name)
    topic = "/data/AccountChangeEvent"
    stream = await place.listener.begin(topic, replay_preset=EARLIEST, most=2)
    first = await stream.read()
    names = [(await place.listener.read(event))["Name"] for event in first.events]
    assert (names, first.pending_num_requested) == (["A", "B"], 0)
    await stream.write(messages["FetchRequest"](topic_name=topic, num_requested=5))
    second = await stream.read()
    assert [(await place.listener.read(e))["Name"] for e in second.events] == ["C"]
    assert second.pending_num_requested == 4
    stream.cancel()
    replay = first.events[0].replay_id
    again = await place.listener.begin(topic, replay_preset=CUSTOM, replay_id=replay)
    rest = await again.read()
    assert [(await place.listener.read(e))["Name"] for e in rest.events] == ["B", "C"]
    assert rest.latest_replay_id == rest.events[-1].replay_id


async def test_who_asks_for_too_much_gets_a_hundred(place: Place):
    rows = [{"attributes": {"type": "Account"}, "Name": f"A{n}"} for n in range(150)]
    await place.api.post("/composite/sobjects", json={"records": rows})
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=EARLIEST, most=500)
    assert len((await stream.read()).events) == 100


async def test_the_same_change_of_several_records_is_one_event(place: Place):
    ids = [await make(place.api, "Account", Name=name) for name in ("A", "B")]
    rows = [{"attributes": {"type": "Account"}, "id": id, "Phone": "1"} for id in ids]
    await place.api.patch("/composite/sobjects", json={"records": rows})
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=EARLIEST)
    last = await place.listener.read((await stream.read()).events[-1])
    assert last["ChangeEventHeader"]["recordIds"] == ids


async def test_a_silent_stream_says_that_it_lives(place: Place):
    await place.person("POST", "/_sandbox/options", salesforce={"keep_alive": 0.1})
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=LATEST)
    response = await stream.read()
    assert (len(response.events), len(response.latest_replay_id)) == (0, 10)


async def test_gaps_and_overflows_are_told(place: Place):
    id = await make(place.api, "Account", Name="A")
    await place.person("POST", f"{PERSON}/gap-events", ids=[id])
    await place.person("POST", f"{PERSON}/overflow-event", object="Account")
    await place.person("POST", "/_sandbox/options", salesforce={"gap_events": 1})
    await make(place.api, "Account", Name="B")
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=EARLIEST)
    heads = [
        (await place.listener.read(event))["ChangeEventHeader"]
        for event in (await stream.read()).events
    ]
    assert [head["changeType"] for head in heads] == [
        "CREATE",
        "GAP_UPDATE",
        "GAP_OVERFLOW",
        "GAP_CREATE",
    ]
    assert heads[1]["recordIds"] == [id]
    assert heads[2]["recordIds"] == ["001*"]


@pytest.mark.parametrize(
    ("replay", "code"),
    [
        (b"\0", "sfdc.platform.eventbus.grpc.subscription.fetch.replayid.corrupted"),
        (b"\0" * 10, "sfdc.platform.eventbus.grpc.subscription.fetch.replayid.validation.failed"),
    ],
)
async def test_a_position_that_is_gone_is_refused(place: Place, replay: bytes, code: str):
    await make(place.api, "Account", Name="A")
    await place.person("POST", f"{PERSON}/forget-events")
    stream = await place.listener.begin(
        "/data/ChangeEvents", replay_preset=CUSTOM, replay_id=replay
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ("error-code", code) in [tuple(pair) for pair in refused.value.trailing_metadata() or ()]


async def test_without_a_session_nobody_listens(place: Place):
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=LATEST)
    await place.person("POST", f"{PERSON}/expire-sessions")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_outage_ends_the_streams(place: Place):
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=LATEST)
    await place.person("POST", "/_sandbox/faults", vendor="salesforce", fault="outage")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await place.control.delete("/_sandbox/faults")


async def test_a_fault_of_one_call_is_left_for_it(place: Place):
    fault = {"vendor": "salesforce", "fault": "status", "times": 1}
    await place.person("POST", "/_sandbox/faults", **fault)
    await place.person("POST", "/_sandbox/options", salesforce={"keep_alive": 0.1})
    stream = await place.listener.begin("/data/ChangeEvents", replay_preset=LATEST)
    assert not (await stream.read()).events
    assert (await place.api.get("/limits")).status_code == 500
