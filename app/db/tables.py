"""The tables; the only description of the schema (alembic compares against it).

Those with ``postgresql_partition_by`` are cut by time; their parts are made in db/partitions.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSON, JSONB, UUID

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_now = sa.text("now()")


def _at(name: str, *, default: bool = False, null: bool = False) -> sa.Column[object]:
    """A point in time; the database's clock fills it where asked."""
    return sa.Column(
        name,
        sa.TIMESTAMP(timezone=True),
        nullable=null,
        server_default=_now if default else None,
    )


def _state(*allowed: str) -> list[sa.schema.SchemaItem]:
    """A state column that holds nothing but these words, the first by default."""
    words = ", ".join(f"'{word}'" for word in allowed)
    return [
        sa.Column("state", sa.Text, nullable=False, server_default=allowed[0]),
        sa.CheckConstraint(f"state in ({words})", name="state"),
    ]


def _json(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(
        name, JSONB(none_as_null=True), nullable=null, server_default=None if null else "{}"
    )


#: What we keep of an account beside its configuration: secrets are encrypted JSON.
accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False, server_default="0"),  # in the file
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pause_reason", sa.Text),
    _at("refused_at", null=True),  # since when the CRM refuses its credential
    sa.Column("refused_reason", sa.Text),
    _at("away_at", null=True),  # since when the CRM does not answer
    _at("probe_at", null=True),  # when it is asked next whether it lets us in, or answers
    sa.Column("probes", sa.Integer, nullable=False, server_default="0"),
    _at("reread_since", null=True),  # its log must be read to here before anybody is written to
    _at("reread_read_at", null=True),  # when it was; what was found may still be dealt with
    sa.Column("reread_why", sa.Text),
    sa.Column("secrets", BYTEA),
    sa.Column("callback", sa.Text),  # where the CRM was told to call, once somebody subscribed
    _at("callback_due_at", null=True),  # when its subscription is looked at next
    _at("drift_due_at", null=True),  # when it is compared with our records next
    _json("directory", null=True),
    _at("directory_at", null=True),
    sa.Column("mapped", sa.Text),  # digest of configuration and directories at the last release
    sa.Column("told_as", sa.Text),  # … and when what was told there was last looked at
    _at("created_at", default=True),
)

#: The inbox. ``key`` is the SHA-256 of what makes a delivery the same delivery. It is unique in
#: each part of the table (db/partitions.py); a repeat in a later part is looked for.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("key", BYTEA, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    _json("headers"),
    sa.Column("body", BYTEA, nullable=False),
    _at("received_at", default=True),
    *_state("pending", "done", "dead"),
    _at("due_at", default=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _json("error", null=True),
    sa.Index(
        "ix_deliveries_pending", "account", "due_at", postgresql_where=sa.text("state = 'pending'")
    ),
    sa.Index("ix_deliveries_dead", "id", postgresql_where=sa.text("state = 'dead'")),
    sa.PrimaryKeyConstraint("id", "received_at"),
    postgresql_partition_by="RANGE (received_at)",
)

#: What the connector read in the deliveries; ``answer`` is what the registry said to it.
#: ``received_at`` is that of the delivery; ``key`` is unique as that of a delivery is.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("delivery_id", sa.BigInteger, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("ref_type", sa.Text),
    sa.Column("ref_id", sa.Text),
    sa.Column("gone", sa.Boolean, nullable=False, server_default=sa.false()),
    _at("at"),
    _at("received_at", default=True),
    sa.Column("answer", sa.Text, nullable=False, server_default="handled"),
    sa.CheckConstraint("answer in ('handled', 'ignored', 'unsupported', 'foreign')", name="answer"),
    *_state("pending", "done", "dead"),
    _at("due_at", default=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _json("error", null=True),
    sa.Index(
        "ix_events_pending", "account", "due_at", postgresql_where=sa.text("state = 'pending'")
    ),
    sa.Index("ix_events_dead", "id", postgresql_where=sa.text("state = 'dead'")),
    sa.Index("ix_events_delivery", "delivery_id"),
    sa.Index("ix_events_ref", "account", "ref_type", "ref_id"),
    sa.Index("ix_events_gone", "account", "ref_type", "ref_id", postgresql_where=sa.text("gone")),
    sa.PrimaryKeyConstraint("id", "received_at"),
    postgresql_partition_by="RANGE (received_at)",
)

