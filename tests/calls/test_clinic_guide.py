"""The guide that builds a clinic, played from beginning to end: its files, its commands, their answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.calls.harness import CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "clinic.md"
NUMBER = "+14155550120"
APPOINTMENT = "I would like to make an appointment."
_PART = re.compile(r"^## (?P<title>[^\n]+)$|^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"[Ss]ave\s+(?:this|what\s+it\s+would\s+answer)\s+as\s+`([\w.]+)`:\s*\Z")
# Stands for `voicebot` on the path: has it run by a process that has loaded it (see tests/forked.py).
_COMMAND = """#!{python} -S
import json, socket, sys
with socket.socket(socket.AF_UNIX) as desk:
    desk.connect("{desk}")
    desk.sendall(json.dumps([sys.argv[1:], sys.stdin.read()]).encode())
    desk.shutdown(socket.SHUT_WR)
    status, printed = json.load(desk.makefile())
print(printed, end="")
sys.exit(status)
"""
_TIME = re.compile(r"\d+(?:\.\d+)? m?s\b")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the guide: a heading, a file to save, a command to run, or what that answers."""

    kind: str
    text: str
    file: str = ""


def steps() -> Iterator[Step]:
    """The guide, in order."""
    guide = GUIDE.read_text(encoding="utf-8")
    for found in _PART.finditer(guide):
        saved_as = _SAVED_AS.search(guide[: found.start()])
        if found["title"]:
            yield Step("heading", found["title"])
        elif saved_as:
            yield Step("file", found["text"], saved_as[1])
        else:
            yield Step("command" if found["kind"] == "sh" else found["kind"], found["text"])


class Shell:
    """A bash process that keeps its state; it ends at the first command that fails."""

    def __init__(self, process: Process, blocks: Path) -> None:
        self._process = process
        self._blocks = blocks

    async def run(self, block: str) -> str:
        """Run a block of commands and return its output."""
        self._blocks.write_text(block)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f". {self._blocks} < /dev/null; printf '\\0'\n".encode())
        async with asyncio.timeout(90):
            printed = await self._process.stdout.readuntil(b"\0")
        return printed[:-1].decode()


@asynccontextmanager
async def shell(home: Path, environment: dict[str, str]) -> AsyncIterator[Shell]:
    """Start a bash in the directory `work`, with `voicebot` on its path and no other variables."""
    (home / "work").mkdir()
    command = home / "voicebot"
    command.write_text(_COMMAND.format(python=sys.executable, desk=home / "desk"))
    command.chmod(0o755)
    around = {"HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        arguments, stdin = json.loads(await reader.read())
        ran = await forked.run(arguments, stdin=stdin, environment=around, cwd=home / "work")
        writer.write(json.dumps([ran.status, ran.out + ran.err]).encode())
        writer.close()

    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd=home / "work",
        env={"PATH": f"{home}:{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        async with await asyncio.start_unix_server(serve, home / "desk"):
            yield Shell(process, home / "block.sh")
    finally:
        process.kill()
        await process.wait()


def matches(expected: Any, got: Any) -> bool:
    """Return whether JSON matches the guide's, which may leave out members, but no items."""
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(
            name in got and matches(value, got[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(got, list) and len(expected) == len(got) and all(map(matches, expected, got))
    return bool(expected == got)


def lines(text: str) -> list[str]:
    """Return the lines of a text without the times in them."""
    return [_TIME.sub("# s", line).rstrip() for line in text.splitlines()]


def check(step: Step, printed: str) -> None:
    """Compare an output that the guide shows with what was printed."""
    if step.kind == "json":
        got = json.loads(printed.strip().splitlines()[-1])
        assert matches(json.loads(step.text), got), json.dumps(got, indent=1, ensure_ascii=False)
        return
    rest = iter(lines(printed))
    for line in lines(step.text):
        assert line in rest, f"{line!r} is not (or not there) in\n{printed}"


@pytest.fixture
async def harness(database_url: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """Calls with real speech, in the only account of a database."""
    async with started(database_url, tmp_path, spoken=True) as it:
        yield it


@pytest.mark.long
@pytest.mark.timeout(300)  # six commands that load the program, and a call at real pace
async def test_the_guides_commands_print_what_it_shows(harness: CallHarness, tmp_path: Path) -> None:
    """Every command and call of the guide has the result that the guide shows."""
    parts = [step for step in steps() if step.kind != "heading"]
    assert {step.kind for step in parts} == {"file", "command", "json", "text"}
    key = harness.api.headers["Authorization"].removeprefix("Bearer ")
    printed = ""
    async with shell(tmp_path, {"DATABASE_URL": harness.server.app_state.database.dsn}) as bash:
        for step in steps():
            match step.kind:
                case "heading" if "Look at a call" in step.text:
                    await call(harness)
                case "file":
                    (tmp_path / "work" / step.file).write_text(step.text, encoding="utf-8")
                case "command":
                    ours = step.text.replace("http://localhost:8000", harness.server.url)
                    printed = await bash.run(ours.replace("vb_…", key))
                case "json" | "text":
                    check(step, printed)


async def call(harness: CallHarness) -> None:
    """Make the call that the guide describes."""
    await harness.sandbox.expect([APPOINTMENT])
    await harness.place(hear(), Say(text=APPOINTMENT), hear(), HangUp(), to=NUMBER)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": [{}]}, {"a": [{}, {}]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}),
        ([], {}),
    ],
)
def test_another_answer_does_not_match(expected: Any, got: Any) -> None:
    """Another value, a missing member and another number of items do not match."""
    assert not matches(expected, got)
    assert matches(got, got)
