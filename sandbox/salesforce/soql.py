"""The grammar of SOQL: a query as text becomes a tree, or is refused in the vendor's words.

https://developer.salesforce.com/docs/platform/salesforce-soql-sosl/guide/sforce-api-calls-soql-select.html
"""

import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.salesforce.errors import refuse
from sandbox.wire import RefusedError

LONGEST = 100_000
FUNCTIONS = ("count", "count_distinct", "min", "max", "sum", "avg")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:\\.|[^'\\])*')
    | (?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
    | (?P<day>\d{4}-\d\d-\d\d)
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*(?::\d+)?)
    | (?P<sign><=|>=|!=|<>|[=<>(),])
    )""",
    re.VERBOSE | re.DOTALL,
)
_SPELLED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_RESERVED = (
    "from where and or not order by limit offset group having in like asc desc nulls first last "
    "for with all using includes excludes"
).split()


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a query and how it was written: text, moment, day, number, word."""

    kind: str
    value: Any
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition; `value` is a literal, a list of them, or a query for `in` and `not in`."""

    path: str
    verb: str
    value: Any


@dataclass(frozen=True, slots=True)
class Logic:
    """`and`, `or`, or `not` of one."""

    verb: str
    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A function of a column, such as `COUNT(Id) n`."""

    function: str
    path: str
    alias: str


@dataclass(frozen=True, slots=True)
class Order:
    path: str
    down: bool = False
    nulls_last: bool = False


@dataclass(slots=True)
class Query:
    """`select` holds paths, aggregates and child queries."""

    text: str = ""
    select: list[Any] = field(default_factory=list)
    source: str = ""
    where: Any = None
    group: list[str] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0
    counts: bool = False


def malformed(text: str) -> RefusedError:
    return refuse("MALFORMED_QUERY", text)


def decoded(raw: str) -> str:
    """The text that a quoted literal stands for. Unknown sequences are refused.

    https://developer.salesforce.com/docs/platform/salesforce-soql-sosl/guide/sforce-api-calls-soql-select-quotedstringescapes.html
    """
    return "".join(part for part, _ in characters(raw))


def characters(raw: str, *, like: bool = False) -> list[tuple[str, bool]]:
    """The characters of a quoted literal, and whether each is a wildcard."""
    found: list[tuple[str, bool]] = []
    body, at = raw[1:-1], 0
    while at < len(body):
        letter = body[at]
        at += 1
        if letter != "\\":
            found.append((letter, like and letter in "%_"))
            continue
        letter = body[at] if at < len(body) else ""
        at += 1
        if letter.lower() in _SPELLED:
            found.append((_SPELLED[letter.lower()], False))
        elif letter.lower() == "u" and re.match(r"[0-9A-Fa-f]{4}", body[at : at + 4]):
            found.append((chr(int(body[at : at + 4], 16)), False))
            at += 4
        elif letter in ("%", "_") and like:
            found.append((letter, False))
        else:
            text = f"Illegal character sequence '\\{letter}' in string literal."
            raise malformed(f"Invalid string literal {raw}. {text}")
    return found


