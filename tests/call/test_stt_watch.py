"""An STT that gets speech and says nothing: voicebot.call.audio.stt_watch."""

from __future__ import annotations

import numpy as np

from voicebot.call.audio.stt_watch import SttWatch

SILENCE_MS = 300.0
MS = 8  # samples


def speech(ms: float, level: int = 6000) -> bytes:
    """A tone of 200 Hz."""
    wave = np.sin(2 * np.pi * 200 * np.arange(round(ms) * MS) / 8000) * level
    return wave.astype("<i2").tobytes()


def line(ms: float, level: int = 40) -> bytes:
    """The noise of a line."""
    return np.random.default_rng(1).integers(-level, level, round(ms) * MS, dtype=np.int16).tobytes()


def overdue_at(watch: SttWatch, audio: bytes) -> list[float]:
    """When, in ms of this audio, the service must have said something."""
    step = 20 * MS * 2
    pieces = [audio[at : at + step] for at in range(0, len(audio), step)]
    return [20.0 * (n + 1) for n, piece in enumerate(pieces) if watch.hear(piece, SILENCE_MS)]


def test_after_speech_a_service_is_judged_within_one_and_a_half_seconds() -> None:
    """The time counts from the end of speech; the same speech is judged once."""
    [at] = overdue_at(SttWatch(), speech(1000) + line(6000))
    assert 1000 + 1200 < at <= 1000 + SILENCE_MS + 1500


def test_a_service_that_sends_interims_is_judged_while_the_caller_speaks() -> None:
    """It has sent one before, and sends none within 1.5 s of speech."""
    watch = SttWatch()
    watch.transcribed(1, final=False)
    assert overdue_at(watch, line(200) + speech(2000)) == [1700.0]


def test_a_service_without_interims_is_given_time_while_the_caller_speaks() -> None:
    """Nothing is known of it: 5 s of speech without a pause are judged."""
    assert overdue_at(SttWatch(), line(200) + speech(5500)) == [5200.0]


def test_a_transcript_answers_what_was_spoken() -> None:
    """Speech that was transcribed is not judged."""
    watch = SttWatch()
    assert overdue_at(watch, speech(1000) + line(500)) == []
    watch.transcribed(3, final=True)
    assert overdue_at(watch, line(5000)) == []


def test_a_cough_and_the_noise_of_a_line_are_not_speech() -> None:
    """Less than 600 ms, or as loud as the line always is."""
    assert overdue_at(SttWatch(), speech(500) + line(5000)) == []
    assert overdue_at(SttWatch(), line(20_000, level=250)) == []


def test_noise_that_stays_becomes_the_measure() -> None:
    """A loud place is judged a few times at most, at growing distances."""
    found = overdue_at(SttWatch(), line(120_000, level=3000))
    assert len(found) <= 3


def test_a_second_judgement_of_silence_waits_longer() -> None:
    """Sounds that no service transcribes do not make the call replace its services repeatedly."""
    watch = SttWatch()
    [first] = overdue_at(watch, speech(1000) + line(6000))
    [second] = overdue_at(watch, speech(1000) + line(6000))
    assert second > first + 1000


def test_a_final_transcript_is_expected_after_an_interim_one() -> None:
    """A service that has heard words and never says which is judged; one that finds none is not."""
    watch = SttWatch()
    assert overdue_at(watch, speech(900)) == []
    watch.transcribed(3, final=False)
    assert overdue_at(watch, speech(100) + line(3000)) == [1600.0]
    watch.transcribed(3, final=False)
    watch.transcribed(0, final=True)
    assert overdue_at(watch, line(5000)) == []


def test_an_interim_transcript_of_one_word_may_be_noise() -> None:
    """A sound that was taken for a word for a moment is no reason to change the service."""
    watch = SttWatch()
    assert overdue_at(watch, speech(400)) == []
    watch.transcribed(1, final=False)
    assert overdue_at(watch, line(5000)) == []


def test_one_word_of_speech_that_was_not_transcribed_before_is_not_noise() -> None:
    """The service that gets speech for which another one was replaced owes a final transcript of it."""
    watch = SttWatch()
    overdue_at(watch, speech(1000) + line(2000))
    watch.replaced()
    watch.transcribed(0, final=False)
    assert watch.has_speech
    watch.transcribed(1, final=False)
    assert overdue_at(watch, line(3000)) == [SILENCE_MS + 1200]
    assert (watch.has_speech, watch.judged) == (True, 2)


def test_speech_is_owed_words_until_a_service_says_them_or_that_there_are_none() -> None:
    """A judgement does not answer it: the next service is given the speech; after 3 s it was noise."""
    watch = SttWatch()
    assert not watch.has_speech
    overdue_at(watch, speech(1000) + line(2000))
    assert (watch.has_speech, watch.judged) == (True, 1)
    overdue_at(watch, line(3000))
    assert not watch.has_speech
    overdue_at(watch, speech(1000) + line(4000))
    assert (watch.has_speech, watch.judged) == (True, 2)
    watch.transcribed(2, final=True)
    assert (watch.has_speech, watch.judged) == (False, 0)


def test_no_service_is_judged_before_it_is_connected() -> None:
    """A transcript of what the caller says meanwhile stays expected; its time counts from the connection."""
    watch = SttWatch()
    for piece in (speech(6000), line(9000)):
        assert not watch.hear(piece, None)
    assert (watch.has_speech, watch.judged, watch.quiet_ms) == (True, 0, 9000.0)
    watch.replaced()
    assert overdue_at(watch, line(3000)) == [1000 + SILENCE_MS + 200]


def test_speech_that_two_services_have_not_transcribed_is_unheard() -> None:
    """It is so until a service says something, or the caller is asked to repeat it."""
    watch = SttWatch()
    overdue_at(watch, speech(1000) + line(2000))
    watch.replaced()
    overdue_at(watch, line(2900))
    assert (watch.has_speech, watch.is_unheard) == (True, False)
    overdue_at(watch, line(200))
    assert (watch.has_speech, watch.is_unheard) == (False, True)
    watch.transcribed(0, final=True)
    assert not watch.is_unheard


def test_it_is_known_when_words_that_are_transcribed_late_have_ended() -> None:
    """Where the words were audible; otherwise nothing is said about it."""
    watch = SttWatch()
    overdue_at(watch, speech(500) + line(1000))
    watch.transcribed(2, final=True)
    assert watch.transcribed_quiet_ms == 1000.0
    overdue_at(watch, line(500))
    watch.transcribed(2, final=True)
    assert watch.transcribed_quiet_ms == 0.0


def test_words_that_the_final_transcript_does_not_have_are_unheard() -> None:
    """An interim transcript had several of them, and the final one is empty; a single one may be noise."""
    watch = SttWatch()
    for words, is_unheard in ((1, False), (3, True)):
        overdue_at(watch, speech(900))
        watch.transcribed(words, final=False)
        watch.transcribed(0, final=True)
        assert watch.is_unheard is is_unheard


def test_what_was_taken_for_noise_is_not_unheard() -> None:
    """It was, because the agent went on with what it had cut off; later speech is another matter."""
    watch = SttWatch()
    overdue_at(watch, speech(1000) + line(2000))
    watch.forget()
    overdue_at(watch, line(3000))
    assert not watch.is_unheard
    overdue_at(watch, speech(1000) + line(8000))
    assert watch.is_unheard
