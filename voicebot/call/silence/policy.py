"""What breaks a silence: one decision for every silence of a call, as a table without side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

FILLER_LEAD_MS = 500
"""A filler starts this long before the limit, because it takes time until it is heard."""

READY_FILLER_LEAD_MS = 200
"""The same for a filler whose audio is already synthesised."""

TTS_TIMEOUT_MS = 800
"""A text counts as lost when the TTS has made no audio of it for this time and the silence lasts for
``LOST_SILENCE_MS``."""

LOST_SILENCE_MS = 1200
"""The shortest silence in which a text counts as lost. It leaves 0.8 s for another connection, so that the
text is heard within 2 s."""

MIN_TIMEOUT_MS, PACE_FACTOR = 400, 3
"""The timeout of a voice that was fast so far: ``PACE_FACTOR`` times its slowest start, but at least this.
Two connections can then lose a text, and it is still heard within 2 s."""

SLOW_TIMEOUT_MS = 1500
"""The timeout of a voice that may be slow; it applies to the silence too."""

SLOW_PACE_MS = 500
"""A voice that took this long to start a text may be slow."""

NO_TTS_LEAD_MS = 200
"""If no TTS service has connected yet, the carrier speaks this long before the limit."""

UNANSWERED_MS = 800
"""After this time without a request, the model is asked for the pending answer."""

MAX_EMPTY = 2
"""How many times the model is asked again in a turn because its answer was empty."""

MAX_ASKED = 2
"""How many times the model is asked in a turn because there was no request."""

MAX_LLM_FAILURES = 1
"""After up to this many failures in a row, the agent apologises and the model is asked again."""

MAX_WORDLESS = 8
"""How many answers in a row may have no words, only function calls, in one turn."""

MAX_LOST = 2
"""How many times a lost text is spoken by another connection."""

MAX_TTS_FAILURES = 6
"""How many times the TTS may fail before all pending speech has been spoken. Then the carrier speaks."""

TTS_OUTAGE_MS = 3000
"""The TTS is given up only after its failures have lasted for this time: a short outage ends no call."""


class Pending(Enum):
    """What the caller is waiting for; the first value that applies."""

    GOODBYE = auto()
    """The call is ending: the goodbye is spoken, or its end is awaited."""
    SPEECH = auto()
    """The TTS has a text and has not made all its audio."""
    UNSPOKEN = auto()
    """Speech was interrupted by a sound without words, and its rest has not been spoken."""
    WORK = auto()
    """A model, a function or a route is in progress."""
    ANSWER = auto()
    """The caller expects an answer, and nothing is producing one."""
    REPETITION = auto()
    """The caller has spoken, but no STT service has transcribed it."""
    PERSON = auto()
    """The caller waits for a person, or talks to one."""
    NOTHING = auto()
    """It is the caller's turn to speak."""


class Step(Enum):
    """What is done to break a silence."""

    WAIT = auto()
    CONTINUE = auto()
    """Speak the rest of what was interrupted, from the word at which it stopped."""
    REPLACE_TTS = auto()
    """Speak what the TTS has lost over another connection, or with a backup."""
    NO_TTS = auto()
    """No TTS service works: the carrier speaks."""
    ASK = auto()
    """Ask the model for an answer, because there was no request."""
    ASK_AGAIN = auto()
    """Ask the model again, because its answer was empty."""
    APOLOGISE = auto()
    """Tell the caller that something failed, and ask the model again."""
    RETURN = auto()
    """Route the call back to the agent who answered it."""
    GIVE_UP = auto()
    """Request a person if the template offers that; otherwise say goodbye."""
    FILL = auto()
    """Speak a filler."""
    ASK_CALLER = auto()
    """Ask the caller to repeat what they said."""
    PROMPT = auto()
    """Speak an idle prompt."""
    LEAVE = auto()
    """Say goodbye to a caller who does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A silence at one moment. Times are in ms.

    Attributes:
        pending: what the caller is waiting for.
        silent_ms: how long both sides have been silent; 0 while one of them speaks.
        limit_ms: the longest silence while something is pending (``limits.silence_ms``).
        idle_after_ms: the caller's silence before each idle prompt (``idle.after_ms``).
        prompts_left: how many idle prompts are left.
        pending_ms: how long ``pending`` and ``can_speak`` have been the same.
        response_is_over: whether the model has just ended its response.
        llm_failures: how many requests to the model failed in a row.
        empty: how many of its answers in a row were empty.
        wordless: how many of its answers in a row had no words.
        asked: how many times the model was asked in this turn because there was no request.
        lost: how many times the TTS has lost speech in this turn.
        tts_timeout_ms: how long the TTS may take to start a text; see :func:`tts_timeout_ms`.
        can_return: whether the agent who answered the call may be able to answer.
        can_fill: whether a filler can be heard now; while other speech is pending, its audio must be ready.
        can_speak: whether the TTS service is connected.
        was_heard: whether any agent audio has been played on this stream.
    """

    pending: Pending
    silent_ms: float
    limit_ms: int
    idle_after_ms: int
    prompts_left: int = 0
    pending_ms: float = 0.0
    response_is_over: bool = False
    llm_failures: int = 0
    empty: int = 0
    wordless: int = 0
    asked: int = 0
    lost: int = 0
    tts_timeout_ms: float = TTS_TIMEOUT_MS
    can_return: bool = False
    can_fill: bool = False
    can_speak: bool = True
    was_heard: bool = True