#: Our merged copies. ``stamps`` say of each field when it last changed and through whom:
#: {field: {"at": ISO 8601, "account": name}}.
records = sa.Table(
    "records",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    _json("fields"),
    _json("stamps"),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("container", sa.Boolean, nullable=False, server_default=sa.false()),
    *_state("live", "merged", "gone", "purged"),
    sa.Column("merged_into", UUID(as_uuid=True)),
    _at("created_at", default=True),
    _at("changed_at", default=True),
    _at("synced_at", null=True),
    sa.Index("ix_records_page", "entity", "id"),
    sa.Index(
        "ix_records_merged", "merged_into", postgresql_where=sa.text("merged_into is not null")
    ),
)

#: Identity keys: unique per entity, so that two workers cannot create one person twice.
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), nullable=False),
    sa.Index("ix_keys_record", "record_id"),
)

#: By which rules the records of an entity hold their keys, and how far a change of the rules
#: has come: ``wanted`` are the new ones, ``cursor`` the last record that has its new keys.
keyed = sa.Table(
    "keyed",
    metadata,
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("rules", sa.ARRAY(sa.Text)),
    sa.Column("wanted", sa.ARRAY(sa.Text)),
    sa.Column("cursor", UUID(as_uuid=True)),
)

#: Pairs of records that a person said are two, the smaller id first: nobody asks again.
separations = sa.Table(
    "separations",
    metadata,
    sa.Column("one", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    sa.Column("other", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    _at("at", default=True),
    sa.Index("ix_separations_other", "other"),
)

#: The relations inside the fields of live records, turned round: who are my children?
relations = sa.Table(
    "relations",
    metadata,
    sa.Column("child_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("parent_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    sa.Index("ix_relations_parent", "parent_id"),
)

#: Record <-> ref. ``base`` holds what the account last showed, ``sent`` our value at that
#: moment where it differs (a vendor reformats), ``written`` our last write to each field
#: (domain/fights.py). ``writing`` says a write of ours is on its way;
#: ``synced_at`` is when anything here last moved: what was read before that is not trusted.
#: A parked ref waits for a person, a merging one for its merge there; an unlinked one belongs to
#: nobody until a person says so. ``ended`` says why a link that is gone is gone: deleted there,
#: merged away there, propagated (deleted there by us), purged, or waived (deleted there, and a
#: person wants it there anew).
links = sa.Table(
    "links",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), nullable=False),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    _json("base"),
    _json("sent"),
    _json("written"),
    _json("intended"),
    _at("seen_at", null=True),
    sa.Column("writing", sa.Boolean, nullable=False, server_default=sa.false()),
    *_state("live", "parked", "merging", "unlinked", "gone"),
    sa.Column("ended", sa.Text),
    _at("ended_at", null=True),
    _at("created_at", default=True),
    _at("synced_at", default=True),
    sa.UniqueConstraint("account", "type", "remote_id"),
    sa.Index(
        "uq_links_live",
        "record_id",
        "account",
        unique=True,
        postgresql_where=sa.text("state = 'live'"),
    ),
    sa.Index("ix_links_record", "record_id"),
    sa.Index(
        "ix_links_spelled", "account", "entity", "id", postgresql_where=sa.text("sent <> '{}'")
    ),
    sa.Index("ix_links_gone", "id", postgresql_where=sa.text("state = 'gone'")),
)

#: Records waiting to be pushed. ``intent`` is a create that was begun and not yet settled.
#: ``anew`` asks to look again at what the account holds in words of its own.
#: ``guard`` is the kind of write that the account's guard stopped (``held``) or that a person let
#: through (``pending``).
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("wanted", sa.BigInteger, nullable=False),
    sa.Column("scan", sa.Boolean, nullable=False, server_default=sa.false()),
    *_state("pending", "waiting", "loading", "held", "dead"),
    _at("due_at", default=True),
    _at("marked_at", default=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _json("error", null=True),
    sa.Column("intent", sa.Text),
    _at("intent_at", null=True),
    _json("intended"),
    sa.Column("trace", sa.Text),  # the delivery (or resync) that marked it last, for the log
    sa.Column("anew", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("guard", sa.Text),
    _at("held_at", null=True),
    sa.Column("load", sa.Text),
    _json("loaded", null=True),  # what was worked out for it: {wanted, ours, unsaid, fields, …}
    sa.Index(
        "ix_outbox_pending", "account", "due_at", postgresql_where=sa.text("state = 'pending'")
    ),
    sa.Index("ix_outbox_dead", "account", postgresql_where=sa.text("state = 'dead'")),
    sa.Index("ix_outbox_held", "account", "guard", postgresql_where=sa.text("state = 'held'")),
    sa.Index(
        "ix_outbox_intent", "account", "intent_at", postgresql_where=sa.text("intent is not null")
    ),
    sa.Index("ix_outbox_record", "record_id"),
    sa.Index("ix_outbox_load", "account", "load", postgresql_where=sa.text("load is not null")),
)

#: Files of creates that an account works through by itself; ``id`` is its own word for one. It is
#: kept before the file is sent, and asked at ``due_at`` what became of the rows.
loads = sa.Table(
    "loads",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    _at("opened_at", default=True),
    _at("due_at", default=True),
)

#: How many writes of each kind an account was sent, by the minute: what its guard counts.
tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("op", sa.Text, primary_key=True),
    sa.Column("minute", sa.TIMESTAMP(timezone=True), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

#: The calls of each account's windows, for all workers: when they left and were answered
#: (seconds since 1970), and what the vendor told. ``day`` is the day's budget.
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("taken", sa.ARRAY(sa.Double), nullable=False),
    sa.Column("landed", sa.ARRAY(sa.Double), nullable=False),
    _json("told"),
    _at("seen_at", default=True),
)

#: Guards that a person opened: until then nothing of this kind is counted or stopped.
guards = sa.Table(
    "guards",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("op", sa.Text, primary_key=True),
    _at("open_until"),
)

#: The right to work on one account in one direction. ``fence`` grows with each claim.
lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("direction", sa.Text, primary_key=True),
    sa.CheckConstraint("direction in ('in', 'out', 'scan', 'listen')", name="direction"),
    _at("due_at", null=True),
    sa.Column("owner", sa.Text),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    _at("lease_until", null=True),
    _at("paused_until", null=True),
    sa.Column("pause_reason", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    _at("worked_at", null=True),
    sa.Column("position", sa.Text),  # up to where the event bus was listened to
)

#: One row: when anybody was last at work, on which server, timeline and database (``place``), and
#: the transaction that said so. An older copy of the database shows in it (db/rereads.py).
pulse = sa.Table(
    "pulse",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.CheckConstraint("one", name="one"),
    _at("at", default=True),
    sa.Column("place", sa.Text),
    sa.Column("xid", sa.Text),
)

#: One row per living worker process.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _at("started_at", default=True),
    _at("seen_at", default=True),
    sa.Column("pid", sa.Integer),  # its session here, which lasts as long as the worker
    _at("session_at", null=True),  # … and when that began: numbers are given again
)

#: What scripts and agents sent us: a repeat of one with its key is answered as the first was.
intakes = sa.Table(
    "intakes",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", BYTEA, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", JSON, nullable=False),  # as it was sent, in its order
    _at("at", default=True),
    sa.Index("ix_intakes_at", "at"),
)

