"""One HubSpot account: its records, links, properties, pipelines and owners."""

from copy import deepcopy
from datetime import datetime

from sandbox.hubspot.defaults import OWNERS, owner, pipelines
from sandbox.hubspot.derived import derived
from sandbox.hubspot.options import HubSpotOptions
from sandbox.hubspot.properties import group_of, properties
from sandbox.hubspot.schema import TYPES, ObjectType
from sandbox.records import Record, Store
from sandbox.wire import Actor, Call, Json

# Ids are unique per object type only, so all types start at the same number.
FIRST_ID = 101


def iso(at: datetime) -> str:
    """A time as HubSpot answers it: `2026-01-01T00:00:00.000Z`."""
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


class Portal:
    """The state of one account.

    `merged` maps ids that were merged away to survivors; `blocked` are e-mail addresses that no
    contact may have.
    """

    def __init__(self, id: int, options: HubSpotOptions) -> None:
        self.id = id
        self.options = options
        self.store = Store()
        self.properties = {type.name: properties(type) for type in TYPES.values()}
        self.groups = {
            type.name: [
                group_of(f"{type.name}information", f"{type.name.capitalize()} information", 0)
            ]
            for type in TYPES.values()
        }
        self.pipelines = pipelines()
        self.owners = deepcopy(OWNERS)
        self.labels: list[Json] = []
        self.links: dict[str, dict[str, list[int]]] = {}
        self.limits: dict[str, int] = {}
        self.merged: dict[str, str] = {}
        self.blocked: list[str] = []
        self.next_ids: dict[str, int] = {}
        self.unique: dict[tuple[str, str], dict[str, str]] = {}

    def next_id(self, type: str) -> str:
        number = self.next_ids.get(type, FIRST_ID)
        self.next_ids[type] = number + 1
        return str(number)

    # -- reading --

    def value(self, type: ObjectType, record: Record, name: str) -> str | None:
        """A property's value, the derived ones included."""
        if name == "hs_object_id":
            return record.id
        if name == type.created:
            return iso(record.created)
        if name == type.modified:
            return iso(record.updated)
        value: str | None = record.fields.get(name)
        return value

    def get(self, type: ObjectType, id: str) -> Record | None:
        """A live record by its own id or one that was merged into it."""
        while alias := self.merged.get(f"{type.name}:{id}"):
            id = alias
        return self.store.get(type.name, id)

    def by_unique(self, type: ObjectType, name: str, value: str) -> Record | None:
        """The live record that has this value of a unique property."""
        id = self.unique.get((type.name, name), {}).get(value.strip().lower())
        return self.store.get(type.name, id) if id else None

    def is_unique(self, type: ObjectType, name: str) -> bool:
        definition = self.properties[type.name].get(name)
        return bool(definition and definition["hasUniqueValue"])

    def stage(self, type: str, stage_id: str | None) -> tuple[Json, Json] | None:
        """The pipeline and stage of a stage id."""
        for pipeline in self.pipelines.get(type, ()):
            for stage in pipeline["stages"]:
                if stage["id"] == stage_id:
                    return pipeline, stage
        return None

    # -- writing --

    def create(self, type: ObjectType, values: Json, call: Call) -> Record:
        record = self.store.create(
            type.name, self.next_id(type.name), values, at=call.at, by=call.actor
        )
        origin = {
            "hs_object_source": call.actor.source,
            "hs_object_source_id": call.actor.source_id,
        }
        self.derive(record, origin, call.at, call.actor)
        self.index(record)
        return record

    def update(self, record: Record, values: Json, call: Call) -> Json:
        """Write what differs; return the properties that did, with their former values."""
        self.unindex(record)
        before = self.store.update(record, values, at=call.at, by=call.actor)
        self.derive(record, {}, call.at, call.actor)
        self.index(record)
        return before

    def derive(self, record: Record, more: Json, at: datetime, by: Actor) -> None:
        """Fill the properties that HubSpot works out itself."""
        values = {**more, **derived(self, record)}
        self.store.note(record, values, at=at, by=by)

    def index(self, record: Record) -> None:
        for key, value in self._unique_values(record):
            self.unique.setdefault(key, {})[value] = record.id

    def unindex(self, record: Record) -> None:
        for key, value in self._unique_values(record):
            if self.unique.get(key, {}).get(value) == record.id:
                del self.unique[key][value]

    def _unique_values(self, record: Record) -> list[tuple[tuple[str, str], str]]:
        definitions = self.properties[record.type]
        found = [
            ((record.type, name), value.lower())
            for name, value in record.fields.items()
            if name in definitions and definitions[name]["hasUniqueValue"]
        ]
        # Secondary e-mail addresses identify a contact as well as the first.
        if record.type == "contact" and (more := record.get("hs_additional_emails")):
            found += [(("contact", "email"), email.lower()) for email in more.split(";")]
        return found

    def unlink(self, record: Record) -> None:
        """Forget every link of a record, without a word."""
        own = f"{record.type}:{record.id}"
        for other in self.links.pop(own, {}):
            self.links.get(other, {}).pop(own, None)

    def staff(self, person: Json, *, active: bool) -> Json:
        """Add or change the owner with an e-mail address."""
        known = next((o for o in self.owners if o["email"] == person["email"]), None)
        if known is None:
            number = max(o["userIdIncludingInactive"] for o in self.owners) + 1
            id = str(max(int(o["id"]) for o in self.owners) + 1)
            known = owner(id, person["email"], "", "", number, False)
            # New people come first: the last active one is who edits as a person.
            self.owners.insert(0, known)
        known["archived"] = not active
        known["userId"] = known["userIdIncludingInactive"] if active else None
        for key, name in (("first_name", "firstName"), ("last_name", "lastName")):
            known[name] = person.get(key, known[name])
        return known

    # -- keeping --

    def dump(self) -> Json:
        return {"store": self.store.dump(), **{name: getattr(self, name) for name in _KEPT}}

    def load(self, kept: Json) -> None:
        self.store.load(kept["store"])
        for name in _KEPT:
            setattr(self, name, kept.get(name, getattr(self, name)))
        self.unique = {}
        for type in TYPES:
            for record in self.store.live(type):
                self.index(record)


_KEPT = (
    "properties",
    "groups",
    "pipelines",
    "owners",
    "labels",
    "links",
    "limits",
    "merged",
    "blocked",
    "next_ids",
)
