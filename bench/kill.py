"""Processes that are killed or restarted while calls go on: calls lost, and how long callers hear nothing.

    python -m bench.kill [--calls 6] [--rounds 2] [--rolling] [--full] [--seed 1]

Two server processes share a database; a balancer gives each connection of the carrier to one that lives. In
each round all callers talk, and at a random moment one process is killed (`kill -9`), or with `--rolling`
both are restarted one after the other by SIGTERM. A call is lost when its caller did not hang up themselves.
`--full` is 50 calls and 20 rounds. A call needs about 5 % of a core here: more calls than the machine carries
show the machine's limit, not the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from bench.environment import NUMBER, PUBLIC_URL, ROOT
from bench.faults import HOURS, OPEN, WELCOME, longest_silence
from bench.handoff_setup import fresh_server
from bench.report import percentiles, run_and_report
from voicebot.sandbox.caller import Caller, HangUp, Listen, Say, Step
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings
from voicebot.sandbox.environment import TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, Sandbox
from voicebot.sandbox.speech.scripted import tone_pcm
from voicebot.sandbox.vendors.latency import Latency

FULL_CALLS, FULL_ROUNDS = 50, 20
QUESTIONS = 5
SILENCE_P95_MS = 1500.0
"""The limit of the silence that a killed process may cause, at the 95th percentile of its calls."""

SERVE = (sys.executable, "-m", "voicebot", "serve")

_callers = count(14155580000)


class ServerProcess(Protocol):
    """What the bench needs of a process: that of asyncio has it."""

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    def send_signal(self, signal: int, /) -> None: ...
    async def wait(self) -> int | None: ...


Start = Callable[[Sequence[str], Mapping[str, str], Path], Awaitable[ServerProcess]]
"""Starts a command with an environment in a directory."""


async def start_process(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> ServerProcess:
    """Start a command as a shell does."""
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment, cwd=cwd)


class Balancer:
    """Forwards each TCP connection to a server that accepts it."""

    def __init__(self) -> None:
        """No server is known."""
        self.targets: list[tuple[str, int]] = []
        self._next = 0
        self._flows: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Forward from a free port; yields its URL."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for flow in self._flows:
                flow.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(len(self.targets)):
            self._next += 1
            target = self.targets[self._next % len(self.targets)]
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*target)
                for source, sink in ((reader, far_writer), (far_reader, writer)):
                    flow = asyncio.create_task(_pump(source, sink))
                    self._flows.add(flow)
                    flow.add_done_callback(self._flows.discard)
                return
        writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()


class Replicas:
    """The server processes of one database."""

    def __init__(self, environment: Mapping[str, str], balancer: Balancer, start: Start) -> None:
        self._environment = environment
        self._balancer = balancer
        self._start = start
        self._processes: list[tuple[ServerProcess, tuple[str, int]]] = []

    async def start(self) -> None:
        """Start one more process."""
        process = await self._start(SERVE, self._environment, ROOT)
        if process.stdout is None:
            raise RuntimeError("the server process has no standard output")
        url = urlsplit(json.loads(await process.stdout.readline())["url"])
        target = (str(url.hostname), int(url.port or 80))
        self._processes.append((process, target))
        self._balancer.targets.append(target)

    async def stop_oldest(self, by: signal.Signals) -> None:
        """Stop the process that runs for the longest time, and wait until it has ended."""
        process, target = self._processes.pop(0)
        self._balancer.targets.remove(target)
        process.send_signal(by)
        await process.wait()

    async def close(self) -> None:
        """Stop all processes."""
        for process, _ in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process, _ in self._processes))


class KillBench:
    """Callers, and the processes that answer them."""

    def __init__(self, sandbox: Sandbox, carrier: Carrier, replicas: Replicas) -> None:
        self._sandbox = sandbox
        self._carrier = carrier
        self._replicas = replicas

    async def round(self, calls: int, chance: random.Random, *, rolling: bool) -> list[tuple[Call, Caller]]:
        """Make calls at once, and disturb the servers while they go on."""
        made = []
        for _ in range(calls):
            made.append(self._call())
            await asyncio.sleep(0.2)
        await asyncio.sleep(chance.uniform(2.0, 7.0))
        if rolling:
            for _ in range(2):
                await self._replicas.start()
                await self._replicas.stop_oldest(signal.SIGTERM)
        else:
            await self._replicas.stop_oldest(signal.SIGKILL)
            await self._replicas.start()
        await asyncio.gather(*(call.ended() for call, _ in made))
        return made

    def _call(self) -> tuple[Call, Caller]:
        steps: list[Step] = [Listen(quiet_ms=450.0, timeout_ms=20_000)]
        for _ in range(QUESTIONS):
            steps += [Say(text=OPEN), Listen(quiet_ms=450.0, timeout_ms=20_000)]
        person = Caller(
            script=[*steps, HangUp()], voice_id="caller-1", attentive=False, synthesise=tone_pcm,
            # Twice: a caller repeats words that were not transcribed when a process was killed.
            announce=lambda text: self._sandbox.transcripts.announce(text, text),
        )  # fmt: skip
        return self._carrier.call(from_=f"+{next(_callers)}", to=NUMBER, person=person), person


async def _prepare(url: str, key: str) -> None:
    """An agent that answers the number."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=30) as api:
        common = {"status": "active", "tts": {"voice_id": "voice-8"}, "turns": {"end_silence_ms": 300}}
        billing = {"name": "Billing", "description": "Bills.", "prompt": "You are billing.", **common}
        agent = (await api.post("/templates", json=billing)).raise_for_status().json()
        body = {"e164": NUMBER, "carrier": "twilio"}
        number = (await api.post("/numbers", json=body)).raise_for_status().json()
        desk = {
            "name": "Desk", "description": "Desk.", "kind": "orchestrator", "number_id": number["id"],
            "prompt": f"You are the desk of Acme. {HOURS}", "greeting": {"text": WELCOME}, **common,
            "routes": [{"name": "billing", "template_id": agent["id"], "when": "The caller has a bill."}],
        }  # fmt: skip
        (await api.post("/templates", json=desk)).raise_for_status()


