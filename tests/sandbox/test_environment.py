"""The sandbox as a whole: in this process, and in one of its own."""

import asyncio
import os
import signal
import sys

import httpx
import openai
import pytest

from voicebot.sandbox.carrier import Carrier, CarrierSettings
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.process import SandboxProcess
from voicebot.sandbox.vendors.faults import Fault, Faults

VARIABLES = {
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "VOICEBOT_LLM_ENDPOINTS",
    "DEEPGRAM_API_KEY",
    "DEEPGRAM_URL",
    "ELEVENLABS_API_KEY",
    "ELEVENLABS_URL",
    "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_API_URL",
    "EXOTEL_ACCOUNT_SID",
    "EXOTEL_API_KEY",
    "EXOTEL_API_TOKEN",
    "EXOTEL_API_URL",
    "EXOTEL_WEBHOOK_SECRET",
}


async def test_the_environment_names_every_vendor_on_loopback(sandbox: Sandbox) -> None:
    """Everything a server needs is in env, and no address of it is outside of this machine."""
    assert set(sandbox.env) == VARIABLES
    addresses = [value for name, value in sandbox.env.items() if name.endswith("URL")]
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)
    assert sandbox.env["OPENAI_BASE_URL"].endswith("/v1")
    assert len(set(addresses)) == len(addresses)


async def test_two_sandboxes_do_not_meet() -> None:
    """Sandboxes side by side have their own ports and their own faults."""
    async with Sandbox() as one, Sandbox() as other:
        assert not set(one.env.values()) & {other.urls.openai, other.urls.deepgram, other.urls.elevenlabs}
        one.faults.add(Fault(server="openai", kind="broken"))
        assert other.faults.strike("openai", "connect", "") is None


async def test_nothing_answers_after_the_end() -> None:
    """After the context no port is open."""
    async with Sandbox() as sandbox:
        urls = sandbox.urls
    async with httpx.AsyncClient() as client:
        for url in (urls.openai, urls.deepgram, urls.elevenlabs, urls.control):
            with pytest.raises(httpx.ConnectError):
                await client.get(url)


async def test_addresses_are_known_before_the_servers_answer() -> None:
    """They can be given to a server that starts meanwhile, and do not change."""
    sandbox = Sandbox(scripted_speech=True)
    urls, env = sandbox.bind(), sandbox.env
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{urls.control}/usage")
        async with sandbox:
            assert (sandbox.urls, sandbox.env) == (urls, env)
            assert (await client.get(f"{urls.control}/usage")).status_code == 200


async def test_a_separate_process_may_be_waited_for_later() -> None:
    """Without waiting, the context is entered with the addresses; `ready` waits for the servers."""
    async with SandboxProcess(wait=False) as sandbox:
        assert set(sandbox.env) == VARIABLES
        await sandbox.ready()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{sandbox.urls.control}/usage")).status_code == 200


async def test_the_sandbox_runs_as_a_separate_process() -> None:
    """Phrases, faults, latencies and usage reach a sandbox that runs elsewhere, and it ends with us."""
    async with SandboxProcess(phrases=["Hello, world."]) as sandbox:
        assert set(sandbox.env) == VARIABLES
        await sandbox.set_latency(first_token_ms=1, token_ms=0)
        async with openai.AsyncOpenAI(
            api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai, max_retries=0
        ) as client:
            ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            await sandbox.misbehave(Fault(server="openai", kind="broken"))
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(**ask)  # type: ignore[call-overload]
            await sandbox.behave()
            await client.chat.completions.create(**ask)  # type: ignore[call-overload]
        assert (await sandbox.tally("openai", "m")).requests == 1
        [request] = await sandbox.requests("openai")
        assert request.body["messages"] == ask["messages"]
        assert await sandbox.connections() == []
        assert await sandbox.sever("elevenlabs") == 0
        control = sandbox.urls.control
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(control)


async def test_twilios_rest_answers_once_a_carrier_is_there(sandbox: Sandbox) -> None:
    """The address that env gives away is refused before a carrier is attached and served after."""
    sid = sandbox.env["TWILIO_ACCOUNT_SID"]
    url = f"{sandbox.env['TWILIO_API_URL']}/2010-04-01/Accounts/{sid}/Calls/CAnobody.json"
    token = sandbox.env["TWILIO_AUTH_TOKEN"]
    settings = CarrierSettings(public_url="http://127.0.0.1:1", account_sid=sid, auth_token=token)
    async with httpx.AsyncClient(auth=(sid, token)) as client, Carrier(settings) as carrier:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
        await sandbox.attach(carrier)
        response = await client.get(url)
    assert response.status_code == 404
    assert response.json()["code"] == 20404


@pytest.mark.parametrize("how", ["SIGTERM", "stdin"])
async def test_the_process_ends_when_it_is_told_to_or_its_parent_is_gone(how: str) -> None:
    """SIGTERM and the end of standard input both end it cleanly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "voicebot.sandbox",
        "--end-with-stdin",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert b'"event": "ready"' in await asyncio.wait_for(process.stdout.readline(), 60)
    if how == "SIGTERM":
        os.kill(process.pid, signal.SIGTERM)
    else:
        process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 30) == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/phrases", {"phrases": "no list"}),
        ("POST", "/faults", {"server": "openai", "kind": "rude"}),
        ("POST", "/faults", {"server": "nobody", "kind": "slow"}),
        ("POST", "/faults", {"kind": "slow"}),
        ("PATCH", "/latency", {"first_token_ms": -1}),
        ("PATCH", "/latency", {"no_such_thing_ms": 1}),
        ("DELETE", "/faults?server=nobody", None),
        ("DELETE", "/connections?server=nobody", None),
        ("GET", "/usage?server=nobody", None),
    ],
)
async def test_orders_that_make_no_sense_are_refused(
    sandbox: Sandbox, method: str, path: str, body: object
) -> None:
    """The control server answers 422 and changes nothing."""
    before = sandbox.latency.first_token_ms
    async with httpx.AsyncClient() as client:
        response = await client.request(method, sandbox.urls.control + path, json=body)
    assert response.status_code == 422
    assert sandbox.faults.strike("openai", "connect", "") is None
    assert sandbox.latency.first_token_ms == before


def test_a_fault_is_used_up_by_its_count() -> None:
    """A fault with count=2 strikes twice; one without strikes until it is cleared."""
    faults = Faults()
    faults.add(Fault(server="openai", kind="broken", count=2))
    faults.add(Fault(server="deepgram", kind="hang"))
    assert [bool(faults.strike("openai", "connect", "x")) for _ in range(3)] == [True, True, False]
    assert all(faults.strike("deepgram", "connect", "x") for _ in range(3))
    faults.clear()
    assert faults.strike("deepgram", "connect", "x") is None


def test_a_fault_strikes_only_its_server_its_stage_and_its_match() -> None:
    """Another server, another stage or a subject without the match is left alone."""
    faults = Faults()
    faults.add(Fault(server="elevenlabs", kind="slow", stage="message", match="anna", count=1))
    assert faults.strike("openai", "message", "anna") is None
    assert faults.strike("elevenlabs", "connect", "anna") is None
    assert faults.strike("elevenlabs", "message", "bert") is None
    assert faults.strike("elevenlabs", "message", "of anna") is not None
