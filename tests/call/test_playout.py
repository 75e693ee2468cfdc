"""Frames that are passed on after the output: voicebot.call.audio.playout."""

from __future__ import annotations

from typing import Any

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseStartFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from telephony.output import MarkFrame
from tests.sandbox.test_vendors_pipecat import ServicePipeline
from tests.telephony.media_harness import until
from voicebot.call.audio.playout import MarkInserter, PlayoutObserver


class AllAtOnce(FrameProcessor):
    """Passes on frames without giving the event loop to anything else."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(enable_direct_mode=True)
        self._frames = frames

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, MarkFrame):
            for each in self._frames:
                await self.push_frame(each, direction)
        else:
            await self.push_frame(frame, direction)


def speech(context_id: str, *words: str) -> list[Frame]:
    """Audio and words of a context, without its end."""
    audio = TTSAudioRawFrame(bytes(320), 8000, 1, context_id=context_id)
    texts: list[Frame] = [TTSTextFrame(word, TextType.WORD, context_id=context_id) for word in words]
    return [LLMFullResponseStartFrame(), TTSStartedFrame(context_id=context_id), audio, *texts]


async def test_a_word_belongs_to_the_utterance_in_which_it_was_spoken() -> None:
    """However close an interruption follows it, a word is not added to what is said next."""
    marks, said = MarkInserter(MarkFrame), list[str]()
    assistant = LLMContextAggregatorPair(LLMContext()).assistant()

    async def stopped(_: Any, message: Any) -> None:
        said.append(message.content)

    assistant.add_event_handler("on_assistant_turn_stopped", stopped)
    frames = [
        *speech("first", "One"),
        InterruptionFrame(),
        *speech("second", "Two."),
        LLMAssistantPushAggregationFrame(),
        TTSStoppedFrame(context_id="second"),
    ]
    stages = Pipeline([AllAtOnce(frames), marks, PlayoutObserver(marks), assistant])
    async with ServicePipeline(stages) as line:
        await line.send([MarkFrame(mark="go")])
        await until(lambda: len(said) == 2)
    assert said == ["One", "Two."]
