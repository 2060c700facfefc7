"""Random histories: drawn from a seed, lived through, judged, and cut down to what matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any, TypeAlias

from app.config import EntitySync
from app.domain.values import Observation, Ref
from tests.prove.crm import FIELDS, TYPE, Crm, ExistsError, Quirks
from tests.prove.engine import Engine
from tests.prove.oracle import BrokenError, Witness, lost_values

Step: TypeAlias = tuple[Any, ...]
NAMES = "ABCDE"
PATHS = ("title", "score", "flag", "phones", "email")
#: So many steps of all lanes must be enough for everything to come to rest.
PATIENCE = 400


@dataclass(frozen=True, slots=True)
class History:
    """What the CRMs are like, what is configured, and all that happens."""

    quirks: tuple[Quirks, ...]
    policy: str
    score: str  # the direction of this one field
    thorough: bool  # afterwards a resync must find nothing, and one edit make n - 1 writes
    steps: tuple[Step, ...]
    follow: bool = False  # merges are carried to the other CRMs
    spreads: str = ""  # the accounts whose deletes are carried over
    limit: int = 0  # so many writes of a kind pass the guards before a person is asked

    def __str__(self) -> str:
        lines = [
            f"policy {self.policy}, score {self.score}, follow {self.follow}, "
            f"deletes of {self.spreads or 'nobody'} are carried over, limit {self.limit}"
        ]
        for name, quirks in zip(NAMES, self.quirks, strict=False):
            odd = dict(_odd(quirks))
            lines.append(f"{name}: {odd or 'no quirks'}")
        return "\n".join([*lines, *("  " + " ".join(map(str, step)) for step in self.steps)])


def _odd(quirks: Quirks) -> Iterator[tuple[str, Any]]:
    usual = Quirks()
    for name in Quirks.__dataclass_fields__:
        if getattr(quirks, name) != getattr(usual, name):
            yield name, getattr(quirks, name)


# --- drawing --------------------------------------------------------------------------------


def draw(seed: int) -> History:
    """The history of a seed."""
    random = Random(seed)
    chance = random.random
    count = 2 if chance() < 0.55 else 3 if chance() < 0.8 else random.randint(4, 5)
    quirks = tuple(_quirks(random) for _ in range(count))
    policy = random.choice(("A", "B", "latest", "latest", "review"))
    score = "both" if chance() < 0.8 else random.choice(("from A", "to B", "off"))
    steps: list[Step] = [("create", random.randrange(count), 0)]
    meeting = chance() < 0.15  # two whom somebody may take for one
    if meeting:
        steps.append(("create", random.randrange(count), 0))
    spreads = "" if chance() < 0.7 else random.choice((NAMES[:count], "A", "B"))
    limit = 0 if meeting or chance() < 0.85 else random.randint(1, 3)
    if chance() < 0.6:
        steps.append(("rest",))
    for _ in range(min(11, int(random.expovariate(0.45)))):
        if chance() < 0.8:
            steps += _lanes(random, count)
        if meeting and chance() < 0.3:
            steps.append(("merge", random.randrange(count), random.randrange(2), chance() < 0.2))
        else:
            steps.append(_deed(random, count, deletes=bool(spreads)))
        if limit and chance() < 0.3:
            steps.append(("approve", random.randrange(count)))
    thorough, follow = chance() < 0.3, chance() < 0.5
    return History(quirks, policy, score, thorough, tuple(steps), follow, spreads, limit)


def _quirks(random: Random) -> Quirks:
    bits = random.getrandbits(16)
    if bits & 3 == 0:
        return Quirks()
    unique = bits & 4 > 0
    return Quirks(
        thin=bits & 8 > 0,
        times=bits & 16 > 0,
        skew=random.randint(-9, 9) if bits & 32 else 0,
        coarse=bits & 192 == 0,
        shouts=bits & 768 == 0,
        rounds=bits & 1024 > 0,
        blanks=bits & 2048 > 0,
        unique=unique,
        lag=3 if unique and bits & 4096 else 0,
        terse=bits & 8192 > 0,
        tells=bits & 49152 > 0,
        silent=random.random() < 0.4,
        buries=random.random() < 0.4,
        keeps=random.choice(("log", "log", "told", "nothing")),
    )


def _lanes(random: Random, count: int) -> Iterator[Step]:
    """What the programs and the network get done before the next thing happens."""
    for _ in range(random.randrange(9)):
        draw = random.random()
        at = random.randrange(count)
        if draw < 0.3:
            yield ("hook", at, random.randrange(3))
        elif draw < 0.33:
            yield ("again", at, random.randrange(3))
        elif draw < 0.35:
            yield ("lost", at, random.randrange(3))
        elif draw < 0.65:
            yield ("in", at)
        elif draw < 0.97:
            yield ("out", at)
        else:
            yield ("restart",)


def _deed(random: Random, count: int, *, deletes: bool) -> Step:
    """What a person does; more often a delete where those are carried over."""
    chance, at, thing = random.random(), random.randrange(count), random.randrange(2)
    if deletes and random.random() < 0.15:
        return ("delete", at, thing)
    if chance < 0.06:
        return ("create", at, thing)
    if chance < 0.14:
        return ("twin", at, thing)
    if chance < 0.19:
        return ("delete", at, thing)
    if chance < 0.21:
        return ("restore", at, 0)
    if chance < 0.25:
        return ("rest",)
    path = PATHS[min(int(random.expovariate(0.8)), 4)]
    kind = "set" if chance < 0.8 else "clear" if chance < 0.93 else "zero"
    return ("edit", at, thing, path, kind)


# --- living ---------------------------------------------------------------------------------


@lru_cache
def _sync(count: int, policy: str, score: str, spreads: str) -> EntitySync:
    fields = {"custom.score": {"direction": score}} if score != "both" else {}
    return EntitySync.model_validate(
        {
            "accounts": tuple(NAMES[:count]),
            "conflict": policy,
            "fields": fields,
            "deletes": dict.fromkeys(spreads, "propagate"),
        }
    )


@dataclass(slots=True)
class Life:
    """A history on its way."""

    history: History
    tell: Callable[[str], None] | None = None
    crms: dict[str, Crm] = field(init=False)
    engine: Engine = field(init=False)
    witness: Witness = field(init=False)
    things: int = 0
    tokens: int = 0
    lossy: set[str] = field(default_factory=set)
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        history = self.history
        source = history.score.partition("from ")[2] or ("-" if history.score != "both" else "")
        self.witness = Witness(
            {"score": source} if source else {}, frozenset(history.spreads), timely=self._timely()
        )
        self.crms = {
            name: Crm(name, quirks, self.witness)
            for name, quirks in zip(NAMES, history.quirks, strict=False)
        }
        sync = _sync(len(self.crms), history.policy, history.score, history.spreads)
        rash = all(quirks.tells and quirks.times for quirks in history.quirks)
        patience = dict.fromkeys(self.crms, 0)
        self.engine = Engine(sync, self.crms, patience, history.follow, rash, history.limit)

    def _timely(self) -> frozenset[str]:
        """Which can be asked when their fields were edited."""
        return frozenset(
            name
            for name, quirks in zip(NAMES, self.history.quirks, strict=False)
            if quirks.thin and quirks.tells
        )

    def live(self) -> None:
        """All of it, and then the peace in which everything is judged."""
        for step in self.history.steps:
            self.step(step)
        self.rest()
        for name in sorted(self.lossy):
            self.engine.resync(name)
        self.rest()
        self._decide_guards()
        self._answer_riddles()
        self._join_suspects()
        self._merge_elsewhere()
        self._decide_guards()
        self._judge()
        if any([self._decide_deletes(), self._decide_cards()]):
            self._judge()
        if not self.history.thorough:
            return
        self.engine.limit = 0
        self._nothing_left_to_do()
        self._one_edit_is_one_write_elsewhere()
        self._judge()

    def step(self, step: Step) -> None:
        self.engine.now += 1
        what, *rest = step
        done = getattr(self, f"_{what}")(*rest)
        if self.tell is not None:
            self._note(" ".join(map(str, step)) + ("" if done else " (nothing)"))

    # --- people

    def _create(self, at: int, _: int) -> bool:
        self.things += 1
        values = {"title": self._token("v"), "email": f"p{self.things}@prove.example"}
        self._crm(at).create(self.things, values, self.engine.now)
        return True

    def _twin(self, at: int, thing: int) -> bool:
        """Somebody enters the same person by hand where it is not yet."""
        crm, thing = self._crm(at), self._thing(thing)
        known = self._shown(thing)
        address = next((raw["email"] for raw in known.values() if raw["email"]), None)
        here = self.witness.living.get((crm.name, thing))
        if address is None or here or (crm.name, thing) in self.witness.departed:
            return False
        if thing in self.witness.renamed:  # whom a new address hides nobody can recognise
            return False
        values = {"email": address, "score": self._token("") + ".5"}
        try:
            crm.create(thing, values, self.engine.now)
        except ExistsError:
            return False
        return True

    def _edit(self, at: int, thing: int, path: str, kind: str) -> bool:
        crm = self._crm(at)
        id = self._here(crm, self._thing(thing))
        if id is None or (path == "email" and crm.thing_of(id) in self.witness.doubled):
            return False
        return crm.edit(id, path, self._value(crm, id, path, kind), self.engine.now)

    def _delete(self, at: int, thing: int) -> bool:
        crm = self._crm(at)
        id = self._here(crm, self._thing(thing))
        if id is not None:
            crm.delete(id, self.engine.now)
        return id is not None

    def _merge(self, at: int, thing: int, third: bool) -> bool:
        """Two become one; only whom all have met, as nobody could know whom else it means."""
        crm = self._crm(at)
        known = [id for id in crm.contacts if (crm.name, id) in self.witness.known]
        if len(known) < 2:
            return False
        kept, lost = known[:2] if thing else known[1::-1]
        things = crm.thing_of(kept), crm.thing_of(lost)
        link = self.engine.links.get(Ref(crm.name, TYPE, lost))
        parked = link is None or link.state != "live"
        crm.merge(kept, lost, self.engine.now, third=third, parked=parked)
        self._unite(*things)
        if link is None:  # who may have made it can only hear of it before he tries again
            for news in [news for news in crm.underway if news.survivor is not None]:
                crm.underway.remove(news)
                self.engine.receive(crm.name, news)
        return True

    def _unite(self, kept: int, lost: int) -> None:
        for crm in self.crms.values():
            for contact in (*crm.contacts.values(), *crm.bin.values()):
                contact.thing = kept if contact.thing == lost else contact.thing
            crm.things |= {id: kept for id, thing in crm.things.items() if thing == lost}
        known = self.engine.things
        known |= {record: kept for record, thing in known.items() if thing == lost}

    def _restore(self, at: int, _: int) -> bool:
        """What was deleted last comes back, where nothing has taken its place."""
        crm = self._crm(at)
        id = next(reversed(crm.bin), None)
        if id is None or self.witness.living.get((crm.name, crm.thing_of(id))):
            return False
        try:
            crm.restore(id, self.engine.now)
        except ExistsError:
            return False
        return True

    def _value(self, crm: Crm, id: str, path: str, kind: str) -> Any:
        old = crm.contacts[id].values[path]
        if path == "phones":
            return old[1:] if kind != "set" else sorted([*old, self._token("+49")])
        if path == "flag":
            return {"clear": None, "set": not old, "zero": False}[kind]
        if path == "email":
            return f"e{self._token('')}@prove.example"
        if kind == "clear":
            return None
        if path == "score":
            return "0" if kind == "zero" else f"{self._token('')}.5"
        return self._token("v")

    def _token(self, prefix: str) -> str:
        self.tokens += 1
        return f"{prefix}{self.tokens}"

    # --- programs and networks

    def _hook(self, at: int, which: int) -> bool:
        return self._deliver(at, which, keep=False)

    def _again(self, at: int, which: int) -> bool:
        return self._deliver(at, which, keep=True)

    def _deliver(self, at: int, which: int, *, keep: bool) -> bool:
        crm = self._crm(at)
        if which >= len(crm.underway):
            return False
        news = crm.underway[which] if keep else crm.underway.pop(which)
        if news.change == "gone" and crm.quirks.silent:
            # Where nothing else tells a merge from a delete, it is told in time.
            for merge in [one for one in crm.underway if news.id in one.losers]:
                crm.underway.remove(merge)
                self.engine.receive(crm.name, merge)
        self.engine.receive(crm.name, news)
        return True

    def _lost(self, at: int, which: int) -> bool:
        crm = self._crm(at)
        if which >= len(crm.underway) or crm.underway[which].change != "changed":
            return False
        news = crm.underway[which]
        # Of what a write of ours may replace unseen, nothing else tells but the CRM's own log.
        if any(self.witness.unseen(crm.name, news.id, path) for path in news.fields):
            return False
        del crm.underway[which]
        self.lossy.add(crm.name)
        return True

    def _in(self, at: int) -> bool:
        return self.engine.step_in(self._crm(at).name)

    def _out(self, at: int) -> bool:
        return self.engine.step_out(self._crm(at).name)

    def _approve(self, at: int) -> bool:
        return self.engine.approve(self._crm(at).name)

    def _restart(self) -> bool:
        for account, job in list(self.engine.jobs.items()):
            if isinstance(job.outcome, Observation):
                id = job.outcome.ref.id
                self.witness.crashed(account, id, job.fields)
                if job.deleting:
                    self.witness.lost_delete(account, self.crms[account].thing_of(id))
        self.engine.crash()
        return True

    def _rest(self) -> bool:
        self.rest()
        return True

    def rest(self) -> None:
        """Until nothing is under way any more."""
        for _ in range(PATIENCE):
            self.engine.now += 1
            busy = False
            for name, crm in self.crms.items():
                for news in crm.underway:
                    self.engine.receive(name, news)
                busy = bool(crm.underway) or busy
                crm.underway.clear()
                for lane in (self.engine.step_in, self.engine.step_out):
                    if lane(name):
                        busy = True
                        if self.tell is not None:
                            self._note(f"{lane.__name__} {name}")
            if not busy and all(mark.dead or mark.held for mark in self.engine.outbox.values()):
                self.witness.rested(lossy=bool(self.lossy))
                return
        raise BrokenError("it never comes to rest")

    # --- judging

    def _crm(self, at: int) -> Crm:
        return self.crms[NAMES[at % len(self.crms)]]

    def _thing(self, thing: int) -> int:
        return thing % self.things + 1 if self.things else 0

    def _here(self, crm: Crm, thing: int) -> str | None:
        ids = self.witness.living.get((crm.name, thing))
        return min(ids) if ids else None

    def _shown(self, thing: int) -> dict[tuple[str, str], dict[str, Any]]:
        return {
            (crm.name, contact.id): contact.values
            for crm in self.crms.values()
            for contact in crm.contacts.values()
            if contact.thing == thing
        }

    def _judge(self) -> None:
        skip = self._skipped()
        paths = {name: path for path, name in FIELDS.items()}
        journal = lost_values((paths[name], value) for name, value in self.engine.journal)
        replaced = lost_values((paths[name], value) for name, value in self.engine.replaced)
        policy = dict.fromkeys(("title", "score", "flag", "email"), self.history.policy)
        for thing in range(1, self.things + 1):
            shown = self._shown(thing)
            held = {
                (card.ref.account, paths[card.field])
                for card in self.engine.cards.values()
                if self.engine.things[card.record_id] == thing
            }
            self.witness.judge(
                thing,
                shown,
                held=held,
                journal=journal,
                policy=policy,
                skip=skip,
                replaced=replaced,
            )
            self._everywhere(thing, shown)
            asked = any(self.engine.things[id] == thing for id in self.engine.kept)
            self.witness.judge_deletes(thing, lives=bool(shown), asked=asked)
        if self.engine.unsure or self.engine.asked or self.engine.beside:
            raise BrokenError("a person was asked who is who, without need")

    def _skipped(self) -> dict[str, set[str]]:
        match self.history.score.split():
            case ["both"]:
                return {}
            case ["from", source] if not self.witness.doubled and self._has_spoken(source):
                return {"score": set()}
        return {"score": set(self.crms)}

    def _has_spoken(self, source: str) -> bool:
        """Whether the one account that counts had a value in every thing, and still shows it.

        One that came and went before anybody looked was never said.
        """
        known = {
            self.engine.things[record.id]
            for record in self.engine.records.values()
            if "custom.score" in record.fields
        }
        here = {c.thing for c in self.crms[source].contacts.values() if c.values["score"]}
        spoken = {
            thing
            for (thing, path), edits in self.witness.edits.items()
            if path == "score"
            and any(
                edit.account == source and (source, edit.id) not in self.witness.left
                for edit in edits
            )
        }
        return len(spoken & (known | here)) == self.things

    def _everywhere(self, thing: int, shown: dict[tuple[str, str], Any]) -> None:
        there = {account for account, _ in shown}
        missing = [
            name
            for name in self.crms
            if name not in there and (name, thing) not in self.witness.missed
        ]
        if there and missing:
            raise BrokenError(f"thing {thing} never came to {missing}")

    def _answer_riddles(self) -> None:
        """A person who knows says what was deleted before we could see it."""
        for (account, record_id), refs in list(self.engine.riddles.items()):
            crm, thing = self.crms[account], self.engine.things[record_id]
            self.engine.answer(
                account, record_id, next((r for r in refs if crm.thing_of(r.id) == thing), None)
            )
        self.rest()

    def _decide_guards(self) -> None:
        """A person looks at what the guards hold, and lets it through."""
        while sum(self.engine.approve(name) for name in self.crms):
            self.rest()

    def _decide_deletes(self) -> bool:
        """A person says of what was to be deleted and was not: delete it, let it live, …"""
        asked = bool(self.engine.kept)
        for turn, record_id in enumerate(sorted(self.engine.kept)):
            thing, delete = self.engine.things[record_id], turn % 2 == 0
            if delete and self._shown(thing):
                self.witness.condemned(thing)
            self.engine.decide_delete(record_id, delete=delete)
            self.rest()
            self._decide_guards()
        return asked

    def _join_suspects(self) -> None:
        """A person says that two with the same address are one: who was deleted everywhere, and
        is entered anew in one CRM and restored in another.
        """
        for one, other in self.engine.suspects:
            thing = self.engine.things[one]
            if thing != self.engine.things[other]:
                raise BrokenError("two who are not one have the same address")
            if thing not in self.witness.returned:
                raise BrokenError("a person was asked whether two are one, without need")
            if self.engine.join(one, other):
                self.witness.united.add(thing)
                self.rest()

    def _merge_elsewhere(self) -> None:
        """A person says that what was merged in one CRM shall be one in the others too."""
        for record_id in self.engine.parked():
            self.engine.follow_merge(record_id)
            self.rest()

    def _decide_cards(self) -> bool:
        """A person takes card after card: theirs, ours, theirs, …; whether there was one."""
        paths = {name: path for path, name in FIELDS.items()}
        for turn in range(20):
            if not self.engine.cards:
                return turn > 0
            card = next(iter(self.engine.cards.values()))
            thing = self.engine.things[card.record_id]
            chosen = (
                card.theirs if turn % 2 else self.engine.records[card.record_id].fields[card.field]
            )
            self.witness.decided(thing, paths[card.field], chosen, self.engine.now)
            self.engine.resolve(card, theirs=bool(turn % 2))
            self.rest()
            self._decide_guards()
        raise BrokenError("the cards never end")

    def _nothing_left_to_do(self) -> None:
        before = self._writes()
        for name in self.crms:
            self.engine.resync(name)
        self.rest()
        if self._writes() != before:
            raise BrokenError("at rest, a resync still found something to write")

    def _one_edit_is_one_write_elsewhere(self) -> None:
        for thing in range(1, self.things + 1):
            shown = self._shown(thing)
            if len(shown) < 2:
                continue
            (account, id), *others = shown
            before = self._writes()
            self.crms[account].edit(id, "title", self._token("v"), self.engine.now)
            self.rest()
            if self._writes() - before != len(others):
                raise BrokenError(
                    f"one edit in {account} made {self._writes() - before} writes elsewhere, "
                    f"not {len(others)}"
                )

    def _writes(self) -> int:
        return sum(crm.writes for crm in self.crms.values())

    def _note(self, what: str) -> None:
        """Tell what was done, if it changed anything that can be told."""
        if self.tell is None:
            return
        now = {
            f"{c.name}/{i}": str(k.values)
            for c in self.crms.values()
            for i, k in c.contacts.items()
        }
        now |= {f"record {r.id.int}": str(dict(r.fields)) for r in self.engine.records.values()}
        now |= {
            f"link {k.ref.account}": f"{k.state} base {dict(k.base)} sent {dict(k.sent)}"
            for k in self.engine.links.values()
        }
        now |= {
            f"card {c.ref.account} {c.field}": f"{c.theirs!r} against {c.ours!r}"
            for c in self.engine.cards.values()
        }
        changed = {k: v for k, v in now.items() if self._told.get(k) != v}
        self._told = now
        self.tell(f"{self.engine.now:4} {what}")
        for name, text in changed.items():
            self.tell(f"         {name}: {text}")


def prove(history: History, tell: Callable[[str], None] | None = None) -> str | None:
    """What is wrong; None if every promise was kept."""
    try:
        Life(history, tell).live()
    except BrokenError as broken:
        return str(broken)
    return None


# --- shrinking ------------------------------------------------------------------------------


def shrink(history: History) -> History:
    """The smallest history near this one that breaks a promise too."""
    better = True
    while better:
        better = False
        for smaller in _smaller(history):
            try:
                wrong = prove(smaller)
            except Exception:
                wrong = "it fails"
            if wrong is not None:
                history, better = smaller, True
                break
    return history


def _smaller(history: History) -> Iterator[History]:
    steps = history.steps
    for size in (8, 4, 2, 1):
        for start in range(0, len(steps), max(1, size // 2)):
            left = steps[:start] + steps[start + size :]
            if len(left) < len(steps):
                yield replace(history, steps=left)
    if len(history.quirks) > 2:
        yield replace(history, quirks=history.quirks[:-1])
    for at, quirks in enumerate(history.quirks):
        for name, _ in _odd(quirks):
            usual = getattr(Quirks(), name)
            plain = (
                *history.quirks[:at],
                replace(quirks, **{name: usual}),
                *history.quirks[at + 1 :],
            )
            yield replace(history, quirks=plain)
    if history.score != "both":
        yield replace(history, score="both")
    for at, step in enumerate(steps):
        if step[0] == "edit" and step[3] != "title":
            yield replace(
                history, steps=(*steps[:at], (*step[:3], "title", step[4]), *steps[at + 1 :])
            )