#: What such a source last said of a record: as the base of a link, for what has none.
intake_bases = sa.Table(
    "intake_bases",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id), primary_key=True),
    _json("base"),
    _json("sent"),
    _at("at", default=True),
    sa.Index("ix_intake_bases_record", "record_id"),
)

#: Cards for a person: a field both sides moved, an identity nobody can decide, a remote merge.
conflicts = sa.Table(
    "conflicts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.CheckConstraint(
        "kind in ('field', 'identity', 'merge', 'suspect', 'delete', 'word')", name="kind"
    ),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("record_id", UUID(as_uuid=True), sa.ForeignKey(records.c.id)),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("ref_type", sa.Text),
    sa.Column("ref_id", sa.Text),
    sa.Column("field", sa.Text),
    _json("ours", null=True),
    _json("theirs", null=True),
    _json("detail"),
    *_state("open", "settled"),
    _at("opened_at", default=True),
    _at("settled_at", null=True),
    _json("settled", null=True),
    sa.Index(
        "uq_conflicts_open",
        "kind",
        "account",
        "ref_type",
        "ref_id",
        "field",
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        postgresql_nulls_not_distinct=True,
    ),
    sa.Index("ix_conflicts_record", "record_id"),
    sa.Index(
        "ix_conflicts_word",
        "account",
        "entity",
        "field",
        sa.text("(theirs ->> 'value')"),
        "id",
        postgresql_where=sa.text("kind = 'word'"),
    ),
)

