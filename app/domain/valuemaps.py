"""Value maps: our word for a value, and the account's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.domain.codecs import ABSENT, Codec, Context, Held, strings
from app.domain.filters import is_blank, text

Policy = Literal["hold", "default", "pass", "create"]


@dataclass(frozen=True, slots=True)
class ValueMap:
    """``ours`` leads from our word to theirs, ``theirs`` back: where two of ours share one of
    theirs, to the first. What it does not know goes by ``unmapped``:

    held for a person, replaced by ``default``, passed as it is, or passed once the account has
    been given the option.
    """

    ours: Mapping[str, str]
    theirs: Mapping[str, str]
    unmapped: Policy = "hold"
    default: str | None = None
    #: A row that only reads has its default in our words.
    reads_default: bool = False

    @property
    def passes(self) -> bool:
        return self.unmapped in ("pass", "create")

    def put(self, value: Any, field: str) -> Any:
        """Raises Held for a value that waits for a person."""
        if isinstance(value, list):
            return [self.put(item, field) for item in value]
        word = text(value)
        if is_blank(value) or word in self.ours:
            return value if is_blank(value) else self.ours[word]
        if self.unmapped == "default":
            return self.default
        if self.passes and word not in self.theirs:
            return value
        if self.passes:
            other = self.theirs[word]
            raise Held(field, f"{word!r} there means {other!r}; name {word!r} under values too")
        raise Held(field, f"{word!r} is not among the values of this row; name it there")

    def get(self, value: Any) -> Any:
        """ABSENT, no opinion, for a word of theirs that is not mapped and does not pass."""
        if isinstance(value, list):
            found = [self.get(item) for item in value]
            return ABSENT if any(item is ABSENT for item in found) else found
        word = text(value)
        if is_blank(value):
            return value
        if word in self.theirs:
            return self.theirs[word]
        if self.passes:
            return value
        return self.default if self.reads_default else ABSENT


def mapped(codec: Codec, values: ValueMap, field: str) -> Codec:
    """A transform of one field that speaks the account's own words."""

    def get(raw: Any, context: Context) -> Any:
        given = strings(raw[0]) if codec.many and raw[0] not in (None, "") else raw[0]
        word = values.get(given)
        return [ABSENT] if word is ABSENT else codec.get([word], context)

    def put(ours: Any, context: Context) -> Any:
        (word,) = codec.put(ours, context)
        return [word if word is ABSENT else values.put(word, field)]

    return replace(codec, get=get, put=put, one=None)


def compile_values(
    spec: Mapping[str, Any], *, reads_only: bool, wrong: Callable[[str], Exception]
) -> ValueMap | None:
    """The value map of a row, None if it has none."""
    given, unmapped, default = spec.get("values"), spec.get("unmapped"), spec.get("default")
    if given is None:
        if unmapped or default is not None:
            raise wrong("unmapped and default speak of values, and there are none")
        return None
    if not given:
        raise wrong("values: name at least one")
    if (unmapped == "default") != (default is not None):
        raise wrong("unmapped: default and default: VALUE belong together")
    words = {text(ours): text(theirs) for ours, theirs in given.items()}
    plain = None if default is None else text(default)
    back = {own: word for word, own in reversed(list(words.items()))}
    return ValueMap(words, back, unmapped or "hold", plain, reads_only)
