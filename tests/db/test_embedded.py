"""The embedded PostgreSQL: real servers, started, shared, killed and stopped."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.db import embedded
from app.db.embedded import EmbeddedPostgresError, Server

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="for root alone")


@contextlib.contextmanager
def using(home: Path) -> Iterator[Server]:
    try:
        yield embedded.start(home)
    finally:
        embedded.stop(home)


def open_up(directory: Path) -> Path:
    """pytest makes its directories 0700; root's server must be able to walk to its data."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for parent in (directory, *directory.parents):
        if parent.is_relative_to(temporary) and parent != temporary:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own; its server, if any, is stopped at the end."""
    yield open_up(tmp_path) / "home"
    embedded.stop(tmp_path / "home")


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A home and its running server, for tests that only look."""
    home = open_up(tmp_path_factory.mktemp("lived-in")) / "home"
    with using(home) as server:
        yield home, server


def secret_file(home: Path) -> Path:
    return home / "postgres" / "server.json"


def postmaster(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


async def ask(url: str, question: str) -> object:
    db = await asyncpg.connect(url, timeout=10)
    try:
        return await db.fetchval(question)
    finally:
        await db.close()


async def remember(url: str, word: str) -> None:
    db = await asyncpg.connect(url, timeout=10)
    try:
        await db.execute("create table if not exists words (word text)")
        await db.execute("insert into words values ($1)", word)
    finally:
        await db.close()


def start_elsewhere(home: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    """Start the server in another process, which then runs `code` and ends."""
    program = (
        "import sys; from pathlib import Path; from app.db import embedded;"
        f"server = embedded.start(Path(sys.argv[1])); {code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


async def test_rows_are_there_after_stop_and_start(home):
    with using(home) as first:
        await remember(first.url, "ada")
        assert first.started_here
        assert embedded.running(home)
    assert not embedded.running(home)
    with using(home) as second:
        assert await ask(second.url, "select word from words") == "ada"
        assert second.url == first.url


async def test_rows_are_there_after_a_kill_of_the_server(home):
    first = embedded.start(home)
    await remember(first.url, "ada")
    os.kill(postmaster(first), signal.SIGKILL)
    with using(home) as second:
        assert second.started_here
        assert await ask(second.url, "select word from words") == "ada"


async def test_a_second_start_finds_the_running_server(home):
    with using(home) as first:
        second = embedded.start(home)
        assert second.url == first.url
        assert not second.started_here


async def test_another_process_shares_the_server(home):
    with using(home) as server:
        other = start_elsewhere(home, "print(server.url, server.started_here)")
        assert other.stdout.split() == [server.url, "False"]
        assert await ask(server.url, "select 1") == 1


def test_of_many_who_start_at_once_one_does(home):
    program = (
        "import sys; from pathlib import Path; from app.db import embedded;"
        "server = embedded.start(Path(sys.argv[1]));"
        "print(server.url, server.started_here, flush=True);"
        "sys.stdin.read()"  # until the test has heard everyone
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(home)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    heard = [starter.stdout.readline().split() for starter in starters if starter.stdout]
    for starter in starters:
        starter.communicate()
    assert len({url for url, _ in heard}) == 1
    assert sorted(first for _, first in heard) == ["False", "False", "True"]


async def test_whoever_comes_after_a_dead_starter_is_the_one_to_stop_the_server(home):
    start_elsewhere(home)
    with using(home) as server:
        assert server.started_here
        assert not embedded.start(home).started_here


def test_stop_without_a_server_does_nothing(tmp_path):
    embedded.stop(tmp_path)
    assert not embedded.running(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_reads_the_password(lived_in):
    home, server = lived_in
    password = json.loads(secret_file(home).read_text())["password"]
    assert stat.S_IMODE(secret_file(home).stat().st_mode) == 0o600
    assert password in server.url
    assert password not in repr(server)


async def test_a_wrong_password_is_refused(lived_in):
    home, server = lived_in
    password = json.loads(secret_file(home).read_text())["password"]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url.replace(password, "guess"))


async def test_what_is_committed_reaches_the_disk(lived_in):
    _, server = lived_in
    for promise in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert await ask(server.url, f"show {promise}") == "on"


async def test_text_is_utf_8_and_letters_have_a_case_beyond_ascii(lived_in):
    _, server = lived_in
    assert await ask(server.url, "show server_encoding") == "UTF8"
    assert await ask(server.url, "select lower('ÅÉÜ')") == "åéü"
    assert await ask(server.url, "show timezone") == "UTC"


async def test_there_is_no_socket_file(lived_in):
    home, server = lived_in
    assert await ask(server.url, "show unix_socket_directories") == ""
    assert not [path for path in home.rglob("*") if path.is_socket()]


async def test_only_this_machine_is_answered(lived_in):
    _, server = lived_in
    assert await ask(server.url, "show listen_addresses") == "127.0.0.1"
    # 127.0.0.2 is this machine too, but not the address we listen on.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", urlsplit(server.url).port or 0), timeout=5)


async def test_a_port_taken_by_another_is_given_up(home):
    with using(home):
        pass
    port = json.loads(secret_file(home).read_text())["port"]
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # then another has it already
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        server = embedded.start(home)
        assert f":{port}/" not in server.url
        assert await ask(server.url, "select 1") == 1


async def test_another_homes_server_at_our_port_is_not_taken_for_ours(home):
    with using(home) as first:
        await remember(first.url, "ada")
    stranger = home.parent / "stranger"
    with using(stranger):
        ours, theirs = (json.loads(secret_file(h).read_text()) for h in (home, stranger))
        secret_file(home).write_text(json.dumps({**ours, "port": theirs["port"]}))
        assert not embedded.running(home)
        with using(home) as second:
            assert await ask(second.url, "select word from words") == "ada"


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs /proc")
async def test_a_lock_file_naming_another_program_does_not_keep_us_out(home):
    server = embedded.start(home)
    lock = server.data / "postmaster.pid"
    left = lock.read_text().splitlines()
    embedded.stop(home)
    # As after a crash of a container, where process numbers start again.
    lock.write_text("\n".join([str(os.getpid()), *left[1:]]) + "\n")
    with using(home) as again:
        assert await ask(again.url, "select 1") == 1


def test_data_of_another_version_is_refused_with_what_to_do(home):
    with using(home) as server:
        pass
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError) as refused:
        embedded.start(home)
    text = str(refused.value)
    assert "written by PostgreSQL 9" in text
    assert str(server.data) in text
    assert "pg_dumpall" in text
    assert "PG_BIN" in text


def test_a_pg_bin_without_a_server_is_refused(home, monkeypatch):
    monkeypatch.setenv("PG_BIN", "/nowhere/bin")
    with pytest.raises(EmbeddedPostgresError, match="PG_BIN"):
        embedded.start(home)


def test_a_server_that_cannot_start_shows_its_log(home):
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        embedded.start(home, settings={"no_such_setting": "1"})


def test_lost_data_is_not_replaced_by_nothing(home):
    with using(home) as server:
        pass
    server.data.rename(server.data.with_name("elsewhere"))
    with pytest.raises(EmbeddedPostgresError, match="is gone"):
        embedded.start(home)


def test_a_lost_password_is_not_replaced_by_another(home):
    with using(home):
        pass
    secret_file(home).unlink()
    with pytest.raises(EmbeddedPostgresError, match="password is lost"):
        embedded.start(home)


@AS_ROOT
async def test_roots_server_runs_as_someone_else_and_keeps_its_data_to_itself(home):
    with using(home) as server:
        info = server.data.stat()
        assert info.st_uid != 0
        assert stat.S_IMODE(info.st_mode) == 0o700
        assert Path(f"/proc/{postmaster(server)}").stat().st_uid == info.st_uid
        assert await ask(server.url, "select 1") == 1


@AS_ROOT
async def test_a_home_nobody_else_may_enter_keeps_its_data_elsewhere(home, monkeypatch):
    public = home.parent / "public"
    monkeypatch.setattr(embedded, "PUBLIC", public)
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    with using(closed / "home") as server:
        await remember(server.url, "ada")
        assert server.data.is_relative_to(public)
        assert (server.data.parent / "home").read_text().strip() == str(closed / "home")
    with using(closed / "home") as server:
        assert await ask(server.url, "select word from words") == "ada"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@AS_ROOT
def test_a_directory_of_someone_elses_is_not_used(home, monkeypatch):
    public = home.parent / "public"
    public.mkdir()
    os.chown(public, 65534, -1)
    monkeypatch.setattr(embedded, "PUBLIC", public)
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="not a directory of root's"):
        embedded.start(closed / "home")
