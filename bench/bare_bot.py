"""A bare pipecat bot with the conversation of `bench.density`: what the framework's own parts cost.

`python -m bench.bare_bot --vendors URL --turns stt|silero` serves Twilio's media socket at `/media` and
prints `{"url": …}`. It uses pipecat's Twilio serializer, Deepgram, OpenAI and ElevenLabs services, service
switcher and flows, as pipecat's documentation shows them, and nothing of voicebot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.flows import FlowManager, FlowsFunctionSchema, NodeConfig
from pipecat.frames.frames import ManuallySwitchServiceFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_start import TranscriptionUserTurnStartStrategy, VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from bench.conversations import BILLING, FRONT

RATE = 8000
SILENCE_MS = 600
ENDPOINTING_MS = 300
GREETING = "Hello, this is Acme, how may I help you?"


class BareBot:
    """Answers calls with one pipeline each."""

    def __init__(self, vendors: str, turns: str) -> None:
        self._http, self._ws = vendors, vendors.replace("http://", "ws://", 1)
        self._turns = turns

    async def answer(self, websocket: WebSocket) -> None:
        """Run one call to its end."""
        await websocket.accept()
        await websocket.receive_text()
        start = json.loads(await websocket.receive_text())["start"]
        serializer = TwilioFrameSerializer(
            stream_sid=start["streamSid"],
            call_sid=start["callSid"],
            params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
        )
        transport = FastAPIWebsocketTransport(
            websocket=websocket,
            params=FastAPIWebsocketParams(
                serializer=serializer, audio_in_enabled=True, audio_out_enabled=True
            ),
        )
        await self._converse(transport)

    async def _converse(self, transport: FastAPIWebsocketTransport) -> None:
        stt = DeepgramSTTService(
            api_key="bench",
            base_url=self._ws,
            settings=DeepgramSTTService.Settings(endpointing=ENDPOINTING_MS),
        )
        llm = OpenAILLMService(
            api_key="bench",
            base_url=f"{self._http}/v1",
            settings=OpenAILLMService.Settings(model="bench"),
        )
        front, billing = self._tts(FRONT), self._tts(BILLING)
        aggregators = LLMContextAggregatorPair(LLMContext(), user_params=self._user_params())
        pipeline = Pipeline(
            [
                transport.input(),
                stt,
                aggregators.user(),
                llm,
                ServiceSwitcher(services=[front, billing]),
                transport.output(),
                aggregators.assistant(),
            ]
        )
        worker = PipelineWorker(
            pipeline,
            params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
            enable_rtvi=False,
        )
        flows = FlowManager(llm=llm, context_aggregator=aggregators, worker=worker)

        async def route(_: Any, __: FlowManager) -> tuple[Any, NodeConfig]:
            await worker.queue_frame(ManuallySwitchServiceFrame(service=billing))
            return {"status": "routed"}, _node("billing", "You answer questions about invoices.", [])

        routing = FlowsFunctionSchema(
            name="route_to_agent",
            description="Hand the caller over to another agent.",
            properties={"agent": {"type": "string"}},
            required=["agent"],
            handler=route,
        )

        async def connected(*_: object) -> None:
            await flows.initialize(
                _node("front", "You are the front desk of Acme.", [routing], respond_immediately=False)
            )
            await worker.queue_frame(TTSSpeakFrame(GREETING))

        async def disconnected(*_: object) -> None:
            await worker.cancel()

        transport.add_event_handler("on_client_connected", connected)
        transport.add_event_handler("on_client_disconnected", disconnected)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()

    def _tts(self, voice: str) -> ElevenLabsTTSService:
        return ElevenLabsTTSService(
            api_key="bench", url=self._ws, settings=ElevenLabsTTSService.Settings(voice=voice)
        )

    def _user_params(self) -> LLMUserAggregatorParams:
        if self._turns == "silero":
            return LLMUserAggregatorParams(
                vad_analyzer=SileroVADAnalyzer(params=VADParams(stop_secs=SILENCE_MS / 1000)),
                user_turn_strategies=UserTurnStrategies(
                    start=[VADUserTurnStartStrategy(), TranscriptionUserTurnStartStrategy()],
                    stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.0)],
                ),
            )
        rest_s = (SILENCE_MS - ENDPOINTING_MS) / 1000
        return LLMUserAggregatorParams(
            user_turn_strategies=UserTurnStrategies(
                start=[TranscriptionUserTurnStartStrategy()],
                stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=rest_s)],
            )
        )


def _node(
    name: str, task: str, functions: list[FlowsFunctionSchema], *, respond_immediately: bool = True
) -> NodeConfig:
    return NodeConfig(
        name=name,
        role_message="You speak on the telephone.",
        task_messages=[{"role": "developer", "content": task}],
        functions=list(functions),
        respond_immediately=respond_immediately,
    )


class BotServer(uvicorn.Server):
    """A server that prints its URL when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print one line of JSON."""
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)


async def serve(bot: BareBot) -> None:
    """Serve until the process is ended."""
    application = FastAPI()
    application.add_api_websocket_route("/media", bot.answer)
    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
    await BotServer(config).serve()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_bot", description=__doc__)
    parser.add_argument("--vendors", required=True, help="the URL of the light vendors")
    parser.add_argument("--turns", choices=("stt", "silero"), default="stt")
    options = parser.parse_args()
    logger.remove()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(BareBot(options.vendors, options.turns)))


if __name__ == "__main__":
    main()
