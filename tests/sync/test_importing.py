"""`voicebot import pipecat-flows`, and the ports of the guide."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from templates.check import check_document
from templates.pipecat_flows import NoFlow, import_flow
from templates.sets import check_set, members, read_text
from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.cli import app

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "coming-from.md"
FLOW: dict[str, Any] = {
    "initial_node": "start",
    "nodes": {
        "start": {
            "role_messages": [{"role": "system", "content": "You take reservations for La Maison."}],
            "task_messages": [{"role": "system", "content": "Ask how many people come."}],
            "pre_actions": [{"type": "tts_say", "text": "Welcome to La Maison."}, {"type": "log"}],
            "functions": [
                {
                    "type": "function",
                    "function": {
                        "name": "collect_party_size",
                        "handler": "__function__:collect_party_size",
                        "description": "The caller has said how many people come.",
                        "parameters": {
                            "type": "object",
                            "properties": {"size": {"type": "integer", "description": "Number of people"}},
                            "required": ["size"],
                        },
                        "transition_to": "end",
                    },
                }
            ],
        },
        "end": {
            "task_messages": [{"role": "system", "content": "Confirm {{ size }} people and say goodbye."}],
            "functions": [],
            "post_actions": [{"type": "end_conversation"}],
        },
    },
}


def test_a_flow_becomes_a_template_that_passes_the_check(tmp_path: Path) -> None:
    """The file that the command prints has no errors, and notes name what has no counterpart."""
    file = tmp_path / "restaurant.json"
    file.write_text(json.dumps(FLOW))
    result = CliRunner().invoke(app, ["import", "pipecat-flows", str(file)])
    assert result.exit_code == 0, result.output
    _, report = check_document({**read_text(result.stdout).document, "status": "active"})
    assert report.errors == ()
    assert "'collect_party_size' has a handler" in result.stderr
    assert "the action 'log'" in result.stderr


async def test_an_imported_flow_is_talked_through() -> None:
    """On a call, the words of the flow are spoken, its value is kept, and it ends at its last node."""

    def answer(request: Request) -> ModelAnswer | str:
        if request.messages[-1]["role"] == "user" and "collect_party_size" in request.tools:
            return ModelAnswer(calls=[("collect_party_size", {"size": "4"})])
        return "Goodbye." if "Confirm 4 people" in str(request.messages) else "How many are you?"

    chat, opening = await begin(
        TextModel(answer), {**import_flow(FLOW, "La Maison").template, "greeting": None}, {}
    )
    assert [reply.text for reply in opening.replies] == ["Welcome to La Maison.", "How many are you?"]
    exchange = await chat.say("Four.")
    assert [reply.text for reply in exchange.replies] == ["Goodbye."]
    assert chat.variables()["size"] == 4
    await chat.hang_up()


def test_another_document_is_no_flow() -> None:
    """A document without nodes is refused."""
    with pytest.raises(NoFlow):
        import_flow({"name": "x"}, "x")


def test_the_ports_of_the_guide_pass_the_check() -> None:
    """Each template of the guide has neither errors nor warnings but those of an unknown account."""
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        for checked in check_set([document for _, document in members(read_text(block).document)]):
            found = [*checked.report.errors, *checked.report.warnings]
            assert {problem.code for problem in found} <= {"number_missing", "no_exit"}, found
