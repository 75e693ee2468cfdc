"""A stage without a vendor: a scripted model and templates from a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pipecat.classifiers.base_classifier import BaseClassifier, ChoiceQuestion, ChoiceResult
from pipecat.services.llm_service import LLMService

from templates.model import TemplateContent
from tests.templates.flow_harness import Call, Say, ScriptedModel
from voicebot.call.text.judge import Judge
from voicebot.call.text.services import LlmFactory
from voicebot.providers.llm_failover import LlmWatch
from voicebot.providers.service_spec import ServiceSpec, made
from voicebot.simulate.file_library import FileLibrary
from voicebot.simulate.runner import SimulationSetup

DESK = """
name: Front desk
kind: orchestrator
prompt: You answer the telephone.
greeting: {text: "Acme, hello {{ caller }}."}
variables: [{name: caller, default: stranger}]
routes: [{name: billing, template: Billing, when: A bill., announce: "One moment."}]
"""

BILLING = """
name: Billing
functions:
  - {type: builtin, name: end_call}
  - {type: builtin, name: record_outcome}
  - type: http
    name: find_invoice
    url: https://example.com/find
    parameters: {type: object, properties: {number: {type: string}}, required: [number]}
    wait_text: Let me look.
greeting: {text: "Billing, hello."}
flow:
  initial_node: ask
  nodes:
    ask:
      role_message: You are the billing agent.
      task_messages: [{content: Ask for the number.}]
      functions: [{name: find_invoice, transition_to: {field: status, cases: {open: tell}}}]
    tell:
      task_messages: [{content: Tell what is open.}]
"""


def scripted(*turns: Say | Call) -> LlmFactory:
    """A model that answers with these replies and calls, for every agent."""
    script = list(turns)

    def make_llm(content: TemplateContent, _: LlmWatch | None) -> tuple[ServiceSpec, LLMService[Any]]:
        model = ScriptedModel([])
        model.script = script
        return ServiceSpec(key=f"llm of {content.name}", make=made(model), connected=_at_once), model

    return make_llm


class Opinion(BaseClassifier):
    """A judge that always gives the same verdict, and records what it was asked."""

    def __init__(self, verdict: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._verdict = verdict
        self.asked: list[Any] = []

    async def _ask(
        self, state: Any, questions: Mapping[str, Any], images: Sequence[Any] = ()
    ) -> tuple[dict[str, Any], None]:
        self.asked.append(state)
        answers = {}
        for name, question in questions.items():
            assert isinstance(question, ChoiceQuestion)
            chances = {option: float(option == self._verdict) for option in question.options}
            answers[name] = ChoiceResult(choice=self._verdict, confidence=1.0, probabilities=chances)
        return answers, None


def harness(library: FileLibrary, *turns: Say | Call, opinion: Opinion | None = None) -> SimulationSetup:
    """A setup in which the model follows a script."""

    async def find(name: str) -> UUID:
        return library.find(name)

    return SimulationSetup(
        library=library,
        find=find,
        llm=scripted(*turns),
        judge=lambda: Judge.by_classifier(opinion or Opinion("yes")),
        turn_timeout_s=5.0,
    )


async def _at_once() -> None:
    return None
