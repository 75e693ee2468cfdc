"""What breaks a silence: one decision for every silence of a call, as a table without side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

LEAD_MS = 500
"""How long before the limit a filler is begun: it takes time until it is heard."""

READY_LEAD_MS = 200
"""The same for a filler whose audio is ready."""

LOST_MS = 800
"""A voice has lost a text if it makes no audio of it for so long, in a silence of ``LOST_SILENCE_MS``."""

LOST_SILENCE_MS = 1200
"""The silence in which a text counts as lost: another connection needs the rest of 2 s to be heard."""

QUICK_MS, PACES = 400, 3
"""A voice that has always been quick in this call is given ``PACES`` times as long as it needed, at least so
long: then two connections can lose a text, and it is heard within 2 s."""

SLOW_MS = 1500
"""The time of a voice that may be slow: the silence, and the time without audio of a text."""

SLOW_PACE_MS = 500
"""A voice that took so long to begin a text may be slow."""

VOICELESS_LEAD_MS = 200
"""How long before the limit the carrier speaks in place of a voice that has never been connected."""

UNATTENDED_MS = 800
"""How long nobody may work on an answer that is owed: a request may be on its way."""

MAX_EMPTY = 2
"""How often the model is asked again in one turn because its answer was empty."""

MAX_ASKED = 2
"""How often the model is asked in one turn because nobody had asked it."""

MAX_FAILURES = 1
"""After how many failures in a row the model is asked again, with an apology before."""

MAX_WORDLESS = 8
"""How many answers without words, such as calls of functions, may follow one another in one turn."""

MAX_LOST = 2
"""How often a text that a voice has lost is given to another connection."""

MAX_BROKEN = 6
"""How often voices may fail while they owe speech, until all of it is spoken; then no voice speaks."""

BROKEN_MS = 3000
"""For how long they may do so at least: an outage of a moment ends no call."""


class Owed(Enum):
    """What we owe the caller; the first that applies."""

    GOODBYE = auto()
    """The call ends: the goodbye is spoken, or its end is awaited."""
    SPEECH = auto()
    """A text was given to the voice and its audio is not complete."""
    REST = auto()
    """Speech was cut off by a sound without words."""
    WORK = auto()
    """A model, a function or a route is at work."""
    ANSWER = auto()
    """Words are owed and nobody is producing them."""
    REPETITION = auto()
    """The caller has spoken, and no service has said what: they do not know that nobody has heard it."""
    PERSON = auto()
    """A person: the caller waits for one, or talks to one."""
    NOTHING = auto()
    """It is the caller's turn to speak."""


class Step(Enum):
    """What is done about a silence."""

    WAIT = auto()
    CONTINUE = auto()
    """Speak what was cut off, from the word where it was cut."""
    REPLACE_VOICE = auto()
    """Speak what the voice has lost on another connection, or with a backup."""
    NO_VOICE = auto()
    """No voice speaks: the carrier has to."""
    ASK = auto()
    """Ask the model for an answer, because nobody has."""
    ASK_AGAIN = auto()
    """Ask the model again, because its answer was empty."""
    APOLOGISE = auto()
    """Tell the caller that something failed, and ask the model again."""
    RETURN = auto()
    """Give the call back to the agent who answered it, who may be able to answer."""
    GIVE_UP = auto()
    """Ask for a person where the author offers one; otherwise say goodbye."""
    FILL = auto()
    """Say that it takes a moment."""
    ASK_CALLER = auto()
    """Ask the caller to say it again."""
    PROMPT = auto()
    """Ask the caller whether they are there."""
    LEAVE = auto()
    """Say goodbye to a caller who does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A silence at one moment. Times are in ms.

    Attributes:
        owed: what we owe the caller.
        silent_ms: how long neither side has been heard; 0 while one of them speaks.
        limit_ms: how long a silence of ours may last (``limits.silence_ms``).
        idle_after_ms: how long a silence of the caller lasts before each prompt (``idle.after_ms``).
        prompts_left: how many prompts the caller has not heard yet.
        owed_ms: for how long that has been owed, and the voice been as it is.
        response_is_over: whether the model has just ended its response.
        failures: how often the model failed in a row.
        empty: how many of its answers in a row were empty.
        wordless: how many of its answers in a row had no words.
        asked: how often it was asked in this turn because nobody had asked it.
        lost: how often a voice has lost speech in this turn.
        patience_ms: how long the voice is given to begin a text, by :func:`patience_ms`.
        can_return: whether the agent who answered the call may be able to answer.
        can_fill: whether there is a filler and a voice for it; its audio, while the voice owes other speech.
        can_speak: whether the voice is connected.
        was_heard: whether any of our words have been played on this stream.
    """

    owed: Owed
    silent_ms: float
    limit_ms: int
    idle_after_ms: int
    prompts_left: int = 0
    owed_ms: float = 0.0
    response_is_over: bool = False
    failures: int = 0
    empty: int = 0
    wordless: int = 0
    asked: int = 0
    lost: int = 0
    patience_ms: float = LOST_MS
    can_return: bool = False
    can_fill: bool = False
    can_speak: bool = True
    was_heard: bool = True


