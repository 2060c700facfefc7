"""What a connector promises, as data (`manifest.yaml`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.domain.values import RemoteObject
from app.errors import ConfigError, UnsupportedEventError

Verb = Literal["create", "update", "delete", "merge"]


def _seconds(text: object) -> object:
    """`1s`, `10s` or `500ms` as seconds."""
    if isinstance(text, str) and (found := re.fullmatch(r"(\d+)(ms|s)", text)):
        return int(found[1]) / (1000 if found[2] == "ms" else 1)
    return text


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EntityPromise(_Frozen):
    """One entity of the system: the vendor's own word for it and what we may do to it."""

    type: str
    write: tuple[Verb, ...] = ()
    keys: tuple[str, ...] = ()  # identity keys that `find` can look up
    unique: tuple[str, ...] = ()  # keys that the vendor itself never gives to two records
    #: Seconds a create waits for news of the same record, where no look-up can be certain.
    patience: Annotated[float, BeforeValidator(_seconds)] = 0
    cascades: tuple[str, ...] = ()  # entities whose records a delete takes along
    parents: tuple[str, ...] = ()  # relations without which a create is refused or invents one
    #: Relations that it can hold, all of the entity's unless named; never behind in the others.
    relations: frozenset[str] | None = None
    fixed: frozenset[str] = frozenset()  # relations that stay as they were created
    #: Paths that a write may have to clear before it sets them, where this option of the account
    #: says `clear`: whoever dies in between leaves them blank.
    clears_first: Mapping[str, str] = {}


class ObjectPromise(_Frozen):
    """What we may do to objects that the operator has made there, whatever they are called.

    ``events`` are the types of the events that tell of one, with `{type}` for its type.
    """

    write: tuple[Verb, ...] = ()
    keys: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    relations: frozenset[str] = frozenset()
    events: tuple[str, ...] = ()


class WebhookPromise(_Frozen):
    """How the system calls us. ``events`` map an event type to the entity to look at."""

    snapshot: Literal["full", "thin"]
    events: Mapping[str, str]
    ignores: frozenset[str] = frozenset()
    tolerance: int  # seconds a signed timestamp stays acceptable
    #: Whether it also sends what nothing signs, to a URL with a token in its path.
    in_path: bool = False


class Limit(_Frozen):
    """``calls`` in any rolling window of ``per`` seconds."""

    calls: int
    per: Annotated[float, BeforeValidator(_seconds)]


class Manifest(_Frozen):
    """The promise of one connector; the exam in tests/connectors holds it to every line."""

    name: str
    title: str
    docs: str
    base_url: str
    entities: Mapping[str, EntityPromise]
    #: What an account's own objects may be; None where there are none.
    objects: ObjectPromise | None = None
    signature: tuple[str, ...]
    webhook: WebhookPromise
    limits: Mapping[str, Limit] = Field(default_factory=dict)
    errors: Mapping[int, Literal["transient", "stale", "rejected", "account"]] = Field(
        default_factory=dict
    )
    #: Whether it answers with numbers and yes or no as such, or with text for everything.
    values: Literal["json", "text"] = "json"
    read_batch: int = 1
    write_batch: int = 1
    load_batch: int = 0  # creates that one file takes; 0: the system takes none
    #: A cheap call that every credential which works may make; what it answers with 403 or 404
    #: is signed in all the same.
    whoami: str
    #: Alternatives of credential names, each a complete way to sign in.
    credentials: tuple[tuple[str, ...], ...]
    #: What some ways to sign in use as well, or calls that are no data's.
    more_credentials: tuple[str, ...] = ()
    #: The settings of an account that mean something here, and not everywhere.
    options: tuple[str, ...] = ()

    @property
    def credential_names(self) -> frozenset[str]:
        """Every credential that an account of this system may have."""
        return frozenset(self.more_credentials).union(*self.credentials)

    def entity_of(self, remote_type: str) -> str | None:
        """The entity that this vendor word stands for."""
        return next((e for e, p in self.entities.items() if p.type == remote_type), None)

    def with_objects(self, objects: Mapping[str, RemoteObject]) -> Manifest:
        """What is promised to an account with these entities of its operator's own.

        Raises ConfigError for what the system cannot have.
        """
        if not objects:
            return self
        if self.objects is None:
            raise ConfigError(f"entities of your own are not there yet for {self.title}")
        entities, events = dict(self.entities), dict(self.webhook.events)
        for entity, object in objects.items():
            taken = next((e for e, p in entities.items() if p.type == object.type), None)
            if taken is not None:
                raise ConfigError(f"{entity}: {object.type} is the {taken} of {self.title} already")
            if lost := sorted(object.lookups.keys() - self.objects.relations):
                raise ConfigError(f"{entity}: {self.title} cannot say its {lost[0]}")
            own = self.objects.model_dump(include={"write", "keys", "unique"})
            entities[entity] = EntityPromise(
                type=object.type, relations=frozenset(object.lookups), **own
            )
            events |= {name.format(type=object.type): entity for name in self.objects.events}
        webhook = self.webhook.model_copy(update={"events": events})
        return self.model_copy(update={"entities": entities, "webhook": webhook})

    def may_send(self, event_type: str) -> bool:
        """Whether the system sends such events, if perhaps of an object of somebody's own."""
        known = {*self.webhook.events, *self.webhook.ignores}
        own = self.objects.events if self.objects else ()
        endings = [name.removeprefix("{type}") for name in own]
        return event_type in known or event_type.endswith(tuple(endings))

    def route(self, event_type: str) -> str | None:
        """The entity to look at; None if the event is knowingly ignored.

        Raises UnsupportedEventError for an event that the manifest does not name.
        """
        if event_type in self.webhook.ignores:
            return None
        try:
            return self.webhook.events[event_type]
        except KeyError:
            raise UnsupportedEventError(
                f"{self.name} sends {event_type!r}, which no handler knows"
            ) from None
