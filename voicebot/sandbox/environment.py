"""All servers of the sandbox in this process, started and controlled together.

async with Sandbox(phrases=["I have a question about my bill."]) as sandbox:
    ...  # start a voicebot server with sandbox.env in its environment
    sandbox.faults.add(Fault(server="elevenlabs", kind="slow", match="a-voice-id", delay_ms=4000))
    assert sandbox.usage.tally("elevenlabs", "a-voice-id").opened == 1
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from voicebot.sandbox.carrier import Carrier
from voicebot.sandbox.carrier.rest import TwilioRest
from voicebot.sandbox.exotel import Exotel
from voicebot.sandbox.exotel.rest import ExotelRest
from voicebot.sandbox.speech.grammar import PhraseGrammar
from voicebot.sandbox.speech.recogniser import RecogniserPool
from voicebot.sandbox.speech.scripted import ScriptedTranscripts, tone
from voicebot.sandbox.speech.synthesis import synthesize, utter
from voicebot.sandbox.vendors import deepgram, elevenlabs, openai
from voicebot.sandbox.vendors.control import Control, teach
from voicebot.sandbox.vendors.deepgram_tts import DeepgramTts
from voicebot.sandbox.vendors.elevenlabs_stt import ElevenLabsStt
from voicebot.sandbox.vendors.faults import Faults, Server
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.script import LlmScript
from voicebot.sandbox.vendors.usage import Usage
from voicebot.sandbox.vendors.vendor import Presented, Vendor, Wording

HOST = "127.0.0.1"
MODEL = "sandbox"
ENDPOINT = "sandbox"
"""The name of the language model's server as an endpoint of OpenAI's protocol."""

KEYS: Mapping[Server, str] = {
    "openai": "sandbox-openai-key",
    "deepgram": "sandbox-deepgram-key",
    "elevenlabs": "sandbox-elevenlabs-key",
}
TWILIO_ACCOUNT_SID = "AC" + "5a" * 16
TWILIO_AUTH_TOKEN = "sandbox-twilio-token"  # noqa: S105
EXOTEL_ACCOUNT_SID = "exosandbox"
EXOTEL_API_KEY = "exotel-sandbox-key"
EXOTEL_API_TOKEN = "exotel-sandbox-token"  # noqa: S105
EXOTEL_WEBHOOK_SECRET = "exotel-sandbox-secret"  # noqa: S105
_SHUTDOWN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """The addresses of the servers. OpenAI's ends in `/v1`; `control` is the control server's."""

    openai: str
    deepgram: str
    elevenlabs: str
    twilio: str
    exotel: str
    control: str


class Sandbox:
    """The vendors' servers on free loopback ports while the context is open.

    Attributes:
        faults: the faults that are active.
        script: answers of the language model given by a test; what it leaves goes to the stand-in model.
        transcripts: announced utterances, used with `scripted_speech`.
        usage: the recorded requests and connections.
        latency: delays of the servers, in ms; may be changed at any time.
    """

    def __init__(
        self,
        *,
        phrases: Iterable[str] = (),
        latency: Latency | None = None,
        voices: Collection[str] | None = None,
        scripted_speech: bool = False,
    ) -> None:
        """Configure the servers; entering the context starts them.

        Args:
            phrases: what callers will say; the only phrases that are recognised.
            latency: how quick the servers are.
            voices: the ids that ElevenLabs has; None: any.
            scripted_speech: speech to text returns what is announced to `transcripts`, and text to speech
                sounds a tone for each voice: no espeak-ng, no pocketsphinx, little CPU time.
        """
        self.faults = Faults()
        self.script = LlmScript()
        self.transcripts = ScriptedTranscripts()
        self.usage = Usage()
        self.latency = latency or Latency()
        self._phrases = tuple(phrases)
        self._voices = None if voices is None else frozenset(voices)
        self._scripted_speech = scripted_speech
        self._synthesise = tone if scripted_speech else utter
        self._recognisers: RecogniserPool | None = None
        self._runners: list[web.AppRunner] = []
        self._urls: Urls | None = None
        self._sockets: dict[str, socket.socket] = {}

    def bind(self) -> Urls:
        """Choose the addresses, before the servers answer there; entering the context does so otherwise."""
        if self._urls is None:
            for name in ("openai", "deepgram", "elevenlabs", "twilio", "exotel", "control"):
                self._sockets[name] = socket.socket()
                self._sockets[name].bind((HOST, 0))
            urls = {name: _url(bound) for name, bound in self._sockets.items()}
            self._urls = Urls(**urls | {"openai": urls["openai"] + "/v1"})
        return self._urls

    async def __aenter__(self) -> Self:
        self.bind()
        if not self._scripted_speech:
            self._recognisers = await asyncio.to_thread(self._prepare)
        control = Control(
            faults=self.faults,
            usage=self.usage,
            latency=self.latency,
            recognisers=self._recognisers,
            script=self.script,
        )
        await self._serve(self._openai(), "openai")
        await self._serve(self._deepgram(), "deepgram")
        await self._serve(self._elevenlabs(), "elevenlabs")
        await self._serve(control.application(), "control")
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in reversed(self._runners):
            await runner.cleanup()
        for bound in self._sockets.values():
            bound.close()

    @property
    def urls(self) -> Urls:
        """The addresses of the servers.

        Raises:
            RuntimeError: they are not chosen yet.
        """
        if self._urls is None:
            raise RuntimeError("the sandbox has not been started")
        return self._urls

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that make a voicebot server use the sandbox."""
        urls = self.urls
        endpoint = {
            "base_url": urls.openai,
            "model": MODEL,
            "api_key_env": "OPENAI_API_KEY",
            "developer_role": True,
        }
        return {
            "OPENAI_API_KEY": KEYS["openai"],
            "OPENAI_BASE_URL": urls.openai,
            "OPENAI_MODEL": MODEL,
            "VOICEBOT_LLM_ENDPOINTS": json.dumps({ENDPOINT: endpoint}),
            "DEEPGRAM_API_KEY": KEYS["deepgram"],
            "DEEPGRAM_URL": urls.deepgram,
            "ELEVENLABS_API_KEY": KEYS["elevenlabs"],
            "ELEVENLABS_URL": urls.elevenlabs,
            "TWILIO_ACCOUNT_SID": TWILIO_ACCOUNT_SID,
            "TWILIO_AUTH_TOKEN": TWILIO_AUTH_TOKEN,
            "TWILIO_API_URL": urls.twilio,
            "EXOTEL_ACCOUNT_SID": EXOTEL_ACCOUNT_SID,
            "EXOTEL_API_KEY": EXOTEL_API_KEY,
            "EXOTEL_API_TOKEN": EXOTEL_API_TOKEN,
            "EXOTEL_API_URL": urls.exotel,
            "EXOTEL_WEBHOOK_SECRET": EXOTEL_WEBHOOK_SECRET,
        }

    async def expect(self, phrases: Iterable[str]) -> None:
        """Make speech to text recognise these phrases, and no others, from the next utterance on."""
        self._phrases = tuple(phrases)
        if self._recognisers is not None:
            await teach(self._recognisers, list(self._phrases))

    async def attach(self, carrier: Carrier | Exotel) -> None:
        """Serve a carrier's REST API at its URL; before, connections to it are refused."""
        if isinstance(carrier, Carrier):
            await self._serve(TwilioRest(carrier, self.faults).application(), "twilio")
        else:
            await self._serve(ExotelRest(carrier, self.faults).application(), "exotel")

    def _prepare(self) -> RecogniserPool:
        synthesize("Ready.", "warm-up")
        return RecogniserPool(PhraseGrammar.of(self._phrases))

    def _openai(self) -> web.Application:
        vendor = self._vendor("openai", openai.presented, openai.error)
        server = openai.OpenAI(vendor=vendor, latency=self.latency, script=self.script, model=MODEL)
        return server.application()

    def _deepgram(self) -> web.Application:
        vendor = self._vendor("deepgram", deepgram.presented, deepgram.error)
        recognisers = self._recognisers or self.transcripts
        server = deepgram.Deepgram(vendor=vendor, latency=self.latency, recognisers=recognisers)
        application = server.application()
        DeepgramTts(vendor=vendor, latency=self.latency, synthesise=self._synthesise).add_to(application)
        return application

    def _elevenlabs(self) -> web.Application:
        vendor = self._vendor("elevenlabs", elevenlabs.presented, elevenlabs.error)
        server = elevenlabs.ElevenLabs(
            vendor=vendor,
            latency=self.latency,
            synthesise=self._synthesise,
            voices=self._voices,
        )
        application = server.application()
        recognisers = self._recognisers or self.transcripts
        ElevenLabsStt(vendor=vendor, latency=self.latency, recognisers=recognisers).add_to(application)
        return application

    def _vendor(self, server: Server, presented: Presented, error: Wording) -> Vendor:
        return Vendor(
            server=server,
            key=KEYS[server],
            presented=presented,
            error=error,
            faults=self.faults,
            usage=self.usage,
        )

    async def _serve(self, application: web.Application, name: str) -> None:
        """Run an application on the socket of a server."""
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        self._runners.append(runner)
        await web.SockSite(runner, self._sockets[name]).start()


def _url(bound: socket.socket) -> str:
    return f"http://{HOST}:{bound.getsockname()[1]}"