#: Every field change ever made. ``cause`` is event, resync, person or undo; ``rule`` says what
#: decided; ``lost`` is the value that did not win.
journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
    _at("at", default=True),
    sa.Column("record_id", UUID(as_uuid=True), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("old", JSONB(none_as_null=False)),
    sa.Column("new", JSONB(none_as_null=False)),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("cause_id", sa.Text),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("lost", JSONB(none_as_null=False)),
    sa.Index("ix_journal_record", "record_id", "id"),
    sa.PrimaryKeyConstraint("id", "at"),
    postgresql_partition_by="RANGE (at)",
)

#: Every remote write: what was sent, what came back.
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
    _at("at", default=True),
    sa.Column("record_id", UUID(as_uuid=True), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("op", sa.Text, nullable=False),
    sa.Column("ref_type", sa.Text, nullable=False),
    sa.Column("ref_id", sa.Text),
    sa.Column("trace", sa.Text, nullable=False),
    _json("sent"),
    _json("before"),
    sa.Column("outcome", sa.Text, nullable=False),
    _json("error", null=True),
    sa.Index("ix_attempts_record", "record_id", "id"),
    sa.PrimaryKeyConstraint("id", "at"),
    postgresql_partition_by="RANGE (at)",
)

#: Resumable scans of one account; ``cursor`` is {entity, cursor}.
resyncs = sa.Table(
    "resyncs",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("entities", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("ids", sa.ARRAY(sa.Text)),
    _at("since", null=True),
    sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("match_id", UUID(as_uuid=True)),  # the dry runs that are judged together
    *_state("queued", "running", "done", "failed", "cancelled"),
    _json("cursor", null=True),
    _json("counts"),
    sa.Column("total", sa.BigInteger),
    _json("errors", null=True),
    _at("created_at", default=True),
    _at("started_at", null=True),
    _at("finished_at", null=True),
    sa.Index(
        "ix_resyncs_open",
        "account",
        postgresql_where=sa.text("state in ('queued', 'running')"),
    ),
    sa.Index("ix_resyncs_match", "match_id", postgresql_where=sa.text("match_id is not null")),
)

#: Comparisons of the linked records of an account with ours; ``cursor`` is {entity, after, n}.
#: ``ours`` and ``theirs`` are digests of what was compared, equal if and only if nothing differs.
drifts = sa.Table(
    "drifts",
    metadata,
    sa.Column("id", UUID(as_uuid=True), primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("entities", sa.ARRAY(sa.Text), nullable=False),
    sa.Column("repair", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reason", sa.Text, nullable=False, server_default="person"),
    *_state("queued", "running", "done", "failed", "cancelled"),
    _json("cursor", null=True),
    _json("counts"),
    _json("causes"),
    sa.Column("total", sa.BigInteger),
    sa.Column("ours", sa.Text),
    sa.Column("theirs", sa.Text),
    _json("errors", null=True),
    _at("created_at", default=True),
    _at("started_at", null=True),
    _at("finished_at", null=True),
    sa.Index(
        "ix_drifts_open",
        "account",
        postgresql_where=sa.text("state in ('queued', 'running')"),
    ),
)

#: What such a comparison found: one field, or a whole record where ``field`` is null.
differences = sa.Table(
    "differences",
    metadata,
    sa.Column("drift_id", UUID(as_uuid=True), sa.ForeignKey(drifts.c.id), primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("record_id", UUID(as_uuid=True), nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    sa.Column("field", sa.Text),
    sa.Column("ours", JSONB(none_as_null=False)),
    sa.Column("theirs", JSONB(none_as_null=False)),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("ix_differences_record", "record_id"),
)

#: How far the log of each account was read, by entity: all it knew until ``through`` was taken
#: in, and its deletes until ``deep_through``. ``run`` is a reading under way: {since, began,
#: cursor, deep, reason, listed, missed}; ``last`` is the one before. ``listed`` and ``missed``
#: count the changes that the log told, and those of them that no webhook had told in time.
catchups = sa.Table(
    "catchups",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    _at("through", default=True),
    _at("deep_through", default=True),
    _at("due_at", null=True),
    sa.Column("reason", sa.Text, nullable=False, server_default="schedule"),
    _json("run", null=True),
    _json("last", null=True),
    sa.Column("listed", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("missed", sa.BigInteger, nullable=False, server_default="0"),
    _json("error", null=True),
)

#: What the pages of a dry run so far would have made, linked or deleted: later pages find it, and
#: nothing of it stays when the run is over.
foreseen = sa.Table(
    "foreseen",
    metadata,
    sa.Column("resync_id", UUID(as_uuid=True), sa.ForeignKey(resyncs.c.id), primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), nullable=False),
    _json("more", null=True),
)

#: What a dry run would do: {op, account, entity, record_id, remote_id, fields}.
plan_items = sa.Table(
    "plan_items",
    metadata,
    sa.Column("resync_id", UUID(as_uuid=True), sa.ForeignKey(resyncs.c.id), primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True),
    _json("item"),
    sa.Index("ix_plan_items_record", sa.text("(item ->> 'record_id')")),
)

#: Who was purged: HMACs of their identity keys, so that they are known without being kept.
purged_keys = sa.Table(
    "purged_keys",
    metadata,
    sa.Column("digest", BYTEA, primary_key=True),
    sa.Column("record_id", UUID(as_uuid=True), nullable=False),
    _at("purged_at", default=True),
    sa.Index("ix_purged_keys_record", "record_id"),
)

#: Secrets of the house itself, encrypted: what the purged are hashed with.
seals = sa.Table(
    "seals",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sealed", BYTEA, nullable=False),
)

#: Who may use the API: ``digest`` is the SHA-256 of the token, which is nowhere.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("digest", BYTEA, nullable=False, unique=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.CheckConstraint("scope in ('read', 'operate', 'admin')", name="scope"),
    _at("created_at", default=True),
    _at("used_at", null=True),
)

#: Since when each webhook secret is known, and when it last fitted; ``id`` is a keyed hash of it.
webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    _at("since", default=True),
    _at("used_at", null=True),
)

#: Every act of a person, written before it is done; ``status`` is what was answered.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _at("at", default=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    _json("detail"),
    sa.Column("status", sa.Integer),
    sa.Column("request_id", sa.Text),
    sa.Index("ix_audit_who", "who", "id"),
)

#: What is or was wrong. ``raised_at`` is null until somebody is told; ``told`` is the count that
#: was told last.
alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("account", sa.Text),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    _at("since", default=True),
    _at("raised_at", null=True),
    _at("told_at", null=True),
    sa.Column("told", sa.BigInteger, nullable=False, server_default="0"),
    _at("ended_at", null=True),
    sa.Index("uq_alerts_living", "key", unique=True, postgresql_where=sa.text("ended_at is null")),
)

#: What was said of an alert, once for each channel; carried at least once.
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("alert_id", sa.BigInteger, sa.ForeignKey(alerts.c.id), nullable=False),
    sa.Column("word", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    _json("content"),
    _at("made_at", default=True),
    _at("due_at", default=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", sa.Text),
    _at("sent_at", null=True),
    sa.Index("ix_messages_unsent", "id", postgresql_where=sa.text("sent_at is null")),
)

#: The matching report of a dry run: each remote record as it stands against one other account.
#: ``keys`` are what it could be recognised by; ``candidates`` those that it could be.
matches = sa.Table(
    "matches",
    metadata,
    sa.Column("resync_id", UUID(as_uuid=True), sa.ForeignKey(resyncs.c.id), primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("remote_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.CheckConstraint(
        "verdict in ('linked', 'matched', 'new', 'unsure', 'stays')", name="verdict"
    ),
    sa.Column("other", sa.Text),
    sa.Column("other_id", sa.Text),
    sa.Column("other_name", sa.Text),
    sa.Column("record_id", UUID(as_uuid=True)),
    sa.Column("key", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("keys", sa.ARRAY(sa.Text), nullable=False, server_default="{}"),
    _json("candidates", null=True),
)
