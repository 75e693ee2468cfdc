"""When the caller's turn begins and ends: VAD and turn models that run in this process."""

from __future__ import annotations

from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.turns.user_start import (
    BaseUserTurnStartStrategy,
    MinWordsUserTurnStartStrategy,
    TranscriptionUserTurnStartStrategy,
    VADUserTurnStartStrategy,
)
from pipecat.turns.user_stop import (
    BaseUserTurnStopStrategy,
    SpeechTimeoutUserTurnStopStrategy,
    TurnAnalyzerUserTurnStopStrategy,
)
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies

from templates.model import Turns
from voicebot.providers.service_spec import SAMPLE_RATE


def with_turns(stt: FrameProcessor, turns: Turns, silence_ms: int) -> list[FrameProcessor]:
    """An STT service between a VAD, where the template asks for one, and what decides about turns.

    ``silence_ms`` is how long the vendor waits before it finalises a transcript. Loading the models blocks
    for tens of ms: call it in a thread.
    """
    decider = UserTurnProcessor(user_turn_strategies=turn_strategies(turns, silence_ms))
    return [*_vad(turns), stt, decider]


def hears_audio(turns: Turns) -> bool:
    """Whether what decides about turns needs the caller's audio, behind the STT service."""
    return turns.strategy == "smart_turn"


def turn_strategies(turns: Turns, silence_ms: int) -> UserTurnStrategies:
    """When the caller's turn begins (and interrupts) and when it ends."""
    start: list[BaseUserTurnStartStrategy]
    if turns.min_words > 1:
        start = [
            MinWordsUserTurnStartStrategy(min_words=turns.min_words, enable_interruptions=turns.barge_in)
        ]
    else:
        start = [TranscriptionUserTurnStartStrategy(enable_interruptions=turns.barge_in)]
        if turns.strategy != "stt":
            start.insert(0, VADUserTurnStartStrategy(enable_interruptions=turns.barge_in))
    stop: BaseUserTurnStopStrategy
    if turns.strategy == "smart_turn":
        stop = TurnAnalyzerUserTurnStopStrategy(turn_analyzer=LocalSmartTurnAnalyzerV3())
    elif turns.strategy == "silero":
        # The VAD has waited for the silence already; only the transcript is missing.
        stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.0)
    else:
        rest_ms = max(0, turns.end_silence_ms - silence_ms)
        stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=rest_ms / 1000)
    return UserTurnStrategies(start=start, stop=[stop])


def _vad(turns: Turns) -> list[FrameProcessor]:
    if turns.strategy == "stt":
        return []
    stop_s = 0.2 if turns.strategy == "smart_turn" else turns.end_silence_ms / 1000
    analyzer = SileroVADAnalyzer(sample_rate=SAMPLE_RATE, params=VADParams(stop_secs=stop_s))
    return [VADProcessor(vad_analyzer=analyzer)]
