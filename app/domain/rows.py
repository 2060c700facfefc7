"""One row of a mapping: canonical field(s), remote path(s), and everything between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, cast

from app.config import is_field, relations_of
from app.domain import activities
from app.domain.codecs import ABSENT, CODECS, Codec
from app.domain.conditions import Condition, compile_condition
from app.domain.owners import OWNER
from app.domain.stages import STAGE
from app.domain.templates import Template, compile_template
from app.domain.valuemaps import ValueMap, compile_values, mapped
from app.domain.values import Fields, Raw, Value
from app.errors import ConfigError

#: Every transform by its name in a mapping.
TRANSFORMS: Mapping[str, Codec] = {
    **CODECS,
    **activities.TRANSFORMS,
    "owner": OWNER,
    "stage": STAGE,
}

Direction = Literal["both", "from", "to", "off"]
_Compiled = TypeVar("_Compiled")
#: (field, path, how its value is read): a row without anything special.
Plain: TypeAlias = tuple[str, str, Callable[[Any], Value]]


@dataclass(frozen=True, slots=True)
class Made:
    """A value that is made for an account: by a template or a constant, under a condition."""

    content: Template | str
    when: Condition | None = None

    def of(self, fields: Mapping[str, Any]) -> Any:
        """The value for these fields; ABSENT where it does not apply."""
        if self.when is not None and not self.when.holds(fields):
            return ABSENT
        return self.content if isinstance(self.content, str) else self.content.render(fields)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a mapping.

    ``direction`` is seen from us: ``from`` reads only, ``to`` writes only. ``fills`` marks a
    blank that the vendor fills by itself when we write something else: that is no edit.
    ``create_only`` marks what the vendor lets nobody change afterwards.
    ``made`` are the ways to make the value, the first that applies: of our fields in a row
    that is written, of remote paths in one that is read. ``key`` and ``transform`` are words
    of the configuration.
    """

    fields: tuple[str, ...]
    paths: tuple[str, ...]
    codec: Codec
    direction: Direction = "both"
    only_if_blank: bool = False
    fills: bool = False
    create_only: bool = False
    key: str = ""
    transform: str = "text"
    values: ValueMap | None = None
    made: tuple[Made, ...] = ()
    when: Condition | None = None

    @property
    def is_read(self) -> bool:
        return self.direction in ("both", "from")

    @property
    def is_written(self) -> bool:
        return self.direction in ("both", "to")

    @property
    def looks_at_ours(self) -> bool:
        """Whether it is read under a condition on our own fields."""
        return self.direction == "both" and self.when is not None

    @property
    def plain(self) -> Plain | None:
        """What reads this row where one value at one place is all there is to it."""
        one = self.codec.one
        odd = self.made or self.when is not None or len(self.paths) != 1 or "[]" in self.paths[0]
        return None if one is None or odd else (self.fields[0], self.paths[0], one)

    def applies(self, fields: Mapping[str, Any]) -> bool:
        return self.when is None or self.when.holds(fields)

    @property
    def written_paths(self) -> tuple[str, ...]:
        """The paths that a write may set."""
        if not self.is_written:
            return ()
        return tuple(p for n, p in enumerate(self.paths) if n not in self.codec.shown)

    @property
    def read_paths(self) -> tuple[str, ...]:
        """The paths that a read, or its condition, looks at."""
        if self.direction == "off":
            return ()
        conditions = self.when.names if self.when and self.direction == "from" else ()
        return tuple(dict.fromkeys((*self.paths, *conditions)))

    def source(self, raw: Raw) -> list[Any] | None:
        """The remote values that this row reads; None where the vendor told nothing."""
        if self.direction == "from" and self.made:
            (way,) = self.made
            value = way.of({path: look_up(raw, path) for path in self.read_paths})
            return None if value is ABSENT else [value]
        if self.direction == "from" and self.when is not None:
            looked_at = {path: look_up(raw, path) for path in self.when.names}
            if not self.when.holds(looked_at):
                return None
        values = [raw[path] if path in raw else look_up(raw, path) for path in self.paths]
        if values[0] is ABSENT:
            return None
        return [None if value is ABSENT else value for value in values]

    def outgoing(self, fields: Fields) -> Any:
        """The value that is made for the account; ABSENT where no way applies."""
        return next((v for way in self.made if (v := way.of(fields)) is not ABSENT), ABSENT)


def look_up(raw: Raw, path: str) -> Any:
    """The value at a path, ABSENT if the vendor did not send it.

    ``a`` and flat keys with dots (``custom.cf_X``) come first; ``list[].key`` is that key of
    each element; ``list[]`` is the list itself.
    """
    if path in raw:
        return raw[path]
    name, brackets, key = path.partition("[]")
    if not brackets or name not in raw:
        return ABSENT
    items = raw[name] or []
    return [item.get(key[1:]) for item in items] if key else items


