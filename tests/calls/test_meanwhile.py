"""What others do to templates, numbers and the database while a call is on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.calls.harness import BILL, HIGHEST, OPEN, REPAIR, WELCOME, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, Step, Wait, WaitFor


class Cable:
    """The wire between the server and PostgreSQL, which a test may cut and mend."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._name = parts.path
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self.url = ""

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        """Forward connections from a free port."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}{self._name}"
        try:
            yield self
        finally:
            self.cut()
            server.close()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._whole = False
        for end in list(self._ends):
            end.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._ends -= ends


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        writer.close()


@pytest.mark.long
async def test_a_call_goes_on_without_the_database(database_url: str, tmp_path: Path) -> None:
    """With the database gone the caller hears the agents as ever; all is written when it is back."""
    async with Cable(database_url).laid() as cable, started(cable.url, tmp_path) as harness:
        number = await harness.orchestrator(harness.route("billing", await harness.agent()))
        call, person = harness.dial(
            hear(), Wait(ms=1000), Say(text=BILL), hear(), Say(text=BILL), hear(), HangUp(),
            to=number, on_step=lambda step: cable.cut() if isinstance(step, Wait) else None,
        )  # fmt: skip
        await call.ended()
        assert person.outcome.ok, person.outcome.failure
        cable.mend()
        facts = await harness.facts(call, person)

    assert facts.words()[:2] == [WELCOME, "Billing here."]
    assert facts.words("caller") == [BILL, BILL]
    assert [route["status"] for route in facts.routes] == ["done"]
    assert facts.lead["status"] == "finished"
    assert (facts.record["ended_by"], facts.record["end_reason"]) == ("caller", "hangup")


@pytest.mark.long
async def test_a_call_keeps_the_templates_it_began_with(harness: CallHarness) -> None:
    """Templates edited or deleted during a call change nothing in it, and its lead is finished."""
    billing = await harness.agent("Billing", "Billing here.")
    repairs = await harness.agent("Workshop", "Workshop here.", HIGHEST)
    number = await harness.orchestrator(harness.route("billing", billing), harness.route("workshop", repairs))
    changed = asyncio.Event()
    greeted: list[Step] = []

    def on_step(step: Step) -> None:
        if isinstance(step, WaitFor):
            greeted.append(step)

    script = (hear(), WaitFor(event=changed), Say(text=BILL), hear(), Say(text=OPEN), hear(), HangUp())
    placed = asyncio.create_task(harness.place(*script, to=number, on_step=on_step))
    later = (hear(), WaitFor(event=changed), Say(text=REPAIR), hear(), HangUp())
    other = asyncio.create_task(harness.place(*later, to=number, on_step=on_step))
    async with asyncio.timeout(30):
        while len(greeted) < 2:
            await asyncio.sleep(0.02)
    patch = {"Content-Type": "application/merge-patch+json"}
    front = next(
        item
        for item in (await harness.api.get("/templates")).json()["items"]
        if item["kind"] == "orchestrator"
    )
    edited = await harness.api.patch(
        f"/templates/{billing['id']}",
        headers={**patch, "If-Match": f'"{billing["revision"]}"'},
        json={"prompt": 'You are billing. Say "Nothing is as it was." first.'},
    )
    assert edited.status_code == 200, edited.text
    gone = await harness.api.delete(
        f"/templates/{front['id']}", headers={"If-Match": f'"{front["revision"]}"'}
    )
    assert gone.status_code == 204, gone.text
    gone = await harness.api.delete(
        f"/templates/{repairs['id']}", headers={"If-Match": f'"{repairs["revision"]}"'}
    )
    assert gone.status_code == 204, gone.text
    changed.set()
    calls = [await placed, await other]

    assert calls[0].words()[:2] == [WELCOME, "Billing here."]
    assert calls[1].words() == [WELCOME, "Workshop here."]
    for call in calls:
        assert call.outcome.ok, call.outcome.failure
        assert call.lead["status"] == "finished"
        assert call.record["ended_by"] == "caller"


async def test_two_calls_at_once_know_nothing_of_each_other(any_harness: CallHarness) -> None:
    """Each of two calls at once has its own words, agents and events, and neither hears the other's."""
    billing = await any_harness.agent("Billing", "Billing here.")
    repairs = await any_harness.agent("Workshop", "Workshop here.", HIGHEST)
    number = await any_harness.orchestrator(
        any_harness.route("billing", billing), any_harness.route("workshop", repairs)
    )
    one, two = await asyncio.gather(
        any_harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number),
        any_harness.place(hear(), Say(text=REPAIR), hear(), HangUp(), to=number),
    )
    assert one.said() == [("agent", WELCOME), ("caller", BILL), ("agent", "Billing here.")]
    assert two.said() == [("agent", WELCOME), ("caller", REPAIR), ("agent", "Workshop here.")]
    assert one.voices != two.voices
    assert not [body for body in any_harness.asked(containing=BILL) if REPAIR in str(body["messages"])]