_Rule = tuple[Callable[[Situation], bool], Step]


def patience_ms(pace_ms: float | None, *, usual_pace_ms: float | None = None, replaces_silent: bool) -> float:
    """How long a voice is given to begin a text before the text counts as lost.

    Args:
        pace_ms: how long it has taken at most in this call; None: that is not known.
        usual_pace_ms: the same of all voices of its provider; it decides if the voice itself is not known.
        replaces_silent: whether it replaces a voice that was silent, which may have been slow.
    """
    if pace_ms is None and (usual_pace_ms is None or PACES * usual_pace_ms > LOST_MS):
        return SLOW_MS if replaces_silent else LOST_MS
    known_ms = pace_ms if pace_ms is not None else usual_pace_ms or 0.0
    return SLOW_MS if known_ms >= SLOW_PACE_MS else min(LOST_MS, max(QUICK_MS, PACES * known_ms))


def _speech_is_lost(s: Situation) -> bool:
    # No voice may be quick enough to be the last one: an outage of a moment ends no call.
    patience = s.patience_ms if s.lost < MAX_LOST else SLOW_MS
    return s.can_speak and s.silent_ms >= max(LOST_SILENCE_MS, patience) and s.owed_ms >= patience


def _is_unattended(s: Situation) -> bool:
    return min(s.silent_ms, s.owed_ms) >= UNATTENDED_MS


def _has_failed(s: Situation) -> bool:
    """Whether the agent has had all its attempts to answer."""
    if s.failures:
        return s.failures > MAX_FAILURES
    is_not_asked = s.asked > MAX_ASKED and _is_unattended(s)
    return s.empty > MAX_EMPTY or s.wordless > MAX_WORDLESS or is_not_asked


def _needs_filler(s: Situation) -> bool:
    return s.can_fill and s.silent_ms >= s.limit_ms - LEAD_MS


def _needs_filler_meanwhile(s: Situation) -> bool:
    """Whether a filler is due while the voice that is to speak still connects."""
    return not s.can_speak and _needs_filler(s)


def _has_no_voice(s: Situation) -> bool:
    """Whether a caller who has heard nothing yet would wait in silence for a voice."""
    is_mute = not s.can_speak and not s.can_fill and not s.was_heard
    return is_mute and s.silent_ms >= s.limit_ms - VOICELESS_LEAD_MS


RULES: dict[Owed, Sequence[_Rule]] = {
    Owed.GOODBYE: ((_needs_filler_meanwhile, Step.FILL),),
    Owed.PERSON: (),
    Owed.SPEECH: (
        (lambda s: _speech_is_lost(s) and s.lost < MAX_LOST, Step.REPLACE_VOICE),
        (_speech_is_lost, Step.NO_VOICE),
        (lambda s: s.can_fill and s.silent_ms >= s.limit_ms - READY_LEAD_MS, Step.FILL),
    ),
    Owed.REST: ((lambda s: s.can_speak, Step.CONTINUE), (_needs_filler_meanwhile, Step.FILL)),
    Owed.WORK: ((_has_no_voice, Step.NO_VOICE), (_needs_filler, Step.FILL)),
    Owed.ANSWER: (
        (lambda s: s.can_return and _has_failed(s), Step.RETURN),
        (_has_failed, Step.GIVE_UP),
        (lambda s: s.failures > 0, Step.APOLOGISE),
        (lambda s: s.empty > 0 and s.response_is_over, Step.ASK_AGAIN),
        (_is_unattended, Step.ASK),
    ),
    Owed.REPETITION: ((lambda s: s.silent_ms > 0, Step.ASK_CALLER),),
    Owed.NOTHING: (
        (lambda s: s.silent_ms >= s.idle_after_ms and s.prompts_left > 0, Step.PROMPT),
        (lambda s: s.silent_ms >= s.idle_after_ms, Step.LEAVE),
    ),
}
"""For each thing owed: the steps in order of preference, each with its condition. Otherwise: wait."""


def next_step(situation: Situation) -> Step:
    """What to do in a situation."""
    return next((step for applies, step in RULES[situation.owed] if applies(situation)), Step.WAIT)
