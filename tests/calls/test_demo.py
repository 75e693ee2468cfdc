"""`voicebot demo` as people run it: one call, judged from outside by its recording and its records."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.processes import VOICEBOT, Start, fork, server, start
from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import analyse, locate_roughly
from voicebot.sandbox.audio.measurement import Span
from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.demo import person_scenario, scenario
from voicebot.sandbox.speech.grammar import PhraseGrammar
from voicebot.sandbox.speech.recogniser import RATE, Recogniser
from voicebot.sandbox.speech.synthesis import synthesize

pytestmark = pytest.mark.long

DEMO = (*VOICEBOT, "demo")
MARGIN = RATE // 10
FRAME = RATE // 50


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo's temporary files go: a short path, since sockets are among them."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the demo runs. It keeps a database there, and pytest takes `tmp_path` away from other users."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


async def result_of(start: Start, directory: Path, temporary: Path, *arguments: str) -> dict[str, Any]:
    """What a demo in a directory prints as JSON."""
    demo = await start((*DEMO, "--json", *arguments), {"TMPDIR": str(temporary)}, directory)
    out, errors = await demo.communicate()
    assert demo.returncode == 0, out.decode()[:3000] + errors.decode()
    return dict(json.loads(out))


def words(track: Any, parts: tuple[Span, ...], phrases: list[str]) -> list[str]:
    """What is said in these parts of a track, by a recogniser that knows the phrases but not their order."""
    recogniser = Recogniser(PhraseGrammar.of(phrases))
    return [heard(recogniser, track[max(0, part.start - MARGIN) : part.end + MARGIN]) for part in parts]


def heard(recogniser: Recogniser, samples: Any) -> str:
    """Return the words recognised in one utterance."""
    recogniser.begin()
    for first in range(0, len(samples), FRAME):
        recogniser.hear(samples[first : first + FRAME])
    return " ".join(word.written for word in recogniser.finish())


def said_by(result: dict[str, Any], speaker: str) -> list[str]:
    """Return the transcript of one side."""
    return [each["text"] for each in result["transcript"] if each["speaker"] == speaker]


def leftovers(directory: Path) -> list[str]:
    """Return files that a demo left in the directory for temporary files, and processes that run there."""
    found = [path.name for path in directory.glob("voicebot*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode().replace("\0", " ")
            works_in = os.readlink(process / "cwd")
        except OSError:
            continue
        if str(directory) in f"{command} {works_in}":
            found.append(command)
    return found


@pytest.mark.timeout(300)
async def test_the_demo_is_a_routed_call_that_a_machine_can_follow(directory: Path, temporary: Path) -> None:
    """Three voices say the transcript's words one after the other; a lead and a recording are left."""
    result = await result_of(start, directory, temporary)

    recordings = list((directory / ".voicebot").glob("*.wav"))
    assert recordings == [directory / result["recording"]]
    recording = wav.read(recordings[0])
    by_ear = await asyncio.to_thread(analyse, recording)
    voices = [voice for voice, _ in groupby(part.voice for part in by_ear.agent)]
    assert voices == ["A", "B", "A", "C"]
    assert by_ear.overlaps == ()
    assert len(by_ear.gaps) == len(scenario.PHRASES)
    assert all(0 < gap.ms < scenario.LONGEST_GAP_MS for gap in by_ear.gaps)

    agent, caller = said_by(result, "agent"), said_by(result, "caller")
    assert caller == list(scenario.PHRASES)
    assert await asyncio.to_thread(words, recording.sent, by_ear.caller, caller) == caller
    assert await asyncio.to_thread(words, recording.received, by_ear.agent, agent) == agent

    assert [(route["name"], route["status"]) for route in result["routes"]] == [
        ("billing", "done"), ("back", "done"), ("technicians", "done")
    ]  # fmt: skip
    assert result["lead"]["template_id"] == result["templates"]["technicians"]
    assert result["lead"]["outcome"] == scenario.OUTCOME
    shown = result["shown"]
    assert [line["at_ms"] for line in shown] == sorted(line["at_ms"] for line in shown)
    assert (
        len({line["id"] for line in shown}) == len(result["events"]) + len(result["transcript"]) == len(shown)
    )
    assert agent.count("Could you tell me the postal code, please?") == 1
    assert leftovers(temporary) == []
    assert leftovers(directory) == []
    await assert_served(directory, result)


