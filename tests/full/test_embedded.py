"""The first minute: no configuration, no database, one command, and what it leaves behind."""

import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.full.harness import Crms, Program, clean_environment, client, free_port, until


def _processes_of(home: Path) -> dict[int, str]:
    """What runs with this SYNCLINE_HOME in its environment, however it was started."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"SYNCLINE_HOME={home}".encode() in environment and state != "Z":
            found[int(folder.name)] = command
    return found


class Run:
    """One `syncline serve` on this home and port, and what it prints."""

    def __init__(self, folder: Path, port: int, number: int) -> None:
        self.home = folder / "home"
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.program = Program(
            f"serve-{number}",
            ["-m", "app.cli", "serve", "--port", str(port)],
            folder,
            clean_environment(SYNCLINE_HOME=str(self.home), COLUMNS="300"),
        )

    async def said(self) -> str:
        return self.program.said()

    async def start(self) -> str:
        """The banner."""
        await self.program.start()
        await self.program.listens(self.port, within=90)

        async def banner() -> str:
            text = self.program.said(100_000)
            return text if "Ctrl-C stops everything" in text else ""

        return await until(banner, why=self.said)


def _curl(banner: str) -> tuple[str, dict[str, Any], tuple[str, str], Any]:
    """URL, headers, credentials and body of the line that the banner tells us to paste."""
    (line,) = [line for line in banner.splitlines() if line.strip().startswith("curl ")]
    words = shlex.split(line)[1:]
    headers: dict[str, Any] = {}
    url, user, body = "", "", ""
    given = iter(words)
    for word in given:
        match word:
            case "-u":
                user = next(given)
            case "-H":
                name, _, value = next(given).partition(": ")
                headers[name] = value
            case "-d":
                body = next(given)
            case "-s":
                pass
            case _:
                url = word
    name, _, password = user.partition(":")
    return url, headers, (name, password), json.loads(body)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
async def test_one_command_brings_everything_up_and_ctrl_c_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    port = free_port()
    run = Run(tmp_path, port, 1)
    try:
        await _first_run(run)
        again = Run(tmp_path, port, 2)
        await _second_run(again)
        await _third_run(Run(tmp_path, port, 3))
    finally:
        for pid in _processes_of(run.home):
            os.kill(pid, signal.SIGTERM)


async def _first_run(run: Run) -> None:
    banner = await run.start()
    assert f"{run.url}/docs" in banner
    assert f"{run.url}/health/lanes" in banner
    (token,) = re.findall(r"Token\s+(\S{30,})", banner)
    assert "shown once" in banner
    (sandbox,) = re.findall(r"Sandbox\s+(http://127\.0\.0\.1:\d+)/", banner)
    running = _processes_of(run.home)
    for part in ("app.cli serve", "app.cli worker", "sandbox", "postgres"):
        assert any(part in command for command in running.values()), (part, running)

    async with client(run.url, token=token) as http:
        answer = await http.get("/api/accounts")
        names = {account["name"] for account in answer.json()["items"]}
        assert names == {"close", "hubspot", "salesforce"}
    url, headers, credentials, body = _curl(banner)
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        answer = await http.post(url, headers=headers, auth=credentials, json=body)
    assert answer.status_code == 200, answer.text
    (email,) = [e["email"] for c in body["contacts"] for e in c["emails"]]

    async with client(sandbox) as http:
        crms = Crms(sandbox, run.program, http)
        crms.hubspot.portal = None

        async def arrived() -> Any:
            return await crms.hubspot.find("contacts", email=email)

        (ada,) = await until(arrived, why=run.said, within=30)
        (company,) = await crms.hubspot.find("companies", name=body["name"])
        assert list(await crms.hubspot.links("contacts", ada["id"], "companies")) == [company["id"]]
        await crms.hubspot.edit("contacts", ada["id"], jobtitle="Countess")

        async def returned() -> bool:
            (contact,) = await crms.close.all("contact")
            there = await crms.salesforce.find("Contact", Email=email, Title="Countess")
            return bool(contact["title"] == "Countess" and there)

        await until(returned, why=run.said, within=30)
        page = await http.get("/")
        assert body["name"] in page.text

    for file in run.home.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert file.stat().st_mode & 0o077 == 0, f"{file} can be read by others"

    assert await run.program.stop(signal.SIGINT) == 0
    await _nothing_is_left(run)


async def _second_run(run: Run) -> None:
    banner = await run.start()
    assert "shown once" not in banner
    token = (run.home / "api-token").read_text().strip()
    sandbox = re.findall(r"Sandbox\s+(http://127\.0\.0\.1:\d+)/", banner)[0]
    async with client(run.url, token=token) as http:
        found = (await http.get("/api/records", params={"entity": "person"})).json()["items"]
        assert [record["fields"]["title"] for record in found] == ["Countess"]
    async with client(sandbox) as http:
        crms = Crms(sandbox, run.program, http)
        crms.hubspot.portal = None
        (contact,) = await crms.close.all("contact")
        await crms.close.edit("contact", contact["id"], title="Programmer")

        async def arrived() -> bool:
            (ada,) = await crms.hubspot.all("contacts")
            return bool(ada["jobtitle"] == "Programmer")

        await until(arrived, why=run.said, within=30)

    # The others notice that their parent was killed.
    await run.program.kill()

    async def only_the_database() -> bool:
        return all("postgres" in command for command in _processes_of(run.home).values())

    await until(only_the_database, within=40)


async def _third_run(run: Run) -> None:
    """After a kill -9, with the database of that run still there."""
    await run.start()
    token = (run.home / "api-token").read_text().strip()
    async with client(run.url, token=token) as http:
        found = (await http.get("/api/records", params={"entity": "person"})).json()["items"]
        assert [record["fields"]["title"] for record in found] == ["Programmer"]
    assert await run.program.stop(signal.SIGTERM) == 0
    await _nothing_is_left(run)


async def _nothing_is_left(run: Run) -> None:
    async def gone() -> bool:
        return not _processes_of(run.home)

    async def why() -> str:
        return f"{_processes_of(run.home)}\n{run.program.said()}"

    await until(gone, why=why, within=5)