def compile_row(entity: str, key: str, given: Any, place: str) -> Row:
    """A row from YAML. Raises ConfigError naming the place for what cannot be used."""

    def wrong(complaint: str) -> ConfigError:
        return ConfigError(f"{place}: {complaint}")

    names = tuple(name.strip() for name in key.split(","))
    spec: Mapping[str, Any] = {"path": given} if isinstance(given, str) else given
    for name in names:
        if not is_field(entity, name):
            raise wrong(f"{name!r} is not a field of {entity}")
    paths = (spec["path"],) if spec.get("path") else tuple(spec.get("paths") or ())
    direction = cast(Direction, spec.get("direction") or "both")
    transform = spec.get("as") or "text"
    if transform not in TRANSFORMS:
        known = ", ".join(TRANSFORMS)
        raise wrong(f"unknown transform {transform!r}; known: {known}")
    if direction == "off":
        return Row(names, paths, TRANSFORMS[transform], direction, key=key)
    when = _compiled(spec.get("when"), compile_condition, "when", wrong)
    template = _compiled(spec.get("template"), compile_template, "template", wrong)
    content = template or spec.get("constant")
    if when is not None and direction != "from":
        _check_names(entity, when.names, "when", wrong)
    if content is not None:
        _check_made(entity, names, paths, direction, spec, template, wrong)
    elif not paths:
        raise wrong("name a path or paths")
    codec = TRANSFORMS[transform]
    shape = (len(names), 1 if content else len(paths))
    if codec.shape is not None and codec.shape != shape:
        many, places = codec.shape
        raise wrong(f"{transform} takes {_count(many, 'field')} and {_count(places, 'path')}")
    values = compile_values(spec, reads_only=direction == "from", wrong=wrong)
    if values is not None:
        if len(names) > 1 or len(paths) > 1:
            raise wrong("values belong to one field and one path")
        codec = mapped(codec, values, names[0])
    made: tuple[Made, ...] = ()
    if template is not None and direction == "both":
        codec = _around(template)
    elif content is not None:
        made = (Made(content, when),)
        if template is not None and direction == "from":
            paths = template.names
    return Row(
        names,
        paths,
        codec,
        direction,
        bool(spec.get("only_if_blank")),
        bool(spec.get("fills")),
        bool(spec.get("create_only")),
        key,
        transform,
        values,
        made,
        None if made and direction == "to" else when,
    )


def _check_made(
    entity: str,
    names: Sequence[str],
    paths: Sequence[str],
    direction: Direction,
    spec: Mapping[str, Any],
    template: Template | None,
    wrong: Callable[[str], ConfigError],
) -> None:
    """A template or a constant makes one value, and can be undone or goes one way."""
    what = "a constant" if template is None else "a template"
    if template is not None and spec.get("constant") is not None:
        raise wrong("names both template and constant; write one of them")
    if template is not None and not template.names:
        raise wrong("the template has no {{name}} in it; a fixed text is written constant: TEXT")
    if len(names) > 1:
        raise wrong(f"{what} makes one value: name one field")
    if direction == "from":
        if paths:
            raise wrong(f"{what} with direction: from names remote paths itself: leave out path")
        return
    if len(paths) != 1:
        raise wrong(f"{what} is written to one path: name it as path")
    if spec.get("as") or spec.get("values"):
        raise wrong(f"{what} is written as it is: leave out as and values, or use filters")
    if template is not None:
        _check_names(entity, template.names, "template", wrong)
    if direction == "both":
        if template is None:
            raise wrong("a constant goes one way: say direction: to, or from")
        if template.around is None or template.names != tuple(names):
            raise wrong(
                f"what the template makes cannot be read back: say direction: to; only text "
                f"around a single {{{{{names[0]}}}}} without filters goes both ways"
            )


def _check_names(
    entity: str, names: Sequence[str], what: str, wrong: Callable[[str], ConfigError]
) -> None:
    for name in names:
        if not is_field(entity, name):
            raise wrong(f"{what}: {name!r} is not a field of {entity}")
        if name in relations_of(entity):
            raise wrong(f"{what}: {name!r} is another record, not a value")


def _around(template: Template) -> Codec:
    """Texts around one value, which can be put on and taken off."""
    (name,) = template.names
    return Codec(
        get=lambda raw, _: [template.invert(raw[0])],
        put=lambda values, _: [
            values[0] if values[0] == "" else template.render({name: values[0]})
        ],
        shape=(1, 1),
    )


def _compiled(
    text: Any,
    compile: Callable[[str], _Compiled],
    what: str,
    wrong: Callable[[str], ConfigError],
) -> _Compiled | None:
    if text is None:
        return None
    try:
        return compile(str(text))
    except ValueError as error:
        raise wrong(f"{what}: {error}") from None


def _count(number: int, noun: str) -> str:
    return (
        f"{('one', 'two', 'three', 'four', 'five')[number - 1]} {noun}{'s' if number > 1 else ''}"
    )
