"""Judges with a language model whether a reply satisfies a criterion in an author's words."""

from __future__ import annotations

from dataclasses import dataclass

from pipecat.classifiers.base_classifier import BaseClassifier
from pipecat.classifiers.llm.classifier import LLMClassifier
from pipecat.evals.judge import EvalJudge

from templates.model import TemplateContent
from voicebot.call.text.exchange import Exchange, FunctionCall, Reply
from voicebot.call.text.services import LlmFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the reply satisfies the criterion, and why."""

    passed: bool
    reason: str


class Judge:
    """Judges one conversation with the judge of pipecat's evals."""

    def __init__(self, judge: EvalJudge) -> None:
        """``judge`` has received no message yet."""
        self._judge = judge

    @classmethod
    def by_model(cls, llm: LlmFactory) -> Judge:
        """A judge that uses the deployment's default model, which also explains its verdict."""
        _, service = llm(TemplateContent(name="judge"), None)
        # The conversation to be judged is complete, so the judge may not ask to wait for more.
        return cls(EvalJudge(LLMClassifier(llm=service), explainer=service, allow_continue=False))

    @classmethod
    def by_classifier(cls, classifier: BaseClassifier) -> Judge:
        """A judge that uses a classifier."""
        return cls(EvalJudge(classifier, allow_continue=False))

    def add(self, exchange: Exchange) -> None:
        """Add a turn; from now on its reply is judged."""
        self._judge.add_user_message(exchange.said)
        for step in exchange.steps:
            if isinstance(step, Reply):
                self._judge.add_assistant_message(step.text)
            elif isinstance(step, FunctionCall):
                self._judge.add_tool_call(f"{step.name}({dict(step.arguments)})")

    async def verdict(self, criterion: str) -> Verdict:
        """Whether the latest reply satisfies ``criterion``; False if the model cannot be reached."""
        verdict = await self._judge.evaluate(criterion)
        return Verdict(passed=verdict.passed, reason=verdict.reason)

    async def close(self) -> None:
        """Release the model's connections."""
        await self._judge.close()