def parse(text: str) -> Query:
    """The tree of a query; RefusedError with MALFORMED_QUERY if there is none."""
    if len(text) > LONGEST:
        raise refuse("QUERY_TOO_COMPLICATED", "SOQL statements cannot be longer than 100000")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._split(text)
        self.at = 0

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                rest = text[at:].lstrip()
                if rest.startswith("'"):
                    raise malformed(f"line 1:{at} mismatched character '<EOF>' expecting '''")
                raise malformed(f"line 1:{at} no viable alternative at character '{rest[:1]}'")
            kind = match.lastgroup or ""
            tokens.append((kind, match[kind]))
            at = match.end()
        return tokens

    # -- tokens --

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else "end"

    @property
    def here(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else "<EOF>"

    def wrong(self) -> RefusedError:
        return malformed(f"unexpected token: '{self.here}'")

    def next(self) -> str:
        found = self.here
        if self.kind == "end":
            raise self.wrong()
        self.at += 1
        return found

    def takes(self, *words: str) -> bool:
        """Whether these words come next; they are passed if so."""
        ahead = self.tokens[self.at : self.at + len(words)]
        if [token.lower() for _, token in ahead] != list(words):
            return False
        self.at += len(words)
        return True

    def need(self, word: str) -> None:
        if not self.takes(word):
            raise self.wrong()

    def name(self, *, free: bool = False) -> str:
        """A name; only where it is free may it be a reserved word: `FROM Group`."""
        reserved = not free and self.here.lower() in _RESERVED
        if self.kind != "name" or reserved or ":" in self.here:
            raise self.wrong()
        return self.next()

    # -- clauses --

    def whole(self) -> Query:
        query = self.query()
        if self.kind != "end":
            raise self.wrong()
        query.text = self.text
        return query

    def query(self) -> Query:
        query = Query()
        self.need("select")
        if self.takes("count", "(", ")"):
            query.counts = True
        else:
            query.select = self._list(self._column)
        self.need("from")
        query.source = self.name(free=True)
        if self.takes("using"):
            self.need("scope")
            self.name()
        if self.takes("where"):
            query.where = self._logic()
        if self.takes("group", "by"):
            query.group = self._list(self.name)
        if self.takes("order", "by"):
            query.order = self._list(self._order)
        if self.takes("limit"):
            query.limit = self._count()
        if self.takes("offset"):
            query.offset = self._count()
        if self.takes("for"):
            self.name()
        return query

    def _list(self, item: Any) -> list[Any]:
        found = [item()]
        while self.takes(","):
            found.append(item())
        return found

    def _column(self) -> Any:
        if self.takes("("):
            child = self.query()
            self.need(")")
            return child
        name = self.name()
        if not self.takes("("):
            return name
        if name.lower() == "fields":
            scope = self.next().lower()
            self.need(")")
            return f"FIELDS({scope})"
        if name.lower() not in FUNCTIONS:
            raise malformed(f"Invalid function: {name}")
        path = self.name()
        self.need(")")
        alias = self.name() if self.kind == "name" and self.here.lower() not in _RESERVED else ""
        return Aggregate(name.lower(), path, alias)

    def _order(self) -> Order:
        path = self.name()
        down = self.takes("desc")
        if not down:
            self.takes("asc")
        last = False
        if self.takes("nulls"):
            last = self.takes("last")
            if not last:
                self.need("first")
        return Order(path, down, last)

    def _count(self) -> int:
        if self.kind != "number" or not self.here.isdigit():
            raise self.wrong()
        return int(self.next())

    def _logic(self) -> Any:
        """Conditions joined by one and the same word; mixing needs parentheses."""
        parts = [self._condition()]
        for verb in ("and", "or"):
            while self.takes(verb):
                parts.append(self._condition())
            if len(parts) > 1:
                if self.here.lower() in ("and", "or"):
                    raise self.wrong()
                return Logic(verb, tuple(parts))
        return parts[0]

    def _condition(self) -> Any:
        if self.takes("not"):
            return Logic("not", (self._condition(),))
        if self.takes("("):
            found = self._logic()
            self.need(")")
            return found
        path = self.name()
        if self.takes("not", "in"):
            return Compare(path, "not in", self._set())
        if self.takes("in"):
            return Compare(path, "in", self._set())
        if self.takes("like"):
            if self.kind != "text":
                raise self.wrong()
            return Compare(path, "like", Literal("text", None, self.next()))
        for verb in ("includes", "excludes"):
            if self.takes(verb):
                return Compare(path, verb, self._set())
        if self.kind != "sign" or self.here in "(),":
            raise self.wrong()
        verb = self.next()
        return Compare(path, "!=" if verb == "<>" else verb, self._literal())

    def _set(self) -> Any:
        self.need("(")
        if self.here.lower() == "select":
            found: Any = self.query()
        else:
            found = self._list(self._literal)
        self.need(")")
        return found

    def _literal(self) -> Literal:
        kind, raw = self.kind, self.next()
        match kind:
            case "text":
                return Literal("text", decoded(raw), raw)
            case "moment" | "day":
                return Literal(kind, raw, raw)
            case "number":
                return Literal("number", float(raw), raw)
            case "name":
                return Literal("word", raw.lower(), raw)
        self.at -= 1
        raise self.wrong()
