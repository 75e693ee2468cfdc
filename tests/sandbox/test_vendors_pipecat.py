"""The vendors' servers behind pipecat's own services, each in a tiny pipeline."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pipecat.adapters.schemas.function_schema import FunctionSchema
from pipecat.adapters.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.workers.runner import WorkerRunner

from tests.sandbox.conftest import PHRASES
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.faults import Fault


class Collector(FrameProcessor):
    """Keeps what comes by."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self._news = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        self._news.set()
        await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kinds)]

    async def until(self, *kinds: type[Frame], timeout_s: float = 10.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while not self.of(*kinds):
                self._news.clear()
                await self._news.wait()
        return self.of(*kinds)[0]


class ServicePipeline:
    """A running pipeline of one service between two collectors; use as an async context manager."""

    def __init__(self, service: FrameProcessor) -> None:
        self.before, self.after = Collector(), Collector()
        self.worker = PipelineWorker(
            Pipeline([self.before, service, self.after]),
            params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
            idle_timeout_secs=None,
        )
        self._runner = WorkerRunner(handle_sigint=False)

    async def __aenter__(self) -> "ServicePipeline":
        await self._runner.add_workers(self.worker)
        self._running = asyncio.create_task(self._runner.run(auto_end=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.cancel()
        await asyncio.wait_for(self._running, 30)

    async def send(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            await self.worker.queue_frame(frame)


def _tts(sandbox: Sandbox, voice: str = "anna") -> ElevenLabsTTSService:
    return ElevenLabsTTSService(
        api_key=sandbox.env["ELEVENLABS_API_KEY"],
        url=sandbox.urls.elevenlabs.replace("http", "ws"),
        sample_rate=8000,
        settings=ElevenLabsTTSService.Settings(voice=voice),
    )


async def test_pipecat_speaks_with_elevenlabs(sandbox: Sandbox) -> None:
    """A text to speak becomes exactly the voice's audio, every word in order, and a proper stop."""
    async with ServicePipeline(_tts(sandbox)) as line:
        await line.send([TTSSpeakFrame("Hello there, caller.")])
        await line.after.until(TTSStoppedFrame)
        audio = b"".join(frame.audio for frame in line.after.of(TTSAudioRawFrame))
        words = [word for frame in line.after.of(TTSTextFrame) for word in frame.text.split()]
    assert audio.startswith(synthesize("Hello there, caller.", "anna"))
    assert words == ["Hello", "there,", "caller."]
    assert line.before.of(ErrorFrame) == []


async def test_a_refused_key_reaches_pipecat_as_an_error(sandbox: Sandbox) -> None:
    """A handshake answered with 401 is an ErrorFrame, not silence."""
    sandbox.faults.add(Fault(server="elevenlabs", kind="unauthorized", match="/anna/"))
    async with ServicePipeline(_tts(sandbox)) as line:
        await line.send([TTSSpeakFrame("Hello.")])
        error = await line.before.until(ErrorFrame)
    assert "401" in error.error


async def test_pipecat_listens_with_deepgram(sandbox: Sandbox) -> None:
    """Audio at real pace becomes interim and final transcripts, at the server that was meant."""
    stt = DeepgramSTTService(
        api_key=sandbox.env["DEEPGRAM_API_KEY"],
        base_url=sandbox.urls.deepgram.replace("http", "ws"),
        sample_rate=8000,
        settings=DeepgramSTTService.Settings(endpointing=300),
    )
    audio = b"\0" * 3200 + synthesize(PHRASES[0], "caller-2") + b"\0" * 16000
    async with ServicePipeline(stt) as line:
        for start in range(0, len(audio), 640):
            part = audio[start : start + 640]
            await line.send([InputAudioRawFrame(audio=part, sample_rate=8000, num_channels=1)])
            await asyncio.sleep(0.01)
        heard = await line.after.until(TranscriptionFrame)
    assert heard.text == PHRASES[0]
    assert line.after.of(InterimTranscriptionFrame)
    assert sandbox.usage.tally("deepgram").opened == 1


def _llm(sandbox: Sandbox) -> OpenAILLMService:
    return OpenAILLMService(
        api_key=sandbox.env["OPENAI_API_KEY"],
        base_url=sandbox.urls.openai,
        settings=OpenAILLMService.Settings(model="any"),
    )


async def test_pipecat_talks_with_openai(sandbox: Sandbox) -> None:
    """The model's words come as text frames that add up to its answer."""
    messages: Any = [
        {"role": "system", "content": 'Greet with "Welcome to the library."'},
        {"role": "user", "content": "Hi"},
    ]
    async with ServicePipeline(_llm(sandbox)) as line:
        await line.send([LLMContextFrame(LLMContext(messages))])
        await line.after.until(LLMFullResponseEndFrame)
        text = "".join(frame.text for frame in line.after.of(LLMTextFrame))
    assert text == "Welcome to the library."


@pytest.mark.parametrize("words", ["Renew my loan four two seven one, please"])
async def test_pipecat_calls_a_function_of_openai(sandbox: Sandbox, words: str) -> None:
    """A tool call arrives at pipecat's handler with its arguments."""
    called: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def renew(params: FunctionCallParams) -> None:
        called.set_result(dict(params.arguments))
        await params.result_callback({"status": "done"})

    llm = _llm(sandbox)
    llm.register_function("renew_loan", renew)
    schema = FunctionSchema(
        name="renew_loan",
        description="Renew the loan of a book.",
        properties={"loan_number": {"type": "string", "description": "Four digits."}},
        required=["loan_number"],
    )
    context = LLMContext([{"role": "user", "content": words}], tools=ToolsSchema(standard_tools=[schema]))
    async with ServicePipeline(llm) as line:
        await line.send([LLMContextFrame(context)])
        assert await asyncio.wait_for(called, 30) == {"loan_number": "4271"}
