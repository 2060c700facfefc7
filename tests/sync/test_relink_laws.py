"""Laws of merges and deletes: told in any order and however often, they end in one state."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.db.tables import links as link_rows
from app.db.tables import records as record_rows
from app.domain.values import Observation, Ref
from app.sync.reconcile import Deferred
from app.sync.relink import relink
from tests.sync.conftest import Company, contact, lead

SIZE = 4
TABLES = "records, keys, relations, links, outbox, conflicts, journal, attempts"


@dataclass
class Remote:
    """What two CRMs hold of four companies, and what they tell of it.

    ``silent`` CRMs answer for a merged id as for a deleted one; the others show the survivor.
    """

    silent: bool
    survivor: dict[Ref, Ref] = field(default_factory=dict)
    deleted: set[Ref] = field(default_factory=set)
    #: Refs that are the same real company, by the first of them.
    same: dict[Ref, Ref] = field(default_factory=dict)
    events: list[tuple[Ref, Ref | None]] = field(default_factory=list)

    def refs(self, account: str) -> list[Ref]:
        return [ref for ref in self.same if ref.account == account]

    def lives(self, ref: Ref) -> bool:
        return ref not in self.survivor and ref not in self.deleted

    def do(self, account: str, act: str, first: int, second: int) -> None:
        """One act of a person, if it is possible now; the event that tells of it."""
        own = self.refs(account)
        a, b = own[first % len(own)], own[second % len(own)]
        if act == "merge" and a != b and self.lives(a) and self.lives(b):
            self.survivor[a] = b
            old, new = self.same[a], self.same[b]
            self.same = {ref: new if top == old else top for ref, top in self.same.items()}
            self.events.append((a, b))
        elif act == "delete" and self.lives(a):
            self.deleted.add(a)
            self.events.append((a, None))
        elif act == "restore" and a in self.deleted:
            self.deleted.remove(a)
            self.events.append((a, None))
        elif act == "edit" and self.lives(a):
            self.events.append((a, None))

    def read(self, ref: Ref) -> Observation:
        """What a reading shows now."""
        at = ref
        while at in self.survivor and not self.silent:
            at = self.survivor[at]
        if not self.lives(at):
            return Observation(ref, None, gone=True)
        return self.shown(at) if at == ref else replace_asked(self.shown(at), ref)

    @staticmethod
    def shown(ref: Ref) -> Observation:
        name = f"Company {ref.id}"
        if ref.account == "close":
            number = int(ref.id.removeprefix("lead_"))
            return lead(number, name=name, url=f"c{number}.example")
        return Observation(ref, {"name": name, "domain": f"c{ref.id}.example"})


def replace_asked(seen: Observation, asked: Ref) -> Observation:
    return Observation(seen.ref, seen.raw, asked=asked)


acts = st.lists(
    st.tuples(
        st.sampled_from(["close", "hubspot"]),
        st.sampled_from(["merge", "merge", "delete", "restore", "edit"]),
        st.integers(0, SIZE - 1),
        st.integers(0, SIZE - 1),
    ),
    max_size=8,
)


async def begin(company: Company, remote: Remote) -> list[Ref]:
    """Four companies with a contact each, linked in both CRMs; the refs of the contacts."""
    async with company.db.transaction() as db:
        await db.execute(sa.text(f"truncate {TABLES} cascade"))
    children = [contact(n, email=f"p{n}@x.example", lead=f"lead_{n}") for n in range(1, SIZE + 1)]
    for n in range(1, SIZE + 1):
        here, there = Ref("close", "lead", f"lead_{n}"), Ref("hubspot", "companies", str(n))
        remote.same |= {here: here, there: here}
        await company.see(remote.shown(here))
        await company.see(remote.shown(there))
    await company.see(*children)
    return [child.ref for child in children]


async def hear(company: Company, remote: Remote, ref: Ref, to: Ref | None) -> None:
    """As ingest does it: follow the merge, then look at what lives."""
    if to is not None:
        async with company.db.transaction() as db:
            await relink(db, ref, to)
    for _ in range(3):
        (answer,) = await company.see(remote.read(to or ref))
        assert not isinstance(answer, Exception), answer
        if not isinstance(answer, Deferred):
            return


@settings(
    max_examples=8,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts=acts, silent=st.booleans(), data=st.data())
async def test_any_order_and_repetition_of_merges_and_deletes_ends_in_one_state(
    company: Company, acts, silent, data
):
    remote = Remote(silent)
    children = await begin(company, remote)
    for account, act, first, second in acts:
        remote.do(account, act, first, second)
    order = data.draw(st.permutations(remote.events))
    again = data.draw(st.lists(st.sampled_from(order), max_size=3)) if order else []
    for ref, to in [*order, *again]:
        await hear(company, remote, ref, to)

    async with company.db.transaction() as db:
        rows = list(await db.execute(sa.select(link_rows)))
        both = await db.execute(sa.select(record_rows.c.id, record_rows.c.state))
        states = {row.id: row.state for row in both}
    found = {Ref(row.account, row.type, row.remote_id): row for row in rows}
    for top in set(remote.same.values()):
        mine = [ref for ref, its in remote.same.items() if its == top]
        owners = {found[ref].record_id for ref in mine}
        assert len(owners) == 1, "what is one in a CRM is one record"
        (owner,) = owners
        living = [ref for ref in mine if remote.lives(ref)]
        assert states[owner] == ("live" if living else "gone")
        for ref in mine:
            assert (found[ref].state == "gone") == (not remote.lives(ref)), (ref, found[ref].state)
        for account in {ref.account for ref in living}:
            standing = [r for r in living if r.account == account and found[r].state == "live"]
            assert len(standing) == 1, "one counterpart stands, the others are parked"
    tops = {top: found[top].record_id for top in set(remote.same.values())}
    assert len(set(tops.values())) == len(tops), "what is two in both CRMs is two records"
    for number, child in enumerate(children, start=1):
        parent = (await company.record_of(child)).fields["company"]
        assert parent == str(found[Ref("close", "lead", f"lead_{number}")].record_id)
