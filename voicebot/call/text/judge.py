"""Whether a reply is what an author asked for, where no list of words can tell: asked of a language model."""

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
    """Judges one conversation: pipecat's own judge, that its evals use."""

    def __init__(self, judge: EvalJudge) -> None:
        """``judge`` has heard nothing yet."""
        self._judge = judge

    @classmethod
    def by_model(cls, llm: LlmFactory) -> Judge:
        """The deployment's usual model decides, and says why."""
        _, service = llm(TemplateContent(name="judge"))
        # What is judged is complete: there is nothing to wait for.
        return cls(EvalJudge(LLMClassifier(llm=service), explainer=service, allow_continue=False))

    @classmethod
    def by_classifier(cls, classifier: BaseClassifier) -> Judge:
        """A classifier decides."""
        return cls(EvalJudge(classifier, allow_continue=False))

    def hear(self, exchange: Exchange) -> None:
        """Take in a turn: what is judged from now on is its reply."""
        self._judge.add_user_message(exchange.said)
        for step in exchange.steps:
            if isinstance(step, Reply):
                self._judge.add_assistant_message(step.text)
            elif isinstance(step, FunctionCall):
                self._judge.add_tool_call(f"{step.name}({dict(step.arguments)})")

    async def verdict(self, criterion: str) -> Verdict:
        """Whether the latest reply satisfies ``criterion``; a model that cannot be asked makes it no."""
        verdict = await self._judge.evaluate(criterion)
        return Verdict(passed=verdict.passed, reason=verdict.reason)

    async def close(self) -> None:
        """Release what the model holds."""
        await self._judge.close()
