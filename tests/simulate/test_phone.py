"""`voicebot call`: a phone call with one's own templates by the sandbox's voices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from templates.sets import check_set
from tests.simulate.harness import BILLING, DESK
from tests.simulate.test_commands import run
from voicebot.sandbox.audio import wav
from voicebot.sandbox.audio.analysis import analyse
from voicebot.simulate.phone import prepare
from voicebot.simulate.script import read_yaml
from voicebot.simulate.unknown_template import UnknownTemplate


def written(folder: Path) -> Path:
    """The two templates as files."""
    (folder / "desk.yaml").write_text(DESK)
    (folder / "billing.yaml").write_text(BILLING)
    return folder


def test_an_agent_is_answered_by_an_orchestrator_of_its_own(tmp_path: Path) -> None:
    """The prepared set passes the check, and exactly the named template answers the number."""
    documents = [read_yaml(written(tmp_path) / name) for name in ("desk.yaml", "billing.yaml")]
    for name, answering in (("Front desk", "Front desk"), (" Billing ", "Preview of Billing")):
        prepared = prepare(documents, name)
        assert [each["name"] for each in prepared if "number" in each] == [answering]
        reports = [each.report for each in check_set(prepared)]
        assert [problem for report in reports for problem in report.errors] == []
    with pytest.raises(UnknownTemplate, match="Did you mean 'Billing'"):
        prepare(documents, "Biling")


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_airline_is_heard(tmp_path: Path) -> None:
    """The example of the docs: several voices, and a variable that is asked for."""
    say = tmp_path / "say.txt"
    say.write_text(
        "My suitcase did not arrive.\nTwo two zero zero four four seven one.\n"
        "I want to complain to a manager.\nGoodbye.\n"
    )
    ran = await run(
        "call",
        "Skylark Air",
        "--templates",
        Path(__file__).parents[2] / "docs" / "examples" / "airline",
        "--sandbox",
        "--say",
        say,
        "--out",
        tmp_path,
        "--json",
    )
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    routes = [(route["name"], route["status"]) for route in result["routes"]]
    assert routes == [("baggage", "done"), ("complaints", "done")]
    words = [each["text"] for each in result["transcript"] if each["speaker"] == "agent"]
    # An answer that takes long on a busy machine is preceded by this.
    words = [text for text in words if text != "One moment, please."]
    assert words[1] == "Could you tell me the bag tag, please?"
    assert "This is Paul." in words[3]
    recording = analyse(wav.read(Path(result["recording"])))
    assert len(recording.voices) > 1
    assert recording.overlaps == ()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_templates_are_heard_without_a_key(tmp_path: Path) -> None:
    """The caller says the lines of the file; the recording and the records of the call are there."""
    say = tmp_path / "say.txt"
    say.write_text("I have a question about a bill.\nNo, thank you. Goodbye.\n")
    ran = await run(
        "call",
        "Front desk",
        "--templates",
        written(tmp_path),
        "--sandbox",
        "--say",
        say,
        "--out",
        tmp_path,
        "--json",
    )
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert [route["name"] for route in result["routes"]] == ["billing"]
    said = [each["text"] for each in result["transcript"] if each["speaker"] == "caller"]
    assert said == ["I have a question about a bill.", "No, thank you. Goodbye."]
    assert result["turns"]
    assert wav.read(Path(result["recording"])).duration_ms > 3000
