"""When the caller's turn begins and ends: VAD and turn models that run in this process."""

from __future__ import annotations

from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.stt_service import STTService
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
from voicebot.providers.speech_input import SpeechInput
from voicebot.providers.voice_activity import VoiceActivity

WORDLESS_S = 1.0
"""A turn in which nothing is transcribed for so long ends without words: it was noise."""


def with_turns(stt: STTService, turns: Turns, silence_ms: int) -> list[FrameProcessor]:
    """An STT service between what gives it the caller's audio, and what decides about turns.

    ``silence_ms`` is how long the vendor waits before it finalises a transcript. Loading the models blocks
    for tens of ms: call it in a thread.
    """
    decider = UserTurnProcessor(
        user_turn_strategies=turn_strategies(turns, silence_ms), user_turn_stop_timeout=WORDLESS_S
    )
    turn_model = decider if turns.strategy == "smart_turn" else None
    speech = SpeechInput(stt, endpointing_ms=silence_ms, vad=_vad(turns), turn_model=turn_model)
    return [speech, stt, decider]


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


def _vad(turns: Turns) -> VoiceActivity | None:
    if turns.strategy == "stt":
        return None
    return VoiceActivity(0.2 if turns.strategy == "smart_turn" else turns.end_silence_ms / 1000)
