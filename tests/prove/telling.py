"""What the CRMs remember of a crowd's histories, told to the oracle in the order of time."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from tests.full.harness import Json
from tests.prove.desks import Past, Version
from tests.prove.firms import Deed, History
from tests.prove.oracle import BrokenError, Witness, lost_values

Ref: TypeAlias = tuple[str, str]  # account, id

#: Our names for the fields by their canonical names, and the policies of their conflicts.
PATHS = {"name": "name", "description": "title", "phone": "phone"}
POLICY = {"name": "close", "title": "latest", "phone": "review"}
#: Seconds between a look of ours and the write that follows it, on a busy machine.
INSTANT = 5


@dataclass(slots=True)
class Scene:
    """All that the CRMs and the service have to tell about a crowd, read at rest."""

    #: What each CRM shows, by account and id, and the ids by account and domain.
    alive: dict[str, dict[str, Json]] = field(default_factory=dict)
    found: defaultdict[Ref, set[str]] = field(default_factory=lambda: defaultdict(set))
    pasts: dict[Ref, Past] = field(default_factory=dict)
    #: Our links by ref, and the refs, open cards and journal lines by record.
    links: dict[Ref, Json] = field(default_factory=dict)
    own: defaultdict[UUID, set[Ref]] = field(default_factory=lambda: defaultdict(set))
    cards: defaultdict[UUID, list[Json]] = field(default_factory=lambda: defaultdict(list))
    journal: defaultdict[UUID, list[Json]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    async def read(cls, histories: Sequence[History]) -> Scene:
        scene, world, desks = cls(), histories[0].world, histories[0].desks
        for account, desk in desks.items():
            scene.alive[account] = await desk.rows()
            for id, row in scene.alive[account].items():
                scene.found[account, desk.domain_of(row)].add(id)
        for link in await world.syncline.sql("select * from links"):
            ref = link["account"], link["remote_id"]
            scene.links[ref] = link
            scene.own[link["record_id"]].add(ref)
        refs = {ref for history in histories for ref in scene.refs(history)}
        records = list(scene.records(refs))
        # What became one has one history, that of both.
        query = "select id, merged_into from records where merged_into is not null"
        into = {row["id"]: row["merged_into"] for row in await world.syncline.sql(query)}

        def survivor(id: UUID) -> UUID:
            return survivor(into[id]) if id in into else id

        lost = [id for id in into if survivor(id) in records]
        for table, rows in (("conflicts", scene.cards), ("journal", scene.journal)):
            query = f"select * from {table} where record_id = any($1)"
            for row in await world.syncline.sql(query, [*records, *lost]):
                rows[survivor(row["record_id"])].append(row)
        few = asyncio.Semaphore(4)

        async def look(account: str, id: str) -> None:
            async with few:
                scene.pasts[account, id] = await desks[account].past(id)

        await asyncio.gather(*(look(*ref) for ref in refs))
        return scene

    def refs(self, history: History) -> set[Ref]:
        """All that this history has ever been about."""
        told = {(deed.account, deed.id) for deed in history.deeds}
        told |= {(deed.account, deed.other) for deed in history.deeds if deed.other}
        return told.union(*(self.own[record] for record in self.records(told)))

    def records(self, refs: Collection[Ref]) -> set[UUID]:
        return {self.links[ref]["record_id"] for ref in refs if ref in self.links}

    def open_cards(self, refs: Collection[Ref]) -> list[Json]:
        own = (card for record in self.records(refs) for card in self.cards[record])
        return [card for card in own if card["state"] == "open"]

    def lost(self, refs: Collection[Ref], column: str) -> dict[str, set[Any]]:
        """The values that stand in this column of the journal, by path."""
        return lost_values(
            (PATHS[row["field"]], json.loads(row[column]))
            for record in self.records(refs)
            for row in self.journal[record]
            if row["field"] in PATHS and row[column] is not None
        )


@dataclass(slots=True)
class Told:
    """A history on its way to the witness."""

    history: History
    scene: Scene
    witness: Witness = field(init=False)
    things: dict[Ref, int] = field(init=False)
    #: What each field shows at this moment of the telling, and when a person gave it.
    shown: dict[tuple[Ref, str], Any] = field(default_factory=dict)
    typed: dict[tuple[Ref, str], datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spreads = frozenset(self.history.desks) if self.history.spreads else frozenset()
        self.witness = Witness(spreads=spreads)
        numbers = {firm.domain: firm.thing for firm in self.history.firms}
        refs = self.scene.refs(self.history)
        self.things = {ref: numbers[self.scene.pasts[ref].domain] for ref in refs}

    def judge(self) -> list[dict[str, str]]:
        """Where each company stands at last. Raises BrokenError."""
        for _, _, tell in sorted(self._events(), key=lambda event: event[:2]):
            tell()
        standing = []
        for thing in sorted(set(self.things.values())):
            standing.append(self._judge(thing))
        return standing

    def _judge(self, thing: int) -> dict[str, str]:
        scene, desks = self.scene, self.history.desks
        refs = [ref for ref, its in self.things.items() if its == thing]
        domains = {scene.pasts[ref].domain for ref in refs}
        shown = {
            (account, id): desks[account].shown(scene.alive[account][id])
            for account, id in refs
            if id in scene.alive[account]
        }
        for account in desks:
            found = set[str]().union(*(scene.found[account, domain] for domain in domains))
            if len(found) > 1 or found != {id for at, id in shown if at == account}:
                raise BrokenError(f"thing {thing} stands in {account} as {found}")
            if shown and not found and (account, thing) not in self.witness.missed:
                raise BrokenError(f"thing {thing} never came to {account}")
        cards = scene.open_cards(refs)
        self.witness.judge(
            thing,
            shown,
            held={(c["account"], PATHS[c["field"]]) for c in cards if c["field"] in PATHS},
            journal=scene.lost(refs, "lost"),
            policy=POLICY,
            skip={"phone": {"close"}} if any(at == "close" for at, _ in shown) else {},
            replaced=scene.lost(refs, "old"),
        )
        asked = any(card["kind"] == "delete" for card in cards)
        self.witness.judge_deletes(thing, lives=bool(shown), asked=asked)
        return dict(shown.keys())

    # --- what happened

    def _events(self) -> list[tuple[datetime, int, Callable[[], None]]]:
        """When, in which order at one moment, and how it is told."""
        events: list[tuple[datetime, int, Callable[[], None]]] = []
        merges = self._merges()
        for ref in self.things:
            past = self.scene.pasts[ref]
            versions = {path: self._own_versions(ref, path, merges) for path in past.fields}
            every = [version for own in versions.values() for version in own]
            first = min(every, key=lambda version: version.at)
            events.append((first.at, 0, partial(self._came, ref, first)))
            events += [
                (version.at, 2, partial(self._changed, ref, path, version))
                for path, own in versions.items()
                for version in own
            ]
            last = next((d for d in reversed(self.history.deeds) if _is_end(d, ref)), None)
            deleted = last is not None and last.what == "delete"
            if past.gone is not None and ref not in merges and not deleted:
                events.append((past.gone, 3, partial(self._erased, ref, past.gone)))
        for lost, (at, kept, ours) in merges.items():
            events.append((at, 1, partial(self._merged, lost, kept, at, ours)))
        for deed in self.history.deeds:
            ref = deed.account, deed.id
            if deed.what in ("delete", "restore"):
                events.append((deed.at, 3, partial(self._left_or_back, ref, deed.what)))
        return events

    def _merges(self) -> dict[Ref, tuple[datetime, str, bool]]:
        """Who was merged away: when, into whom, and whether by us."""
        people = {(d.account, d.other): d.id for d in self.history.deeds if d.what == "merge"}
        found: dict[Ref, tuple[datetime, str, bool]] = {}
        for ref in self.things:
            gone, link = self.scene.pasts[ref].gone, self.scene.links.get(ref)
            if gone is None or (ref not in people and (link is None or link["ended"] != "merged")):
                continue
            others = [one for one in self.things if one[0] == ref[0] and one != ref]
            after = [id for at, id in others if self._lived((at, id), gone)]
            if ref in people or after:
                found[ref] = gone, people.get(ref) or after[0], ref not in people
        return found

    def _lived(self, ref: Ref, at: datetime) -> bool:
        past = self.scene.pasts[ref]
        born = any(version.at <= at for versions in past.fields.values() for version in versions)
        return born and (past.gone is None or past.gone > at)

    def _own_versions(
        self, ref: Ref, path: str, merges: dict[Ref, tuple[datetime, str, bool]]
    ) -> list[Version]:
        """Without those that a survivor has inherited, and what the merges themselves gave it."""
        account, id = ref
        pasts = self.scene.pasts
        lost = [(one, at) for one, (at, kept, _) in merges.items() if (one[0], kept) == ref]
        foreign = {v for one, _ in lost for v in pasts[one].fields.get(path, ())}
        moments = {at for _, at in lost}
        return [
            version
            for version in pasts[account, id].fields[path]
            if version not in foreign and version.at not in moments
        ]

    # --- how it is told

    def _came(self, ref: Ref, first: Version) -> None:
        thing = self.things[ref]
        if first.by_person:
            self.witness.living.setdefault((ref[0], thing), set()).add(ref[1])
        else:
            self.witness.made(*ref, thing, {})

    def _changed(self, ref: Ref, path: str, version: Version) -> None:
        account, id = ref
        old, new, at = self.shown.get((ref, path)), version.value, version.at
        self.shown[ref, path] = new
        if version.by_person:
            self.typed[ref, path] = at
            second = int(at.timestamp())
            self.witness.edited(account, id, self.things[ref], path, old, new, second)
            return
        # Typed after we looked: our write hides it, and it may be put back.
        typed = self.typed.get((ref, path))
        if typed is not None and (at - typed).total_seconds() < INSTANT:
            self.witness.looked(account, id)
            self.witness.touched[account, id, path] = self.witness.numbers
            if not self.history.desks[account].tells:
                edits = self.witness.edits[self.things[ref], path]
                replaced = [edit for edit in edits if (edit.account, edit.id) == ref]
                self.witness.forgiven |= {edit.number for edit in replaced[-1:]}
        else:
            self.witness.glances.pop((account, id), None)
        self.witness.wrote(account, id, self.things[ref], path, old, new)

    def _left_or_back(self, ref: Ref, what: str) -> None:
        tell = self.witness.deleted if what == "delete" else self.witness.restored
        tell(*ref, thing := self.things[ref])
        if what == "delete" and self.history.spreads:
            # Who deletes it means all of it, also what that CRM has no field for.
            hidden = POLICY.keys() - self.history.desks[ref[0]].names.keys()
            edits = [e for path in hidden for e in self.witness.edits.get((thing, path), ())]
            *_, last = self.witness.deletes[thing]
            seen = last.seen | {edit.number for edit in edits}
            self.witness.deletes[thing][-1] = replace(last, seen=seen)

    def _erased(self, ref: Ref, at: datetime) -> None:
        """We have deleted it; what was typed between our look and that, nobody could know."""
        for edits in self.witness.edits.values():
            self.witness.forgiven |= {
                edit.number
                for edit in edits
                if (edit.account, edit.id) == ref and at.timestamp() - edit.at < INSTANT
            }
        self.witness.erased(*ref, self.things[ref])

    def _merged(self, lost: Ref, kept_id: str, at: datetime, ours: bool) -> None:
        kept = lost[0], kept_id
        filled = []
        for path, versions in self.scene.pasts[kept].fields.items():
            # A survivor in HubSpot has the past of both: where the last of it stands, nothing new
            # is told of the merge.
            before = [version.value for version in versions if version.at <= at]
            if before and before[-1] is not None and self.shown.get((kept, path)) is None:
                filled.append(path)
                self.shown[kept, path] = before[-1]
                if not ours:  # typed by whoever merges, perhaps after we looked
                    self.typed[kept, path] = at
        things = self.things[kept], self.things[lost]
        self.witness.merged(
            lost[0], kept_id, lost[1], things, filled, now=kept_id, ours=ours, known=True
        )
        self.things = {
            ref: things[0] if its == things[1] else its for ref, its in self.things.items()
        }


def _is_end(deed: Deed, ref: Ref) -> bool:
    """Whether by this deed the record was deleted or came back."""
    return (deed.account, deed.id) == ref and deed.what in ("delete", "restore")
