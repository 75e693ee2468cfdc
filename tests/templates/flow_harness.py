"""A real pipecat pipeline without sound: a scripted model, real aggregators, a real FlowManager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from pipecat.flows import FlowManager
from pipecat.frames.frames import Frame, LLMFullResponseEndFrame, LLMFullResponseStartFrame, LLMTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from templates.compile import Function, FunctionResult
from tests.context_model import ContextModel

Say = str
Call = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class LlmRequest:
    """What the model was given for one answer."""

    messages: list[dict[str, Any]]
    tools: dict[str, dict[str, Any]]
    role: str


class ScriptedModel(ContextModel):
    """A model that answers from a list: a text, or a function to call."""

    def __init__(self, script: list[Say | Call]) -> None:
        super().__init__()
        self.script = list(script)
        self.heard: list[LlmRequest] = []
        self.latency_s = 0.0
        self.spoken = asyncio.Event()

    async def respond(self, context: LLMContext) -> None:
        """Answer from the script."""
        tools = {tool.name: tool.to_default_dict() for tool in getattr(context.tools, "standard_tools", [])}
        self.heard.append(
            LlmRequest(
                [dict(cast("dict[str, Any]", message)) for message in context.messages], tools, self.role
            )
        )
        await self.push_frame(LLMFullResponseStartFrame())
        turn = self.script.pop(0) if self.script else "…"
        await asyncio.sleep(self.latency_s)
        if isinstance(turn, str):
            await self.push_frame(LLMTextFrame(turn))
        else:
            await self.call_functions([turn], context)
        await self.push_frame(LLMFullResponseEndFrame())
        self.spoken.set()


@dataclass(slots=True)
class FlowHarness:
    """A running pipeline and its flow manager."""

    manager: FlowManager
    model: ScriptedModel

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true, at most five seconds."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running_flow(*script: Say | Call) -> AsyncIterator[FlowHarness]:
    """Run a pipeline of user aggregator, model and assistant aggregator."""
    model = ScriptedModel(list(script))
    # The default stop strategy loads a turn model, which a text conversation has no use for.
    turns = UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy()])
    pair = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(user_turn_strategies=turns)
    )
    worker = PipelineWorker(Pipeline([pair.user(), model, pair.assistant()]), cancel_on_idle_timeout=False)
    started = asyncio.Event()

    async def on_started(_: PipelineWorker, __: Frame) -> None:
        started.set()

    worker.add_event_handler("on_pipeline_started", on_started)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(started.wait(), 30)
        manager = FlowManager(llm=model, context_aggregator=pair, worker=worker)
        yield FlowHarness(manager, model)
    finally:
        await worker.cancel()
        await running


@dataclass(slots=True)
class RecordingResolver:
    """A resolver whose functions record their calls and return the given results."""

    answers: Mapping[str, FunctionResult] = field(default_factory=dict)
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def __call__(self, name: str) -> Function:
        async def run(arguments: Mapping[str, Any]) -> FunctionResult:
            self.calls.append((name, arguments))
            return self.answers.get(name, FunctionResult(result={"status": "ok"}))

        return Function(
            name=name,
            description=f"Does {name}.",
            properties={"reason": {"type": "string", "description": "Why."}},
            required=["reason"],
            run=run,
        )