_Rule = tuple[Callable[[Situation], bool], Step]


def tts_timeout_ms(
    pace_ms: float | None, *, usual_pace_ms: float | None = None, replaces_silent: bool
) -> float:
    """How long a voice may take to start a text before the text counts as lost.

    Args:
        pace_ms: its slowest start in this call; None: not known.
        usual_pace_ms: the slowest start of all voices of its provider; used if ``pace_ms`` is not known.
        replaces_silent: whether it replaces a voice that made no audio, which may only have been slow.
    """
    if pace_ms is None and (usual_pace_ms is None or PACE_FACTOR * usual_pace_ms > TTS_TIMEOUT_MS):
        return SLOW_TIMEOUT_MS if replaces_silent else TTS_TIMEOUT_MS
    known_ms = pace_ms if pace_ms is not None else usual_pace_ms or 0.0
    if known_ms >= SLOW_PACE_MS:
        return SLOW_TIMEOUT_MS
    return min(TTS_TIMEOUT_MS, max(MIN_TIMEOUT_MS, PACE_FACTOR * known_ms))


def _speech_is_lost(s: Situation) -> bool:
    # The last connection has the longest timeout, so that a short outage ends no call.
    timeout_ms = s.tts_timeout_ms if s.lost < MAX_LOST else SLOW_TIMEOUT_MS
    return s.can_speak and s.silent_ms >= max(LOST_SILENCE_MS, timeout_ms) and s.pending_ms >= timeout_ms


def _is_unanswered(s: Situation) -> bool:
    return min(s.silent_ms, s.pending_ms) >= UNANSWERED_MS


def _has_failed(s: Situation) -> bool:
    """Whether the agent has used all its attempts to answer."""
    if s.llm_failures:
        return s.llm_failures > MAX_LLM_FAILURES
    is_not_asked = s.asked > MAX_ASKED and _is_unanswered(s)
    return s.empty > MAX_EMPTY or s.wordless > MAX_WORDLESS or is_not_asked


def _needs_filler(s: Situation) -> bool:
    return s.can_fill and s.silent_ms >= s.limit_ms - FILLER_LEAD_MS


def _needs_filler_meanwhile(s: Situation) -> bool:
    """Whether a filler is due while the TTS service is still connecting."""
    return not s.can_speak and _needs_filler(s)


def _has_no_tts(s: Situation) -> bool:
    """Whether the caller has heard nothing yet and no TTS service has connected in time."""
    is_mute = not s.can_speak and not s.can_fill and not s.was_heard
    return is_mute and s.silent_ms >= s.limit_ms - NO_TTS_LEAD_MS


RULES: dict[Pending, Sequence[_Rule]] = {
    Pending.GOODBYE: ((_needs_filler_meanwhile, Step.FILL),),
    Pending.PERSON: (),
    Pending.SPEECH: (
        (lambda s: _speech_is_lost(s) and s.lost < MAX_LOST, Step.REPLACE_TTS),
        (_speech_is_lost, Step.NO_TTS),
        (lambda s: s.can_fill and s.silent_ms >= s.limit_ms - READY_FILLER_LEAD_MS, Step.FILL),
    ),
    Pending.UNSPOKEN: ((lambda s: s.can_speak, Step.CONTINUE), (_needs_filler_meanwhile, Step.FILL)),
    Pending.WORK: ((_has_no_tts, Step.NO_TTS), (_needs_filler, Step.FILL)),
    Pending.ANSWER: (
        (lambda s: s.can_return and _has_failed(s), Step.RETURN),
        (_has_failed, Step.GIVE_UP),
        (lambda s: s.llm_failures > 0, Step.APOLOGISE),
        (lambda s: s.empty > 0 and s.response_is_over, Step.ASK_AGAIN),
        (_is_unanswered, Step.ASK),
    ),
    Pending.REPETITION: ((lambda s: s.silent_ms > 0, Step.ASK_CALLER),),
    Pending.NOTHING: (
        (lambda s: s.silent_ms >= s.idle_after_ms and s.prompts_left > 0, Step.PROMPT),
        (lambda s: s.silent_ms >= s.idle_after_ms, Step.LEAVE),
    ),
}
"""For each pending thing, the steps in order of preference, each with its condition; none applies: wait."""


def next_step(situation: Situation) -> Step:
    """What to do in a situation."""
    return next((step for applies, step in RULES[situation.pending] if applies(situation)), Step.WAIT)
