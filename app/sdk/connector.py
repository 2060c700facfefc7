"""The few verbs that make a connector."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from pydantic import SecretStr

from app.domain.manifest import Manifest
from app.domain.values import (
    NOTHING,
    Delivery,
    Directory,
    Edit,
    Event,
    Finding,
    Heard,
    Key,
    Load,
    Observation,
    Outcome,
    Page,
    Ref,
    RemoteField,
    RemoteObject,
    Subscription,
    Trail,
    Write,
)
from app.errors import ConfigError, RejectedError
from app.sdk import signature
from app.sdk.absences import NO_SUCH_CALL
from app.sdk.client import Client, Dialect, TokenSource, Wire
from app.sdk.oauth import TokenStore


@dataclass(frozen=True, slots=True)
class Account:
    """One signed-in tenancy of a connector, as its connector sees it.

    ``connector`` is the name of its system. ``base_url`` has no trailing slash; empty means
    the manifest's own. ``options`` are the account's further settings (``portal_id``,
    ``legacy_signatures`` …). ``tolerance`` is in seconds; None means the manifest's own.
    """

    name: str
    connector: str
    base_url: str
    credentials: Mapping[str, SecretStr]
    external_id: str | None = None
    tolerance: int | None = None
    options: Mapping[str, object] = field(default_factory=lambda: NOTHING)
    #: Names that may lead into a private network.
    private_hosts: tuple[str, ...] = ()
    #: The entities of its operator's own.
    objects: Mapping[str, RemoteObject] = field(default_factory=lambda: NOTHING)


class Connector:
    """The code that speaks one system. One object serves one account.

    Subclasses set ``manifest`` (loaded by the registry from their folder's manifest.yaml) and
    write the verbs. ``parse`` is pure; the others use ``self.client`` and raise the errors of
    `app.errors`.
    """

    #: Of an object, with the entities of its account's own in it.
    manifest: Manifest
    #: How this vendor words refusals and limits.
    dialect: ClassVar[Dialect] = Dialect()
    #: What a delivery with its token in the path is answered: media type and text.
    receipt: ClassVar[tuple[str, str]] = ("application/json", '{"status":"ok"}')

    def __init__(
        self,
        account: Account,
        client: Client,
        properties: Mapping[str, Sequence[str]] = NOTHING,
    ) -> None:
        """``properties`` are the remote fields that the mapping reads, by remote type, for
        vendors that send only what is asked for.
        """
        self.account = account
        self.client = client
        self.properties = properties
        self.manifest = type(self).manifest.with_objects(account.objects)

    @classmethod
    def home(cls, account: Account) -> str:
        """Where the first call of an account goes."""
        return account.base_url or cls.manifest.base_url

    @classmethod
    def sign_in(cls, account: Account, wire: Wire, store: TokenStore | None) -> TokenSource:
        """Where the credential of each call comes from. Raises ConfigError."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def ref(self, entity: str, remote_id: str) -> Ref:
        """The name of a remote record of this account."""
        return Ref(self.account.name, self.manifest.entities[entity].type, remote_id)

    @classmethod
    def verify(
        cls,
        delivery: Delivery,
        account: Account,
        secrets: Sequence[SecretStr],
        *,
        public_url: str,
        now: datetime,
    ) -> None:
        """Pass if one scheme of the manifest and one secret fit the raw bytes.

        What has a token in its path is not signed: then the token decides. Raises
        BadSignatureError with a reason for the log; never says which secret was tried.
        """
        if token := signature.path_token(delivery.target):
            signature.verify_path(token, secrets)
            return
        signature.verify(
            cls.manifest.signature,
            delivery,
            secrets,
            public_url=public_url,
            tolerance=cls.manifest.webhook.tolerance
            if account.tolerance is None
            else account.tolerance,
            now=now,
        )

    @classmethod
    def parse(cls, delivery: Delivery, account: Account) -> list[Event]:
        """The events of a delivery, in its order. Raises BadPayloadError."""
        raise NotImplementedError

    async def greet(self) -> None:
        """See that the credential signs us in, by one cheap call. Raises AccountError if not."""
        accept = (403, *NO_SUCH_CALL)
        await self.client.call("GET", self.manifest.whoami, accept=accept, repeats=False)

    async def check(self) -> list[Finding]:
        """What works and what is missing, in words; never raises for the vendor's refusals."""
        raise NotImplementedError

    async def prepare(self) -> list[Finding]:
        """Create what we need in the CRM (a unique id property); a person asked for it."""
        return []

    async def fields(self, entity: str) -> Mapping[str, RemoteField] | None:
        """The fields that this entity has there, by path; None where the vendor does not tell."""
        return None

    async def create_option(self, entity: str, path: str, value: str) -> None:
        """Add an option to a picklist. Raises RejectedError with a remedy where that cannot be."""
        raise RejectedError(
            f"{self.manifest.title} has no call to add an option: add it there", field=path
        )

    async def labels(self, entity: str) -> Mapping[str, Sequence[str]]:
        """The labels that the links of this entity can carry, by relation."""
        return {}

    async def create_label(self, entity: str, relation: str, word: str) -> None:
        """Add a label for such links. Raises RejectedError with a remedy where that cannot be."""
        raise RejectedError(f"{self.manifest.title} has no call to add a label: add it there")

    async def directory(self) -> Directory:
        """Pipelines, stages and owners as they are now."""
        raise NotImplementedError

    async def read(self, refs: Sequence[Ref]) -> list[Observation]:
        """The present state of each ref, one answer per ref, in any order.

        All refs are of one type. A record that a second source confirms deleted is
        ``gone``; one that is merely not shown has ``raw=None`` and ``gone=False``. After a
        remote merge ``ref`` is the survivor and ``asked`` the ref that was asked for.
        """
        raise NotImplementedError

    async def read_fields(self, refs: Sequence[Ref]) -> list[Observation]:
        """As `read`, but relations may be left out where to tell them costs calls of its own."""
        return await self.read(refs)

    async def edits(
        self, refs: Sequence[Ref], paths: Collection[str]
    ) -> dict[Ref, dict[str, tuple[Edit, ...]]]:
        """What values these remote fields were given, and when, newest first.

        All refs are of one type. Asked only where the time of an edit decides something. A ref
        without a history is not in the answer; a path that is not there was not edited for as
        long as the vendor remembers. The default remembers nothing.
        """
        return {}

    async def find(self, entity: str, keys: Sequence[Key]) -> dict[Key, list[Observation]]:
        """Remote records that carry these identity keys, compared exactly.

        Every asked key is in the answer, with an empty list when nothing matched. A look-up
        that fails raises; it never means "not found".
        """
        raise NotImplementedError

    async def probe(self, write: Write, since: datetime) -> list[Observation]:
        """Records that a create whose answer was lost may have made since then.

        Only asked for entities without an identity key; the default knows of none.
        """
        return []

    async def recall(
        self, entity: str, since: datetime, departed: Sequence[Ref]
    ) -> list[Observation]:
        """What records that were made and deleted since then last showed, as far as it is kept.

        Asked where the answer of a create was lost and nothing is found. ``departed`` are refs
        unknown to us of which an event told that they were deleted; one that was made before that
        time is named without ``raw``, one of which nothing is kept is left out.
        """
        return []

    async def last_shown(self, ref: Ref) -> Observation | None:
        """What a record last showed that was merged away, its relations left out; None where the
        vendor keeps nothing of it.
        """
        return None

    async def scan(self, entity: str, cursor: str | None, since: datetime | None) -> Page:
        """One page of all records of an entity, oldest first; resumable by its cursor."""
        raise NotImplementedError

    async def catch_up(
        self, entity: str, cursor: str | None, since: datetime, *, deep: bool
    ) -> Trail:
        """One page of what happened since, from the vendor's own log or by time of change.

        It goes back further than asked by as much as the vendor's log may lag. ``deep`` looks
        also where it costs much, such as through all that was ever deleted. The default knows of
        no log: a scan of what changed takes its place.
        """
        return Trail(gap=f"{self.manifest.title} has no log that can be read")

    def may_listen(self) -> None:
        """Pass if `listen` can be asked. Raises ConfigError that says what is missing."""
        raise ConfigError(f"{self.manifest.title} has no event bus; take `push` away")

    def listen(self, position: str | None) -> AsyncGenerator[Heard, None]:
        """What the account's event bus tells from there on, for as long as it is asked.

        Without a position, from now on. The next is asked for once the one before is stored; all
        that a position names is told again to whoever comes back with it. Ends only by an error.
        """
        raise NotImplementedError

    async def write(self, batch: Sequence[Write]) -> list[Outcome]:
        """Carry these changes out; one outcome per write, a bad row fails alone.

        All writes are of one entity and one op, at most ``manifest.write_batch``. Raises only
        for what concerns the whole account (AccountError, RateLimitedError, TransientError
        before anything was sent).
        """
        raise NotImplementedError

    async def open_load(self, batch: Sequence[Write]) -> Load | None:
        """Have a file of creates announced, with those of the batch that can go in one; None where
        they cannot. Nothing is sent yet: the id is kept first.

        All writes are creates of one entity, at most ``manifest.load_batch``; asked only of an
        account that keeps our ids (``external_id``). A file that is announced and never sent does
        no harm. Raises what concerns the whole account.
        """
        return None

    async def send_load(self, load: Load) -> None:
        """Send the file, once, and have it worked through.

        Where it is not known whether that was done, `read_load` finds out.
        """
        raise NotImplementedError

    async def read_load(self, id: str, batch: Sequence[Write]) -> list[Outcome] | None:
        """What became of these creates of a load; None while it is worked through.

        A create that is not in the answer was never tried, nor will it be: what was announced and
        not sent is called off here.
        """
        raise NotImplementedError

    async def merge(self, survivor: Ref, loser: Ref) -> Ref:
        """Make two records of one type one, for good; the ref that lives on, perhaps a new one.

        Asked only where the manifest promises ``merge``. A person or the configuration said so.
        """
        raise NotImplementedError

    def wanted_events(self) -> list[str]:
        """The events of everything that travels; of everything at all unless told."""
        return [
            event
            for event, entity in sorted(self.manifest.webhook.events.items())
            if not self.properties or self.manifest.entities[entity].type in self.properties
        ]

    async def subscriptions(self) -> list[Subscription]:
        """Our webhook subscriptions as the vendor has them."""
        return []

    async def subscribe(self, url: str) -> tuple[Subscription, SecretStr | None]:
        """Create or repair the subscription for this URL; the signing key where it is new.

        Raises RejectedError with instructions where the vendor has no API for it.
        """
        raise NotImplementedError

    async def unsubscribe(self, subscription_id: str) -> None:
        """Remove a subscription."""
        raise NotImplementedError
