"""Who edited what, and knowing what: from that alone follows what every CRM must show at rest.

The oracle knows nothing of the engine. It watches the CRMs: each edit by a person is remembered
with all the edits that this person could see, and each write is traced to the edit it carries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeAlias

Cells: TypeAlias = dict[tuple[str, str, str], "Cell"]
NOTHING: Mapping[str, Any] = MappingProxyType({})
_NONE: frozenset[int] = frozenset()


class BrokenError(AssertionError):
    """A promise was not kept."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One value that a person gave one field; ``past`` are the edits it was made over."""

    number: int
    account: str
    id: str
    essence: Any
    at: int
    past: frozenset[int]


@dataclass(frozen=True, slots=True)
class Delete:
    """A person's delete that the others shall follow, and what that person knew and saw last."""

    seen: frozenset[int]
    elements: frozenset[str]
    shown: Mapping[str, Any]


@dataclass(slots=True)
class Cell:
    """One field of one remote record: the edit that it shows, and all it ever showed."""

    origin: int | None = None
    past: frozenset[int] = _NONE

    @property
    def seen(self) -> frozenset[int]:
        return self.past if self.origin is None else self.past | {self.origin}


def essence(path: str, value: Any) -> Any:
    """What a value says, however a CRM spells, rounds or blanks it."""
    if value is None or value == "":
        return None
    if path in ("title", "name"):
        return int(value[1:])
    if path == "phone":
        return int(value[-5:])
    if path == "score":
        return int(Decimal(value))
    return value


def is_unique(path: str, said: Any) -> bool:
    """Whether only one edit ever said this."""
    return path != "flag" and said is not None and said != 0


