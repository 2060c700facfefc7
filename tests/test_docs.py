"""What the pages say is so: every name is explained, every link leads somewhere, snippets work."""

from __future__ import annotations

import ast
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from fastapi import FastAPI
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from typer.main import get_command

import app
from app import config as configuration
from app import errors, main, metrics
from app.api import problems
from app.api.problems import Kind
from app.cli import app as commands
from app.cli import house
from app.config import FIELDS, Config, model
from app.db.engine import Database
from app.sdk.registry import Registry
from app.settings import Settings
from sandbox.__main__ import arguments as sandbox_arguments
from tests.sync.test_alerts import TROUBLES

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "app", "sandbox", "bench", "tests")
PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")),
]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.S | re.M)
_EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```python\n(.*?)^```$", re.S | re.M)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


EVERYTHING = "\n".join(map(text_of, PAGES))
#: What stands in `code` outside of blocks.
SPANS = [span for page in PAGES for span in re.findall(r"`([^`\n]+)`", prose_of(page))]
WORDS = {word for span in SPANS for word in re.findall(r"[\w.-]+", span)}


@dataclass(frozen=True)
class Snippet:
    """A fenced block: where it stands, what it is, and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def snippets(*languages: str) -> list[Any]:
    """Every block in one of these languages, as a parameter named by its place."""
    found = [
        Snippet(page, text_of(page)[: m.start()].count("\n") + 1, m[2], textwrap.dedent(m[3]))
        for page in PAGES
        for m in _FENCE.finditer(text_of(page))
        if m[2] in languages
    ]
    return [pytest.param(snippet, id=str(snippet)) for snippet in found]


# ------------------------------------------------------------------ every name is explained


@pytest.mark.parametrize("name", sorted(str(i.alias) for i in Settings.model_fields.values()))
def test_every_environment_variable_is_documented(name):
    assert name in WORDS


def keys() -> set[str]:
    """The keys of every part of the configuration."""
    parts = (value for name, value in vars(model).items() if name[0] != "_")
    models = [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]
    return {i.alias or key for part in models for key, i in part.model_fields.items()}


@pytest.mark.parametrize("key", sorted(keys()))
def test_every_configuration_key_is_documented(key):
    assert key in WORDS


@pytest.mark.parametrize("entity", FIELDS)
def test_every_canonical_field_is_documented(entity):
    page = prose_of(ROOT / "docs/configuration.md")
    (row,) = re.findall(rf"^\| {entity} \| (.*) \|$", page, re.M)
    assert row.replace("`", "").split(", ") == list(FIELDS[entity])


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.logs.configure", lambda settings: None)
        given = Settings(secret_keys=(SecretStr(house.new_key()),))
        front = main.create_app(given, Config(), Database("postgresql://nobody@127.0.0.1/none"))
    inner: Any = front
    while not isinstance(inner, FastAPI):
        inner = inner.inner
    schema: dict[str, Any] = inner.openapi()
    return schema


def test_every_endpoint_and_its_parameters_are_documented(openapi):
    lines = text_of(ROOT / "docs/api.md").splitlines()
    missing = []
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            call = f"`{method.upper()} {path}`"
            line = next((line for line in lines if call in line), None)
            if line is None:
                missing.append(call)
                continue
            asked = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            missing += [
                f"{call} ?{name}="
                for name in asked
                if name not in ("cursor", "limit") and f"{name}=" not in line
            ]
    assert missing == []


def test_no_endpoint_is_documented_that_is_not_there(openapi):
    known = {(m.upper(), p) for p, ops in openapi["paths"].items() for m in ops}
    api = prose_of(ROOT / "docs/api.md")
    named = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s]*)`", api))
    assert named - known == set()


def test_every_kind_of_problem_is_documented():
    kinds = {(v.status, v.slug) for v in vars(problems).values() if isinstance(v, Kind)}
    page = text_of(ROOT / "docs/api.md")
    rows = re.findall(r"^\| (\d{3}) \| ((?:`[a-z-]+`(?:, )?)+) \|", page, re.M)
    told = {(int(s), slug.strip("`")) for s, slugs in rows for slug in slugs.split(", ")}
    assert kinds == told


def leaves(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command of the tree."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from leaves(child, *path, name)


@pytest.mark.parametrize("path", [" ".join(path) for path in leaves(get_command(commands))])
def test_every_command_is_documented(path):
    assert any(re.match(rf"syncline {path}(?![\w-])", span) for span in SPANS)


@pytest.mark.parametrize(
    "name",
    [n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)],
)
def test_every_error_is_documented(name):
    assert name in WORDS


@pytest.mark.parametrize("kind", sorted(TROUBLES))
def test_every_alert_has_its_meaning_and_what_to_do(kind):
    assert re.search(rf"^\| `{kind}` \| .+ \| .+ \|$", text_of(ROOT / "docs/operations.md"), re.M)


METRICS = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: str(metric._name))
def test_every_metric_and_its_labels_are_documented(metric):
    name = f"{metric._name}_total" if metric._type == "counter" else metric._name
    labels = ", ".join(metric._labelnames)
    row = f"| `{name}` | {metric._type} | {labels} |"
    assert row in text_of(ROOT / "docs/operations.md")


def handled() -> Iterator[str]:
    for connector in Registry.load().connectors.values():
        yield from connector.manifest.webhook.events


@pytest.mark.parametrize("event", sorted(handled()))
def test_every_handled_event_is_documented(event):
    assert f"`{event}`" in text_of(ROOT / "docs/api.md")


def log_lines() -> set[str]:
    """The name of every line that is written at any level."""
    levels = r"\.(?:debug|info|warning|error|exception)|write"
    call = re.compile(rf"(?:{levels})\(\s*\"([a-z_]+\.[a-z_]+)\"")
    return {m for file in (ROOT / "app").rglob("*.py") for m in call.findall(file.read_text())}


@pytest.mark.parametrize("line", sorted(log_lines()))
def test_every_log_line_is_documented(line):
    assert f"`{line}`" in text_of(ROOT / "docs/operations.md")


def test_no_log_line_is_documented_that_is_not_written():
    page = text_of(ROOT / "docs/operations.md")
    table = page.partition("## Log lines")[2].partition("## Metrics")[0]
    children = {f"{child}.{fate}" for child in ("worker", "sandbox") for fate in ("died", "killed")}
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table)) - log_lines() - children == set()


def test_hubspots_subscriptions_are_those_of_the_mapping():
    source = (ROOT / "app/connectors/hubspot/mapping.yaml").read_text()
    mapping = yaml.safe_load(source)
    for entity, label in (("company", "company"), ("person", "contact"), ("deal", "deal")):
        rows = [row if isinstance(row, dict) else {"path": row} for row in mapping[entity].values()]
        wanted = {path for row in rows for path in row.get("paths") or [row["path"]]}
        (told,) = re.findall(
            rf"^ *\| {label} \| property changed: (.*) \|$", text_of(ROOT / "README.md"), re.M
        )
        assert set(re.findall(r"`(\w+)`", told)) == wanted


def test_the_changelog_knows_this_version():
    assert f"## {app.__version__}" in text_of(ROOT / "CHANGELOG.md")


# ------------------------------------------------------------------- every link leads somewhere


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose_of(page), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {
        slug if not n else f"{slug}-{n}" for slug, count in found.items() for n in range(count + 1)
    }


def links_of(page: Path) -> Iterator[str]:
    plain = re.sub(r"`[^`\n]*`", "", prose_of(page))
    yield from re.findall(r"\]\(<?([^)\s>]+)>?\)", plain)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_and_anchor_resolves(page):
    broken = []
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links_of(page))
        waiting += [t for t in targets if t.suffix == ".md" and t.exists() and t not in reached]
    docs = {page for page in PAGES if (ROOT / "docs") in page.parents}
    assert sorted(name_of(page) for page in docs - reached) == []


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"\b(tests/[\w/]+\.py)::(test_\w+)", EVERYTHING))
    missing = {
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).exists()
        or not re.search(rf"^ *(async )?def {test}\(", (ROOT / file).read_text(), re.M)
    }
    assert named
    assert sorted(missing) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page):
    named = re.findall(
        r"`((?:app|tests|sandbox|docs|alembic)/[\w./-]+\.\w+|docker-compose\.yml)`", text_of(page)
    )
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_place_on_somebodys_machine(page):
    assert re.findall(r"(?<![\w.*}])/(?:work|root|home|Users)/\S*", text_of(page)) == []


# --------------------------------------------------------------------------- snippets work


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the pages show by name."""
    for page in PAGES:
        for name, text in _EXAMPLE.findall(text_of(page)):
            (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: What the environment holds, by the end of a variable's name.
_GIVEN = {
    "URL": "https://there.example/x",
    "KEY": (ROOT / "sandbox/salesforce/private_key.pem").read_text(),
}
ACCOUNTS = """
accounts:
  close: {connector: close, credentials: {api_key: key}}
  hubspot: {connector: hubspot, credentials: {access_token: token}}
"""


@pytest.mark.parametrize("snippet", snippets("yaml"))
def test_yaml_is_yaml_and_a_configuration_is_one(snippet, examples):
    documents = list(yaml.safe_load_all(snippet.text))
    for command in commands_in(documents):
        parse_command(command[1:], snippet)
    if len(documents) != 1 or not set(documents[0]) <= set(Config.model_fields):
        return
    registry = Registry.load()
    read = configuration.parse(
        snippet.text if "accounts" in documents[0] else ACCOUNTS + snippet.text,
        lambda name: registry.connector(name).manifest.entities,
        name=str(snippet),
        environment={
            name: _GIVEN.get(name.rpartition("_")[2], "1234")
            for name in re.findall(r"\$\{(\w+)\}", snippet.text)
        },
    )
    house.check(read)


def commands_in(data: Any) -> Iterator[list[str]]:
    """Argument lists of ours in a document of another tool."""
    if isinstance(data, dict):
        for value in data.values():
            yield from commands_in(value)
    elif isinstance(data, list):
        if data[:1] == ["syncline"] and len(data) > 1:
            yield data
        for item in data:
            yield from commands_in(item)


@pytest.mark.parametrize("snippet", snippets("python"))
def test_python_compiles_and_handlers_register(snippet, tmp_path):
    compile(snippet.text, str(snippet), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if re.search(r"^@on\(", snippet.text, re.M):
        file = tmp_path / "handlers_of_the_page.py"
        file.write_text(snippet.text)
        Registry.load([str(file)])


@pytest.mark.parametrize("snippet", snippets("json"))
def test_json_is_json(snippet):
    json.loads(snippet.text)


@pytest.mark.parametrize("snippet", snippets("sql"))
async def test_sql_runs_on_our_schema(snippet, database):
    async with database.transaction() as db:
        for statement in filter(str.strip, snippet.text.split(";")):
            await db.execute(sa.text(statement))


@pytest.mark.parametrize("snippet", snippets("bash"))
def test_commands_in_a_shell_parse(snippet):
    for line in snippet.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "syncline" in words and words[0] in ("syncline", "docker"):
            parse_command(words[words.index("syncline") + 1 :], snippet)
        elif words[1:3] == ["-m", "sandbox"] and "--help" not in words:
            sandbox_arguments().parse_args(words[3:])
        elif words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), line


def inline() -> list[Any]:
    """Commands within a sentence; they may leave out what they need."""
    found = sorted({span for span in SPANS if re.match(r"syncline [a-z]", span)})
    return [pytest.param(span, id=span) for span in found]


@pytest.mark.parametrize("span", inline())
def test_commands_in_a_sentence_parse(span):
    parse_command(shlex.split(span)[1:], span, complete=False)


def parse_command(words: list[str], where: object, *, complete: bool = True) -> None:
    """Read a command line as the program would, without running it."""
    command: Any = get_command(commands)
    words = [word for word in words if word not in ("--json", "…")]
    while getattr(command, "commands", None) is not None:
        assert words, f"{where}: no command is named"
        assert words[0] in command.commands, f"{where}: there is no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    try:
        command.make_context(command.name, words)
    except Exception as error:
        if complete or type(error).__name__ != "MissingParameter":
            raise AssertionError(f"{where}: {command.name}: {error}") from error


def test_the_sandbox_has_the_controls_that_are_documented():
    from sandbox.control import controls

    page = text_of(ROOT / "docs/sandbox.md")
    rows = re.findall(r"^\| (`.+?) \|", page.partition("## Controls")[2], re.M)
    missing = [
        f"{route.method} {route.template}"
        for route in controls._routes
        if not any(route.method in row and f"{route.template}`" in row for row in rows)
    ]
    assert missing == []


def test_what_the_local_crms_do_by_themselves_is_documented():
    from sandbox.close.options import CloseOptions
    from sandbox.hubspot.options import HubSpotOptions
    from sandbox.salesforce.options import SalesforceOptions
    from sandbox.salesforce.org import people

    page = text_of(ROOT / "docs/sandbox.md")
    kinds = (CloseOptions, HubSpotOptions, SalesforceOptions)
    names = {field.name for kind in kinds for field in fields(kind)}
    assert {name for name in names if f"`{name}`" not in page} == set()
    paths = {route.template.partition("{")[0] for route in people._routes}
    assert {path for path in paths if path not in page} == set()


# --- promises and their proofs ----------------------------------------------------------------

PROMISES = ROOT / "docs" / "consistency.md"


@cache
def found_in(file: str) -> frozenset[str]:
    """The names of the tests in a file; none if it is not there."""
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_test_that_a_page_names_exists():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", EVERYTHING))
    assert len(named) > 40
    assert sorted(f"{file}::{name}" for file, name in named if name not in found_in(file)) == []


def test_every_promise_names_a_test_that_proves_it():
    promised, _, _ = text_of(PROMISES).partition("## What is not promised")
    promises = re.split(r"^(?=\*\*|## )", promised, flags=re.M)
    bare = [text for text in promises if text.startswith("**") and "* `tests/" not in text]
    assert bare == []
