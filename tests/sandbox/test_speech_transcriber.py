"""Listening, without a server: phrases, endpointing and recognition."""

import threading
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicebot.sandbox.audio.mulaw import Samples, samples_of, through_the_line
from voicebot.sandbox.speech.grammar import PhraseGrammar
from voicebot.sandbox.speech.recogniser import RecogniserPool, Word
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.speech.transcriber import Heard, SpeechStarted, Transcriber, TranscriberSettings

PHRASES = (
    "Hello, I have a question about my bill.",
    "I would like to book a table for four.",
    "Take me back, please.",
    "My order number is four two seven one.",
    "No, thank you.",
    "Can you cancel my appointment?",
    "I lost my card yesterday.",
    "Monday at three in the afternoon.",
    "I would like a refund for order 4271.",
    "Please send it to my new address.",
)


@pytest.fixture(scope="module")
def recognisers() -> RecogniserPool:
    return RecogniserPool(PhraseGrammar.of(PHRASES))


def _around(samples: Samples, *, after_ms: int = 600) -> Samples:
    return np.concatenate([np.zeros(1600, np.int16), samples, np.zeros(after_ms * 8, np.int16)])


def _heard(
    recognisers: RecogniserPool, samples: Samples, settings: TranscriberSettings, part: int = 160
) -> list[str]:
    transcriber = Transcriber(recognisers, settings)
    events = [e for at in range(0, len(samples), part) for e in transcriber.hear(samples[at : at + part])]
    return [" ".join(word.written for word in e.words) for e in events if isinstance(e, Heard) and e.final]


def test_phrases_are_understood_in_any_voice_through_a_telephone_line(recognisers: RecogniserPool) -> None:
    """Of four voices by ten phrases through µ-law, at most one is misheard."""
    settings = TranscriberSettings(endpointing_ms=400)
    wrong = [
        (voice, phrase)
        for voice in (f"caller-{n}" for n in range(4))
        for phrase in PHRASES
        if " ".join(
            _heard(recognisers, _around(through_the_line(samples_of(synthesize(phrase, voice)))), settings)
        )
        != phrase
    ]
    assert len(wrong) <= 1


@pytest.mark.parametrize("gain", [0.15, 0.5, 1.5])
def test_loudness_does_not_matter(recognisers: RecogniserPool, gain: float) -> None:
    """A quiet and a loud caller are understood alike."""
    samples = np.clip(samples_of(synthesize(PHRASES[0], "caller-2")) * gain, -32768, 32767).astype(np.int16)
    assert _heard(recognisers, _around(samples), TranscriberSettings(endpointing_ms=400)) == [PHRASES[0]]


def test_a_caller_in_a_noisy_room_is_understood(recognisers: RecogniserPool) -> None:
    """Steady noise 25 dB under the speech neither starts an utterance nor spoils one."""
    samples = _around(samples_of(synthesize(PHRASES[0], "caller-2")), after_ms=1500)
    noise = np.random.default_rng(1).normal(0, 150, len(samples) + 8000)
    noisy = (np.concatenate([np.zeros(8000), samples]) + noise).astype(np.int16)
    assert _heard(recognisers, noisy, TranscriberSettings(endpointing_ms=400)) == [PHRASES[0]]


def test_how_the_audio_is_cut_into_messages_changes_nothing(recognisers: RecogniserPool) -> None:
    """Messages of 1, 20, 33.25 or 1,000 ms give the same words."""
    samples = _around(samples_of(synthesize(PHRASES[1], "caller-2")))
    settings = TranscriberSettings(endpointing_ms=300)
    heard = {tuple(_heard(recognisers, samples, settings, part)) for part in (8, 160, 266, 8000)}
    assert heard == {(PHRASES[1],)}


def test_a_click_is_no_speech(recognisers: RecogniserPool) -> None:
    """A sound of 20 ms starts nothing."""
    samples = np.zeros(8000, np.int16)
    samples[4000:4160] = 12000
    assert Transcriber(recognisers, TranscriberSettings()).hear(samples) == []


def test_somebody_cut_off_is_heard_as_far_as_they_came(recognisers: RecogniserPool) -> None:
    """The first half of a phrase gives words, and they are its first ones."""
    samples = samples_of(synthesize(PHRASES[0], "caller-2"))
    transcriber = Transcriber(recognisers, TranscriberSettings(endpointing_ms=400))
    transcriber.hear(_around(samples[: len(samples) // 2], after_ms=0))
    words = [word.written for word in transcriber.finalize().words]
    assert words
    assert PHRASES[0].startswith(" ".join(words))


def test_speech_is_announced_once_an_utterance(recognisers: RecogniserPool) -> None:
    """Two phrases with a pause between them start twice."""
    samples = np.concatenate([_around(samples_of(synthesize(p, "caller-2"))) for p in PHRASES[:2]])
    events = Transcriber(recognisers, TranscriberSettings(endpointing_ms=300)).hear(samples)
    assert [type(e) for e in events] == [SpeechStarted, Heard] * 2


def test_recognisers_are_used_again() -> None:
    """Utterances one after the other need one recogniser between them."""
    recognisers = RecogniserPool(PhraseGrammar.of(PHRASES), warm=1)
    first = recognisers.take()
    assert first is not None
    recognisers.give_back(first)
    assert recognisers.take() is first


def test_a_recogniser_for_old_phrases_is_not_lent_again() -> None:
    """A recogniser that was borrowed before other phrases were taught is not reused."""
    recognisers = RecogniserPool(PhraseGrammar.of(["One phrase."]), warm=1)
    old = recognisers.take()
    assert old is not None
    recognisers.teach(PhraseGrammar.of(["Another phrase."]), warm=0)
    recognisers.give_back(old)
    assert recognisers.take() is not old


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_text_can_be_a_phrase(phrases: list[str]) -> None:
    """The recogniser accepts the grammar and dictionary of any phrases."""
    book = PhraseGrammar.of(phrases)
    recogniser = RecogniserPool(book, warm=1).take()
    assert (recogniser is not None) == bool(book.alternatives)


class _Threads:
    """Lends one recogniser, which notes the threads in which it is used."""

    def __init__(self, *, needs_thread: bool) -> None:
        self.needs_thread = needs_thread
        self.seen: set[int] = set()

    def take(self) -> Self:
        return self

    def give_back(self, recogniser: Self) -> None:
        pass

    def begin(self) -> None:
        pass

    def hear(self, samples: Samples) -> None:
        self.seen.add(threading.get_ident())

    def so_far(self) -> tuple[Word, ...]:
        return ()

    finish = so_far


@pytest.mark.parametrize("needs_thread", [False, True])
async def test_a_recogniser_is_used_in_a_thread_if_it_needs_one(needs_thread: bool) -> None:
    """`listen` returns what `hear` returns, and uses the event loop's thread for cheap recognisers only."""
    samples = _around(samples_of(synthesize(PHRASES[0], "caller-1")))
    settings = TranscriberSettings(endpointing_ms=400)
    recognisers = _Threads(needs_thread=needs_thread)
    transcriber = Transcriber(recognisers, settings)
    events = [
        e for at in range(0, len(samples), 480) for e in await transcriber.listen(samples[at : at + 480])
    ]
    assert needs_thread == (threading.get_ident() not in recognisers.seen)
    assert events == Transcriber(recognisers, settings).hear(samples)
    assert any(isinstance(event, Heard) for event in events)
