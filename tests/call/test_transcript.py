"""Who said what: voicebot.call.transcript.transcript."""

from uuid import uuid4

import pytest

from voicebot.call.transcript.transcript import ActiveAgent, Transcript, Utterance

ROLE = ActiveAgent(template_id=uuid4(), node="start")


@pytest.fixture
def said() -> list[Utterance]:
    return []


@pytest.fixture
def transcript(said: list[Utterance]) -> Transcript:
    return Transcript(said.append)


def test_an_utterance_closes_when_text_and_audio_are_both_out(
    transcript: Transcript, said: list[Utterance]
) -> None:
    """An agent's utterance is recorded once, when its text is complete and its last audio went out."""
    transcript.requested("a", "Hello there.")
    transcript.sounding("a", ROLE, at_ms=100, position=0.0)
    transcript.agent_finished("Hello there.", at_ms=700)
    assert said == []
    transcript.silent(at_ms=900)
    (only,) = said
    assert (only.text, only.heard_text, only.interrupted) == ("Hello there.", "Hello there.", False)
    assert (only.started_ms, only.ended_ms, only.seq, only.source) == (100, 900, 1, "llm")


def test_an_interruption_keeps_only_the_words_that_were_played(
    transcript: Transcript, said: list[Utterance]
) -> None:
    """Of an interrupted utterance the heard text ends with the last word whose audio began to play."""
    transcript.requested("a", "One two three four.")
    transcript.sounding("a", ROLE, at_ms=0, position=1000.0)
    for index, word in enumerate(["One", "two", "three", "four."]):
        transcript.word(word, spaced=False, position=1000.0 + 300 * index)
    cut = transcript.agent_interrupted(heard_until=1400.0, at_ms=500)
    assert cut is not None
    assert (cut.meant, cut.heard) == ("One two three four.", "One two")
    (only,) = said
    assert (only.text, only.heard_text, only.interrupted) == ("One two three four.", "One two", True)


def test_nothing_is_recorded_of_what_never_sounded(transcript: Transcript, said: list[Utterance]) -> None:
    """Text that was requested but interrupted before its first audio leaves no utterance."""
    transcript.requested("a", "Never heard.")
    assert transcript.agent_interrupted(heard_until=0.0, at_ms=10) is None
    assert said == []


def test_a_new_utterance_closes_the_one_before(transcript: Transcript, said: list[Utterance]) -> None:
    """When the next utterance sounds before the last one's end was noticed, both are recorded, in order."""
    transcript.requested("a", "First.")
    transcript.requested("b", "Second.", "filler")
    transcript.sounding("a", ROLE, at_ms=0, position=0.0)
    transcript.agent_finished("First.", at_ms=10)
    transcript.sounding("b", ROLE, at_ms=20, position=300.0)
    transcript.silent(at_ms=30)
    transcript.agent_finished("Second.", at_ms=30)
    assert [(u.seq, u.text, u.source) for u in said] == [(1, "First.", "llm"), (2, "Second.", "filler")]


def test_caller_and_agents_are_one_list(transcript: Transcript, said: list[Utterance]) -> None:
    """The caller's turns and ours are numbered in one sequence, each with its template and node."""
    transcript.caller_said("billing please", ROLE, started_ms=0, ended_ms=500)
    transcript.caller_said("   ", ROLE, started_ms=600, ended_ms=700)
    transcript.requested("a", "Of course.")
    transcript.sounding("a", ROLE, at_ms=800, position=0.0)
    transcript.silent(at_ms=900)
    transcript.agent_finished("Of course.", at_ms=910)
    assert [(u.seq, u.speaker, u.node) for u in said] == [(1, "caller", "start"), (2, "agent", "start")]


def test_what_the_model_does_not_take_in_is_complete_with_its_audio(
    transcript: Transcript, said: list[Utterance]
) -> None:
    """An announcement that the model already remembers is complete with its last audio."""
    transcript.requested("a", "One moment please.", "filler", remembered=False)
    transcript.sounding("a", ROLE, at_ms=0, position=0.0)
    transcript.silent(at_ms=900)
    (only,) = said
    assert (only.text, only.heard_text, only.source) == ("One moment please.",) * 2 + ("filler",)


def test_what_sounded_to_its_end_was_heard_whole(transcript: Transcript, said: list[Utterance]) -> None:
    """When all audio of an utterance was heard, its last word counts as heard though it was not told yet."""
    transcript.requested("a", "What is it about?")
    transcript.sounding("a", ROLE, at_ms=0, position=0.0)
    transcript.word("What is it", spaced=False, position=300.0)
    transcript.silent(at_ms=900, position=900.0)
    transcript.agent_interrupted(at_ms=1500, heard_until=900.0)

    assert [(it.heard_text, it.interrupted) for it in said] == [("What is it about?", False)]
