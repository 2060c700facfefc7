"""A YAML text with the line of every key, and the complaints about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import yaml

from app.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]

_VARIABLE: Final = re.compile(r"(\$?)\$\{([^}]*)\}")
_LONGEST_SHOWN: Final = 40


@dataclass(slots=True)
class Source:
    """What was written, where, and what is wrong with it.

    ``data`` holds text, lists and mappings only: a number or a yes/no is read as the text it
    was written as, and takes its type where it is used. So a stage called 0123 or Off stays
    what it is, and `${NAME}` works wherever a value does.
    """

    name: str = "configuration"
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    #: Values that came from the environment, as they were written.
    raw: dict[Path, str] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, name: str, environment: Mapping[str, str]) -> Source:
        """Parse; raises ConfigError where the text is not YAML at all."""
        source = cls(name)
        loader = yaml.CSafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                source.data = _Builder(source, loader, environment).build(node, (), ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{min(mark.line, text.count(chr(10))) + 1}" if mark else ""
            raise ConfigError(f"{name}{line}: this is not YAML: {error.problem}") from None
        except yaml.reader.ReaderError as error:
            number = text.count("\n", 0, error.position) + 1
            raise ConfigError(f"{name}:{number}: this is not YAML: {error.reason}") from None
        finally:
            loader.dispose()
        return source

    def where(self, path: Path) -> str:
        """`file:line: key`; the line of the nearest key above where it has none of its own."""
        if path and isinstance(path[-1], int) and path not in self.lines:
            path = path[:-1]  # one value, written without a list
        line = f":{number}" if (number := self._line(path)) else ""
        shown = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        return f"{self.name}{line}: {shown}" if shown else f"{self.name}{line}"

    def name_also(self, path: Path, other: Path) -> None:
        """Let a place be found under another spelling of its key."""
        if path in self.lines:
            self.lines.setdefault(other, self.lines[path])

    def blame(self, path: Path, complaint: str) -> None:
        """Note what is wrong with a key; the first complaint about a key is the one to keep."""
        self.problems.setdefault(path, complaint)

    def shown(self, path: Path, value: object) -> str:
        """The value for a complaint, with a space after it: as written, and never a secret."""
        if path in self.raw:
            return f"{self.raw[path]!r} "
        if is_secret(path) or not isinstance(value, str):
            return ""
        short = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…"
        return f"{short!r} "

    def check(self) -> None:
        """Raise ConfigError with every complaint, in the order of the file."""
        if self.problems:
            ordered = sorted(self.problems, key=self._line)
            raise ConfigError(
                "\n".join(f"{self.where(path)}: {self.problems[path]}" for path in ordered)
            )

    def _line(self, path: Path) -> int:
        return next((self.lines[near] for near in _upwards(path) if near in self.lines), 0)


_SECRETS = (("credentials",), ("webhook_secret",), ("outbound_token",))


def is_secret(path: Sequence[str | int]) -> bool:
    """Whether the value at this path must never be shown."""
    return path[:1] == ("accounts",) and path[2:3] in _SECRETS


def did_you_mean(wrong: str, right: Sequence[str]) -> str:
    """` (did you mean 'hubspot'?)`, or nothing."""
    near = get_close_matches(wrong, right, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _upwards(path: Path) -> list[Path]:
    return [path[:length] for length in range(len(path), -1, -1)]


class _Builder:
    """Turns composed nodes into plain data and remembers their lines."""

    def __init__(
        self, source: Source, loader: yaml.CSafeLoader, environment: Mapping[str, str]
    ) -> None:
        self.source = source
        self.loader = loader
        self.environment = environment

    def build(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        if node in above:
            self.source.blame(path, "refers to itself")
            return None
        above = (*above, node)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path, above)
            case yaml.SequenceNode():
                return [
                    self._at(line_of(item), item, (*path, number), above)
                    for number, item in enumerate(node.value)
                ]
        # A null is written plainly: empty, ~ or null. Quoted, it is text.
        if node.tag == "tag:yaml.org,2002:null":
            return None
        return self._filled(node.value, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        written: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                first = written.setdefault(key.value, line_of(key))
                if first != line_of(key):
                    twice = (*path, key.value)
                    self.source.lines[twice] = line_of(key)
                    self.source.blame(twice, f"is written twice (first on line {first})")
        self.loader.flatten_mapping(node)  # what `<<` brings comes first: our own keys win
        built: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.source.lines.setdefault(path, line_of(key))
                self.source.blame(path, f"a key on line {line_of(key)} is not text")
                continue
            built[key.value] = self._at(line_of(key), value, (*path, key.value), above)
        return built

    def _at(self, line: int, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        if path not in self.source.problems:
            self.source.lines[path] = line
        return self.build(node, path, above)

    def _filled(self, text: str, path: Path) -> str:
        """The text with each `${NAME}` replaced; `$${` stands for `${` itself."""

        def value(found: re.Match[str]) -> str:
            escaped, name = found.groups()
            if escaped:
                return found[0][1:]
            self.source.raw[path] = text
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                self.source.blame(path, f"'${{{name}}}' does not name an environment variable")
            elif name not in self.environment:
                self.source.blame(path, f"the environment variable {name} is not set")
            return self.environment.get(name, found[0])

        return _VARIABLE.sub(value, text)


def line_of(node: yaml.Node) -> int:
    """The line a node starts on, counted from one."""
    return int(node.start_mark.line) + 1