async def assert_served(directory: Path, result: dict[str, Any]) -> None:
    """`voicebot serve` in the same directory has the call of a demo, and its key."""
    async with server((*VOICEBOT, "serve"), {}, directory) as (url, _):
        headers = {"Authorization": f"Bearer {result['kept']['key']}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=20) as client:
            kept = (await client.get(f"/calls/{result['call']['id']}/transcript")).json()
        assert [each["text"] for each in kept["items"]] == [each["text"] for each in result["transcript"]]


@pytest.mark.timeout(300)
async def test_the_demo_with_a_person(tmp_path: Path, temporary: Path) -> None:
    """Two voices take turns, and both sides' words are found on the other side's line, in order."""
    result = await result_of(fork, tmp_path, temporary, "--person")

    recording = wav.read(tmp_path / result["recording"])
    by_ear = await asyncio.to_thread(analyse, recording)
    assert {"A", "B"} <= set(by_ear.voices)
    first, last = [
        await asyncio.to_thread(where, recording.received, text, person_scenario.OPERATOR_VOICE)
        for text in (person_scenario.HELLO, person_scenario.SOLUTION)
    ]
    asked = await asyncio.to_thread(
        where, recording.sent, person_scenario.PROBLEM, person_scenario.CALLER_VOICE
    )
    assert first < asked < last
    assert [part.voice for part in by_ear.agent if part.voice in "AB"][-1] == "A"
    assert (result["handoff"]["state"], result["handoff"]["cause"]) == ("resolved", "returned")
    assert (result["call"]["resumes"], result["call"]["ended_by"]) == (1, "caller")
    assert said_by(result, "caller") == list(person_scenario.PHRASES)
    assert leftovers(temporary) == []


def where(track: Any, text: str, voice: str) -> int:
    """Return where a text in a voice sounds in a track, in samples."""
    found = locate_roughly(track, samples_of(synthesize(text, voice)))
    assert found is not None, text
    return found


@pytest.mark.timeout(300)
async def test_the_demo_of_outbound_calls(tmp_path: Path, temporary: Path) -> None:
    """A busy line is dialled again, the person is reached, and the webhooks are signed and shown."""
    result = await result_of(fork, tmp_path, temporary, "--outbound")
    assert [call["outcome"] for call in result["calls"]] == ["busy", "answered"]
    assert (result["lead"]["outcome"], result["lead"]["attempts"]) == ("answered", 2)
    types = [posted["type"] for posted in result["webhooks"]]
    assert sorted(types) == ["call.ended", "call.ended", "lead.finished"]
    outputs = [posted["data"]["output"] for posted in result["webhooks"]]
    assert any(output is not None and "Tuesday" in output["day"] for output in outputs)


@pytest.mark.timeout(300)
async def test_the_demo_by_exotel(tmp_path: Path, temporary: Path) -> None:
    """The same call through Exotel's flow and its 200 ms of audio a message is as the scenario says."""
    result = await result_of(fork, tmp_path, temporary, "--carrier", "exotel")
    assert (result["call"]["carrier"], result["call"]["ended_by"]) == ("exotel", "caller")


async def test_ctrl_c_leaves_no_files_and_processes(directory: Path, temporary: Path) -> None:
    """Interrupted in the middle of a call, the demo leaves no process and no file, and its status tells."""
    demo = await start(DEMO, {"TMPDIR": str(temporary)}, directory)
    assert demo.stdout is not None
    async with asyncio.timeout(75):
        while b"answers the call" not in (line := await demo.stdout.readline()):
            assert line, "it ended before the call"
    demo.send_signal(signal.SIGINT)
    async with asyncio.timeout(40):
        await demo.communicate()
    assert demo.returncode == 130
    assert leftovers(temporary) == []
    assert leftovers(directory) == []
    assert list((directory / ".voicebot").glob("*.wav")) == []
