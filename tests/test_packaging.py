"""What a stranger gets: the lock, the containers, the one command. Linted, not run."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import app

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())

ENVIRONMENT = {
    "DATABASE_URL",
    "SYNCLINE_HOME",
    "SYNCLINE_CONFIG",
    "SYNCLINE_API_TOKEN",
    "SYNCLINE_SECRET_KEYS",
    "PUBLIC_URL",
    "CLOSE_API_KEY",
    "CLOSE_WEBHOOK_SECRET",
    "HUBSPOT_ACCESS_TOKEN",
    "HUBSPOT_CLIENT_SECRET",
    "SALESFORCE_CLIENT_ID",
    "SALESFORCE_USERNAME",
    "SALESFORCE_PRIVATE_KEY",
    "SALESFORCE_CLIENT_SECRET",
    "SALESFORCE_PASSWORD",
    "SALESFORCE_SECURITY_TOKEN",
    "SALESFORCE_WEBHOOK_SECRET",
    "SALESFORCE_LOGIN_URL",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def lint(program: str, *arguments: str) -> None:
    """Run a linter that sits beside this Python; what it says is the failure."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_follows_the_compose_schema():
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_dockerfile_is_clean():
    lint("hadolint", "Dockerfile")


def test_the_ci_script_is_clean():
    lint("shellcheck", ".ci/run")


def test_the_database_is_not_published(compose):
    assert "ports" not in compose["services"]["postgres"]


def test_our_containers_can_change_nothing_but_the_database(compose):
    for name in ("migrate", "api", "worker"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.M) == ["10001"]


def test_nothing_of_ours_runs_before_the_schema_is_there(compose):
    services = compose["services"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("api", "worker"):
        needs = services[name]["depends_on"]
        assert needs["migrate"]["condition"] == "service_completed_successfully"


def test_dev_and_the_image_install_the_same_uv():
    in_dev = re.search(r'^UV = "([\d.]+)"', (ROOT / "dev").read_text(), re.M)
    in_image = re.search(r"uv==([\d.]+)", (ROOT / "Dockerfile").read_text())
    assert in_dev
    assert in_image
    assert in_dev[1] == in_image[1]


def test_dev_needs_the_standard_library_alone():
    tree = ast.parse((ROOT / "dev").read_text(), feature_version=(3, 11))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


VERBS = set(
    "setup run test lint migrate bench profile figures prove prove-full chaos clean".split()
)


def test_dev_says_what_it_can_do():
    done = subprocess.run(
        [sys.executable, ROOT / "dev"], capture_output=True, text=True, check=True
    )
    verbs = set(re.findall(r"\./dev ([\w-]+)  *\w", done.stdout))
    assert verbs == VERBS


def test_make_knows_every_verb_of_dev():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = set(re.findall(r"make ([\w-]+)", done.stdout))
    assert targets == VERBS | {"help"}


def test_the_example_environment_names_exactly_the_documented_variables():
    named = re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M)
    assert sorted(named) == sorted(ENVIRONMENT)


def test_the_example_environment_sets_nothing_by_itself():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_lock_names_the_public_registry_alone():
    sources = {url for package in LOCK["package"] if (url := package["source"].get("registry"))}
    assert sources == {"https://pypi.org/simple"}
    text = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r'url = "(https?://[^/"]+)', text)) == {"https://files.pythonhosted.org"}


def test_every_locked_file_has_a_hash():
    files = [
        file
        for package in LOCK["package"]
        for file in [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
    ]
    assert files
    assert all(file["hash"].startswith("sha256:") for file in files)


def test_package_and_project_say_the_same_version():
    assert app.__version__ == PROJECT["project"]["version"]