async def _command(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebot", *command, "--json", env=environment, cwd=ROOT, stdout=PIPE
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))


@contextlib.asynccontextmanager
async def kill_bench(start: Start) -> AsyncIterator[KillBench]:
    """The processes of the bench."""
    quick = Latency(first_token_ms=20, token_ms=1, first_audio_ms=20, audio_ms=1)
    async with contextlib.AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(fresh_server())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="voicebot-kill-"))
        sandbox = await stack.enter_async_context(Sandbox(latency=quick, scripted_speech=True))
        balancer = Balancer()
        url = await stack.enter_async_context(balancer.running())
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **sandbox.env, "PYTHONPATH": str(ROOT), "DATABASE_URL": dsn, "VOICEBOT_DATA_DIR": directory,
            "VOICEBOT_SECRET_KEY": "bench" * 8, "VOICEBOT_PORT": "0", "VOICEBOT_MAX_LAG_MS": "0",
            "VOICEBOT_DRAIN_TIMEOUT_MS": "1000", "PUBLIC_URL": PUBLIC_URL, "LOG_LEVEL": "ERROR",
        }  # fmt: skip
        replicas = Replicas(environment, balancer, start)
        stack.push_async_callback(replicas.close)
        await replicas.start()
        await replicas.start()
        account = await _command(["accounts", "create", "--name", "bench"], environment)
        owner = ["keys", "create", "--account", account["account_id"], "--role", "owner"]
        await _prepare(url, (await _command(owner, environment))["key"])
        settings = CarrierSettings(
            public_url=PUBLIC_URL, server_url=url,
            account_sid=TWILIO_ACCOUNT_SID, auth_token=TWILIO_AUTH_TOKEN,
        )  # fmt: skip
        carrier = await stack.enter_async_context(Carrier(settings))
        await sandbox.attach(carrier)
        yield KillBench(sandbox, carrier, replicas)


async def measure(
    calls: int, rounds: int, seed: int, *, rolling: bool, start: Start = start_process
) -> dict[str, Any]:
    """Run rounds and sum them up; ``start`` starts the servers."""
    chance = random.Random(seed)
    silences, lost = [], []
    async with kill_bench(start) as bench:
        for number in range(rounds):
            made = await bench.round(calls, chance, rolling=rolling)
            for call, person in made:
                recording = call.recording()
                silence_ms, at_ms, _ = longest_silence(recording.sent, recording.received)
                silences.append(silence_ms)
                if not person.outcome.ok:
                    lost.append(f"round {number + 1}: {person.outcome.failure} (silence at {at_ms:.0f} ms)")
            print(f"round {number + 1}: {len(lost)} lost so far", file=sys.stderr, flush=True)
    figures = percentiles(silences)
    return {
        "calls": len(silences), "lost": lost, "silence_ms": figures,
        "within_limit": not lost and figures["p95"] <= SILENCE_P95_MS,
    }  # fmt: skip


def main() -> None:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rolling", action="store_true", help="restart both processes instead")
    parser.add_argument("--full", action="store_true", help="50 calls, 20 rounds")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    calls, rounds = (FULL_CALLS, FULL_ROUNDS) if arguments.full else (arguments.calls, arguments.rounds)
    asyncio.run(run_and_report(measure(calls, rounds, arguments.seed, rolling=arguments.rolling)))


if __name__ == "__main__":
    main()