@dataclass(slots=True)
class Witness:
    """All that happened at the CRMs."""

    #: Fields that count from one account only; elsewhere a person's edit is undone.
    sources: Mapping[str, str] = field(default_factory=dict)
    #: Accounts whose deletes are carried over.
    spreads: frozenset[str] = frozenset()
    deletes: dict[int, list[Delete]] = field(default_factory=dict)
    carried_over: set[tuple[str, int]] = field(default_factory=set)
    returned: set[int] = field(default_factory=set)  # things that people restored or made anew
    remade: set[int] = field(default_factory=set)  # deleted when nobody could know of it yet
    edits: dict[tuple[int, str], list[Edit]] = field(default_factory=dict)
    cells: Cells = field(default_factory=dict)
    departed: set[tuple[str, int]] = field(default_factory=set)
    missed: set[tuple[str, int]] = field(default_factory=set)
    left: set[tuple[str, str]] = field(default_factory=set)
    living: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    doubled: set[int] = field(default_factory=set)  # things that people made more than once
    added: dict[int, dict[str, str]] = field(default_factory=dict)
    removed: dict[int, dict[str, str]] = field(default_factory=dict)
    had: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    #: Things that were two once, and the edits that the person saw who merged them away.
    united: set[int] = field(default_factory=set)
    #: The accounts in which people have merged each of them.
    merged_in: dict[int, set[str]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    #: By (account, id), the ids that it had before, and those of who was merged into it.
    absorbed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    #: What the person saw who merged another into it.
    swallowed: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    #: Blanks that a merge has filled, in a spelling that nobody has agreed on.
    filled: set[tuple[str, str, str]] = field(default_factory=set)
    #: Those that nobody may have seen filled, and of these what somebody has edited since: it
    #: cannot be told from an edit of the blank, and is a conflict.
    unseen_fills: set[tuple[str, str, str]] = field(default_factory=set)
    retyped: set[tuple[str, str, str]] = field(default_factory=set)
    #: The same for elements of sets: those that were known at rest, and those merged away unknown.
    quiet_elements: set[str] = field(default_factory=set)
    dropped_elements: set[str] = field(default_factory=set)
    quiet: int = 0  # edits up to this one were known to the engine when all was at rest
    numbers: int = 0
    #: Records that the engine has made, or that were there when all was at rest.
    known: set[tuple[str, str]] = field(default_factory=set)
    #: What cells showed before the latest write, and those whose write nobody remembers.
    before: Cells = field(default_factory=dict)
    doubtful: Cells = field(default_factory=dict)
    #: Those whose latest write has replaced what somebody had typed in that instant.
    replaced: set[tuple[str, str, str]] = field(default_factory=set)
    overtyped: set[int | None] = field(default_factory=set)  # … and those edits
    forgiven: set[int] = field(default_factory=set)
    #: What a cell may show or not, as several edits said what was written.
    unsure: dict[tuple[str, str, str], frozenset[int]] = field(default_factory=dict)
    #: The same for sets: what the latest write brought, and what nobody remembers to have brought.
    brought: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    doubted: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    forgiven_elements: set[str] = field(default_factory=set)
    #: Accounts whose vendor tells when each field was edited, so that the later edit is known.
    timely: frozenset[str] = frozenset()
    renamed: set[int] = field(default_factory=set)
    #: When each record was looked at last before a write, and each field edited last.
    unseen_elements: set[str] = field(default_factory=set)
    glances: dict[tuple[str, str], int] = field(default_factory=dict)
    touched: dict[tuple[str, str, str], int] = field(default_factory=dict)

    # --- what people do

    def created(
        self, account: str, id: str, thing: int, values: Mapping[str, Any], at: int
    ) -> None:
        if any(t == thing for _, t in self.living):
            self.doubled.add(thing)
            self.returned.add(thing)
        self.living.setdefault((account, thing), set()).add(id)
        self.departed.discard((account, thing))
        for path, value in values.items():
            if value not in (None, []):
                self.edited(account, id, thing, path, None, value, at)

    def edited(
        self, account: str, id: str, thing: int, path: str, old: Any, new: Any, at: int
    ) -> None:
        self.touched[account, id, path] = self.numbers
        if path == "email" and old is not None:
            self.renamed.add(thing)
        if path == "phones":
            before, after = set(old or ()), set(new)
            doubted = self.doubted.get((account, id), set())
            filled = before if (account, id, path) in self.unseen_fills else set[str]()
            self.forgiven_elements |= (before - after) & (doubted | filled)
            self.added.setdefault(thing, {}).update(dict.fromkeys(after - before, id))
            self.removed.setdefault(thing, {}).update(dict.fromkeys(before - after, id))
            self.had.setdefault((account, id), set()).update(after)
            return
        if (account, id, path) in self.unseen_fills:
            self.retyped.add((account, id, path))
        cell = self.cells.setdefault((account, id, path), Cell())
        self.numbers += 1
        if (account, id, path) in self.doubtful:
            self.forgiven |= {self.numbers, *self.doubtful[account, id, path].seen}
        past, unsure = cell.seen, self.unsure.get((account, id, path), _NONE)
        if unsure:
            self.forgiven |= {self.numbers, *unsure}
            past -= unsure
        edit = Edit(self.numbers, account, id, essence(path, new), at, past)
        self.edits.setdefault((thing, path), []).append(edit)
        self.cells[account, id, path] = Cell(edit.number, edit.past)

    def decided(self, thing: int, path: str, value: Any, at: int) -> None:
        """A person chose a value, knowing all there was."""
        self.numbers += 1
        known = self.edits.setdefault((thing, path), [])
        past = frozenset(edit.number for edit in known)
        said = essence(path, value)
        known.append(Edit(self.numbers, "person", "", said, at, past))
        showing = {e.number for e in known if e.essence == said}
        for (account, there), ids in self.living.items():
            for id in ids if there == thing else ():
                cell = self.cells.get((account, id, path))
                if cell is not None and cell.origin in showing:
                    self.cells[account, id, path] = Cell(self.numbers, cell.seen)

    def deleted(self, account: str, id: str, thing: int) -> None:
        if account in self.spreads:
            # A write that nobody remembers was seen by the deleter all the same.
            cells = {**self.cells, **self.doubtful}
            own = {p: cell for (at, its, p), cell in cells.items() if (at, its) == (account, id)}
            seen = frozenset(self.swallowed.get((account, id), ()))
            seen = seen.union(*(cell.seen for cell in own.values()))
            elements = frozenset(self.had.get((account, id), ()))
            shown = {
                path: edit.essence
                for path, cell in own.items()
                for edit in self.edits.get((thing, path), ())
                if edit.number == cell.origin
            }
            self.deletes.setdefault(thing, []).append(Delete(seen, elements, shown))
        self.living[account, thing].discard(id)
        self.missed.add((account, thing))
        if thing not in self.doubled or (account, id) in self.known:
            self.departed.add((account, thing))
        self.left |= {(account, one) for one in (id, *self.absorbed.get((account, id), ()))}

    def condemned(self, thing: int) -> None:
        """A person who knows all there is says that it shall be deleted everywhere."""
        seen = frozenset(
            e.number for (t, _), edits in self.edits.items() if t == thing for e in edits
        )
        self.deletes.setdefault(thing, []).append(
            Delete(seen, frozenset(self.added.get(thing, ())), {})
        )

    def _unknown(self, thing: int, *, certain: bool) -> list[Edit | str]:
        """What somebody has edited that no deleter has seen; ``certain``: and that has not lost
        against something that a deleter has seen, nor is hidden by a write that nobody remembers.
        """
        found: list[Edit | str] = []
        for (its, path), edits in self.edits.items():
            if its != thing or (certain and path in self.sources):
                continue
            over = frozenset[int]().union(*(edit.past for edit in edits))
            for edit in edits:
                fate = edit.number in over or (edit.account, edit.id) in self.left
                if edit.number in self.forgiven:
                    fate = fate or certain
                else:
                    rivals = edits if certain else ()
                    fate = fate or any(_knew(d, path, edit, rivals) for d in self.deletes[thing])
                if not fate:
                    found.append(edit)
        ids = {id for _, id in self.left}
        for element, id in self.added.get(thing, {}).items():
            known = any(element in one.elements for one in self.deletes[thing])
            removed = element in self.removed.get(thing, ())
            if not known and not removed and id not in ids:
                found.append(element)
        return found

    def erased(self, account: str, id: str, thing: int) -> None:
        """The engine carries a delete over: never over an edit that the deleter has not seen."""
        self.living[account, thing].discard(id)
        self.carried_over.add((account, thing))
        if thing not in self.deletes:
            raise BrokenError(f"deleted, and nobody said so: {account} {id}, thing {thing}")
        for lost in self._unknown(thing, certain=True):
            if isinstance(lost, Edit) and (lost.account, lost.id) == (account, id):
                raise BrokenError(f"an edit was deleted along: {account} {id}: {lost}")

    def lost_delete(self, account: str, thing: int) -> None:
        """The engine has deleted it there, and who did it died before the answer was kept.

        It cannot be told from a delete by somebody: an edit elsewhere does not bring it back there.
        """
        self.missed.add((account, thing))

    def judge_deletes(self, thing: int, *, lives: bool, asked: bool) -> None:
        """``asked``: a person shall say whether it is deleted."""
        if thing not in self.deletes:
            return
        if asked:
            return
        if not lives and (unknown := self._unknown(thing, certain=True)):
            raise BrokenError(f"thing {thing} was deleted, and with it {unknown}")
        again = thing in self.returned | self.united | self.remade
        if lives and not again and not self._unknown(thing, certain=False):
            raise BrokenError(f"thing {thing} was deleted, and yet it stands")

    def restored(self, account: str, id: str, thing: int) -> None:
        self.returned.add(thing)
        self.living.setdefault((account, thing), set()).add(id)
        self.departed.discard((account, thing))
        self.left -= {(account, one) for one in (id, *self.absorbed.get((account, id), ()))}

    def merged(
        self,
        account: str,
        id: str,
        loser: str,
        things: tuple[int, int],
        filled: Collection[str],
        *,
        now: str,
        ours: bool,
        known: bool,
    ) -> None:
        """One record goes into another, whose blanks it fills; from then on both are one thing.

        A person who merges has seen what is lost by it. What the engine knew of it must have
        been written down all the same, and everything where it merges itself (``ours``).
        """
        kept, lost = things
        before = [self.absorbed.get((account, one), set()) | {one} for one in (id, loser)]
        self.absorbed[account, now] = set[str]().union(*before) - {now}
        if kept != lost:
            self._unite(kept, lost)
        if not ours:
            self.merged_in.setdefault(kept, set()).add(account)
        self.living[account, kept] = self.living.get((account, kept), set()) - {loser}
        if not ours:  # what was removed there and nobody knew yet is dropped with it
            gone = self.removed.get(kept, {}).items()
            self.forgiven_elements |= {element for element, at in gone if at == loser}
            there = {x for x, at in self.added.get(kept, {}).items() if at == loser}
            self.dropped_elements |= there - (self.quiet_elements if known else set())
        saw = self.swallowed.setdefault((account, id), set())
        saw |= self.swallowed.pop((account, loser), set())
        for path in {path for at, there, path in self.cells if (at, there) == (account, loser)}:
            cell = self.cells[account, loser, path]
            saw |= cell.seen
            if not ours:
                mine = {e.number for e in self.edits.get((kept, path), ()) if e.id == loser}
                self.dropped |= {n for n in cell.seen | mine if n > self.quiet or not known}
            if path in filled:
                over = self.cells.get((account, id, path), Cell()).seen
                origin = self._again(kept, path, cell, over)
                self.cells[account, id, path] = Cell(origin, cell.seen | over)
                self.filled.add((account, now, path))
                self.unseen_fills.add((account, now, path))
        if "phones" in filled:
            self.had.setdefault((account, id), set()).update(self.had.get((account, loser), ()))
            self.unseen_fills.add((account, now, "phones"))
        if now != id:
            self._rename(account, id, now)

    def _again(self, thing: int, path: str, cell: Cell, over: frozenset[int]) -> int | None:
        """What the CRM itself fills a blank with in a merge is as if it were said anew."""
        edits = self.edits.get((thing, path), [])
        said = next((edit for edit in edits if edit.number == cell.origin), None)
        if said is None:
            return cell.origin
        self.numbers += 1
        self.dropped.add(self.numbers)
        edits.append(replace(said, number=self.numbers, past=cell.seen | over))
        return self.numbers

    def _unite(self, kept: int, lost: int) -> None:
        self.united.add(kept)
        self.merged_in.setdefault(kept, set()).update(self.merged_in.pop(lost, ()))
        for _, path in [key for key in self.edits if key[0] == lost]:
            self.edits.setdefault((kept, path), []).extend(self.edits.pop((lost, path)))
            self.edits[kept, path].sort(key=lambda edit: edit.number)
        for known in (self.added, self.removed):
            known.setdefault(kept, {}).update(known.pop(lost, {}))
        for account, thing in [key for key in self.living if key[1] == lost]:
            ids = self.living.pop((account, thing))
            self.living.setdefault((account, kept), set()).update(ids)
        for where in (self.departed, self.missed, self.carried_over):
            for account in {at for at, thing in where if thing == lost}:
                where.discard((account, lost))
                where.add((account, kept))
        if lost in self.deletes:
            self.deletes.setdefault(kept, []).extend(self.deletes.pop(lost))
        for some in (self.doubled, self.renamed, self.returned, self.remade):
            if lost in some:
                some.add(kept)

    def _rename(self, account: str, id: str, now: str) -> None:
        """A record has another id from now on."""
        for cells in (self.cells, self.before, self.doubtful):
            for where in [key for key in cells if key[:2] == (account, id)]:
                cells[account, now, where[2]] = cells.pop(where)
        for where in [key for key in self.touched if key[:2] == (account, id)]:
            self.touched[account, now, where[2]] = self.touched.pop(where)
        for where in [key for key in self.unsure if key[:2] == (account, id)]:
            self.unsure[account, now, where[2]] = self.unsure.pop(where)
        for where in [key for key in self.replaced if key[:2] == (account, id)]:
            self.replaced.remove(where)
            self.replaced.add((account, now, where[2]))
        if (account, id) in self.swallowed:
            self.swallowed[account, now] = self.swallowed.pop((account, id))
        for sets in (self.had, self.brought, self.doubted):
            if (account, id) in sets:
                sets[account, now] = sets.pop((account, id))
        if (account, id) in self.glances:
            self.glances[account, now] = self.glances.pop((account, id))
        if (account, id) in self.known:
            self.known.add((account, now))
        for ids in self.living.values():
            if id in ids:
                ids.remove(id)
                ids.add(now)
        for edits in self.edits.values():
            edits[:] = [replace(e, id=now) if e.id == id else e for e in edits]
        for known in (*self.added.values(), *self.removed.values()):
            known.update({x: now for x, at in known.items() if at == id})

    def crashed(self, account: str, id: str, paths: Iterable[str]) -> None:
        """These were written, and who wrote them died before the answer was kept.

        What a person then types over them cannot be told from an edit of what was there before:
        it is a conflict, for the policy to decide.
        """
        for path in paths:
            where = (account, id, path)
            if path == "phones":
                self._doubt_elements(account, id)
                continue
            if self._typed_over(where):
                continue
            if where in self.cells:
                self.doubtful[where] = self.cells[where]
                before = self.before.get(where, Cell())
                self.cells[where] = Cell(None, before.past) if where in self.replaced else before

    def _doubt_elements(self, account: str, id: str) -> None:
        """Who removes one of these cannot be told from one who never had it."""
        brought = self.doubted[account, id] = self.brought.pop((account, id), set())
        for removed in self.removed.values():
            self.forgiven_elements |= {x for x in brought if removed.get(x) == id}

    def _typed_over(self, where: tuple[str, str, str]) -> bool:
        """Whether somebody has typed over what was written; that is such an edit as well."""
        account, id, path = where
        had = self.before.get(where, Cell()).seen
        typed = False
        for (_, name), edits in self.edits.items():
            for at, edit in enumerate(edits if name == path else ()):
                if (edit.account, edit.id) != (account, id) or edit.number in had:
                    continue
                typed = True
                self.forgiven |= {edit.number, *edit.past}
                mine = {e.number for e in edits if (e.account, e.id) == (account, id)}
                edits[at] = replace(edit, past=edit.past & (had | mine))
                self.cells[where] = Cell(edit.number, edits[at].past)
        return typed

    def rested(self, *, lossy: bool = False) -> None:
        """Everybody has been looked at since; unless news were lost (``lossy``)."""
        for where, cell in self.doubtful.items():
            if self.cells[where] is self.before.get(where) or self.cells[where].origin is None:
                self.cells[where] = cell
        self.quiet = self.quiet if lossy else self.numbers
        self.doubtful.clear()
        self.doubted.clear()
        self.unsure.clear()
        if not lossy:
            self.unseen_fills.clear()
            self.quiet_elements = {x for added in self.added.values() for x in added}
            every = self.living.items()
            self.known |= {(account, id) for (account, _), ids in every for id in ids}

    # --- what the engine does

    def looked(self, account: str, id: str) -> None:
        """The engine has looked and will write; what is edited from now on it cannot know."""
        self.numbers += 1
        self.glances[account, id] = self.numbers

    def unseen(self, account: str, id: str, path: str) -> bool:
        """Whether a person edited this since the engine looked."""
        looked = self.glances.get((account, id))
        return looked is not None and self.touched.get((account, id, path), 0) >= looked

    def wrote(self, account: str, id: str, thing: int, path: str, old: Any, new: Any) -> None:
        where = f"{account} {id} {path}: {old!r} -> {new!r}"
        if path == "phones":
            self._wrote_set(account, id, thing, set(old or ()), set(new or ()))
            return
        same = essence(path, old) == essence(path, new)
        if same and (self.unseen(account, id, path) or essence(path, new) is None):
            return  # somebody typed the very same in this instant; "" is not null to everybody
        # Where two became one, each CRM has its own spelling of what the merge left.
        told = (account, id, path) in self.filled or thing in self.united
        if same and path != "flag" and not told:
            raise BrokenError(f"a write that changes nothing: {where}")
        self.filled.discard((account, id, path))
        if same and told:
            return
        self._carry(account, id, thing, path, new, where)

    def made(
        self, account: str, id: str, thing: int, values: Mapping[str, Any], *, untold: bool = False
    ) -> None:
        """``untold``: what was deleted there before nobody could know of yet."""
        if untold:
            self.departed.discard((account, thing))
            self.remade.add(thing)
        if thing in self.doubled:
            # Where all whom we had met are deleted, who bears the same address is somebody new.
            every = [
                (at, one) for (at, its), ids in self.living.items() if its == thing for one in ids
            ]
            if not self.known.intersection(every):
                self.departed = {where for where in self.departed if where[1] != thing}
        if thing in self.united and (account, thing) in self.carried_over:
            self.departed.discard((account, thing))  # of two, a person has deleted one and we one
        if (account, thing) in self.departed:
            raise BrokenError(f"what was deleted came back: {account} {id}, thing {thing}")
        if self.living.get((account, thing)):
            raise BrokenError(f"made twice: {account} {id}, thing {thing}")
        self.living.setdefault((account, thing), set()).add(id)
        self.known.add((account, id))
        for path, value in values.items():
            if path == "phones":
                self._wrote_set(account, id, thing, set(), set(value))
            elif value is not None:
                self._carry(account, id, thing, path, value, f"{account} {id} {path}: {value!r}")

    def _carry(self, account: str, id: str, thing: int, path: str, value: Any, where: str) -> None:
        """Trace a written value to the edit that it carries."""
        cell = self.cells.setdefault((account, id, path), Cell())
        said = essence(path, value)
        known = [e for e in self.edits.get((thing, path), ()) if e.essence == said]
        if self.sources.get(path, account) != account and said is None:
            return  # it takes over that there is nothing at the one account that counts
        if not known:
            raise BrokenError(f"nobody ever said that: {where}")
        # What was typed in the instant of a write is gone from the record, and nobody has seen
        # it lose: it may come back.
        seen = cell.past if self.unseen(account, id, path) else cell.seen
        seen -= self.unsure.get((account, id, path), _NONE)
        fresh = [e for e in known if e.number not in seen]
        if not fresh:
            # Two who merge the same records in two CRMs, each their own way, contradict each other.
            crossed = len(self.merged_in.get(thing, ())) > 1
            crossed = crossed or (account, id, path) in self.retyped
            if self.sources.get(path, account) == account and not crossed:
                raise BrokenError(f"flipped back: {where}")
            fresh = known  # what was typed where it does not count is undone
        edit = fresh[-1]
        may = [e.past | {e.number} for e in fresh]
        self.unsure[account, id, path] = (
            frozenset[int].union(*may) - seen - may[0].intersection(*may)
        )
        self.before[account, id, path] = cell
        if self.unseen(account, id, path):
            self.replaced.add((account, id, path))
            self.overtyped.add(cell.origin)
        else:
            self.replaced.discard((account, id, path))
        self.doubtful.pop((account, id, path), None)
        self.cells[account, id, path] = Cell(edit.number, seen | edit.past)

    def _wrote_set(self, account: str, id: str, thing: int, old: set[str], new: set[str]) -> None:
        where = f"{account} {id} phones: {sorted(old)} -> {sorted(new)}"
        added, removed = self.added.get(thing, {}), self.removed.get(thing, {})
        had = self.had.setdefault((account, id), set())
        unseen = self.unseen(account, id, "phones")
        if old == new and old and not unseen:
            raise BrokenError(f"a write that changes nothing: {where}")
        if not new - old <= added.keys():
            raise BrokenError(f"nobody ever said that: {where}")
        # What was added or removed in the instant of a write is put right afterwards.
        forgiven = self.unseen_elements | self.forgiven_elements
        if not unseen and (new - old) & removed.keys() & had - forgiven:
            raise BrokenError(f"a removed element came back: {where}")
        if not unseen and not old - new <= removed.keys():
            raise BrokenError(f"an element was dropped that nobody removed: {where}")
        if unseen:
            self.unseen_elements |= old ^ new
        self.brought[account, id] = new - old
        self.doubted.pop((account, id), None)
        had |= new

    # --- what must hold at rest

    def judge(
        self,
        thing: int,
        shown: Mapping[tuple[str, str], Mapping[str, Any]],
        *,
        held: Collection[tuple[str, str]],
        journal: Mapping[str, Collection[Any]],
        policy: Mapping[str, str],
        skip: Mapping[str, Collection[str]],
        replaced: Mapping[str, Collection[Any]] = NOTHING,
    ) -> None:
        """``shown`` are the living remote records of a thing by (account, id); ``held`` the
        (account, path) that wait for a person; ``journal`` has the values that lost, by path;
        ``skip`` the accounts that a path is not carried to. Where two became one, what the
        survivor shows otherwise stands in the journal as an ordinary change: ``replaced``.
        """
        for path in policy:
            values = {
                where: essence(path, raw[path])
                for where, raw in shown.items()
                if (where[0], path) not in held and where[0] not in skip.get(path, ())
            }
            said = set(values.values())
            if len({(type(v), v) for v in said}) > 1:
                raise BrokenError(f"thing {thing}, {path}: the CRMs differ at rest: {values}")
            if said and not held and path not in skip:
                final = said.pop()
                lost = {*journal.get(path, ())}
                if thing in self.united:
                    lost |= {*replaced.get(path, ())}
                self._judge_final(thing, path, final, lost, policy[path])
        if all("phones" in raw for raw in shown.values()):
            self._judge_set(thing, shown)

    def _judge_final(
        self, thing: int, path: str, final: Any, lost: Collection[Any], policy: str
    ) -> None:
        edits = self.edits.get((thing, path), [])
        if all(e.essence == final for e in edits) and (edits or final is None):
            return
        counted = [e for e in edits if (e.account, e.id) not in self.left]
        # What somebody merged away may be lost with the merge; what it was made over may not.
        over = frozenset[int]().union(*(e.past for e in counted if e.number not in self.dropped))
        last = [e for e in edits if e.number not in over]
        where = f"thing {thing}, {path}"
        # Where two became one an older value may stand; the newer ones are written down.
        may = edits if thing in self.united else last
        if not any(e.essence == final for e in may) and (counted or final is not None):
            raise BrokenError(f"{where}: an edit was lost; at rest {final!r}, not one of {last}")
        heads = [e for e in last if (e.account, e.id) not in self.left]
        chosen = frozenset[int]().union(*(e.past for e in last if e.essence == final))
        heads = [e for e in heads if e.number not in chosen | self.forgiven | self.dropped]
        if thing not in self.united and not all(is_unique(path, e.essence) for e in heads):
            return
        losers = [e for e in heads if e.essence != final and is_unique(path, e.essence)]
        if thing in self.united:  # what was edited before it was dropped was known as an edit
            replaced = frozenset[int]().union(*(e.past for e in edits))
            losers = [e for e in losers if e.number not in replaced | self.overtyped]
        for loser in losers:
            if loser.essence not in lost:
                raise BrokenError(f"{where}: {loser} lost, and nobody wrote it down")
        if thing in self.united:
            return  # where two records meet, the survivor keeps its own, whatever the policy
        # What a write of ours replaced unseen, and was typed anew there since, is decided anew.
        latest = {(e.account, e.id): e.number for e in edits}
        named = [e for e in heads if e.account == policy and e.number == latest[e.account, e.id]]
        if named and all(e.essence != final for e in named):
            raise BrokenError(f"{where}: {policy} wins conflicts, but {final!r} stands: {heads}")
        # An edit of who wins conflicts may have decided against one of these before.
        known = last[0].past.intersection(*(e.past for e in last)) if last else _NONE
        by_time = policy != "review" and all(
            e.account != policy for e in edits if e.number not in known
        )
        if by_time and losers and self._is_timely(last):
            stands = max(e.at for e in last if e.essence == final)
            if any(e.at > stands for e in losers):
                raise BrokenError(f"{where}: a later edit lost against {final!r}: {last}")

    def _is_timely(self, edits: Collection[Edit]) -> bool:
        """Whether the vendors tell of all these edits when they were made."""
        return all(
            e.account in self.timely and e.number not in self.forgiven and is_unique("", e.essence)
            for e in edits
        )

    def _judge_set(self, thing: int, shown: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        added, removed = self.added.get(thing, {}), self.removed.get(thing, {})
        gone = {id for _, id in self.left}
        must = {x for x, id in added.items() if id not in gone and x not in removed}
        must -= self.dropped_elements
        may = {x for x in added if x not in removed or removed[x] in gone}
        may |= self.forgiven_elements & added.keys()
        found = [frozenset(raw["phones"]) for raw in shown.values()]
        if len(set(found)) > 1:
            raise BrokenError(f"thing {thing}: the sets differ at rest: {found}")
        for one in found[:1]:
            if not must <= one <= may:
                raise BrokenError(f"thing {thing}: {set(one)} is not between {must} and {may}")


def _knew(one: Delete, path: str, edit: Edit, rivals: Collection[Edit]) -> bool:
    """Whether the deleter has seen this edit or what it says, or one of those that contradict it
    and may have won.
    """
    if edit.number in one.seen or edit.essence == one.shown.get(path):
        return True
    return any(e.number in one.seen and e.number not in edit.past for e in rivals)


def lost_values(entries: Iterable[tuple[str, Any]]) -> dict[str, set[Any]]:
    """The essences that stand in the journal as losers, by path."""
    found: dict[str, set[Any]] = {}
    for path, value in entries:
        if path != "phones":
            found.setdefault(path, set()).add(essence(path, value))
    return found
