"""Records each request to the language model of a call: what it was shown and answered, and how long it took.

A request begins when the context reaches the model, and ends with the answer, a failure or an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    Frame,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    MetricsFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage, LLMUsageMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext

from db.ids import new_id
from db.model_requests import ModelRequestRecord, RequestStatus
from voicebot.call.agents import ActiveAgent, AgentPool
from voicebot.clock import Clock
from voicebot.providers.prices import cost_usd

MAX_ERROR = 500
"""Maximum number of characters of a vendor's message."""


@dataclass(slots=True, kw_only=True)
class _OpenRequest:
    """A request without an end."""

    began_ms: float
    at: datetime
    active: ActiveAgent
    messages: Sequence[Any]
    tools: Sequence[Any]
    settings: dict[str, Any]
    text: list[str] = field(default_factory=list)
    function_calls: list[Mapping[str, Any]] = field(default_factory=list)
    first_token_ms: float | None = None
    usage: LLMTokenUsage | None = None
    error: Mapping[str, Any] | None = None


class ModelRequests:
    """The requests of one call, one after another."""

    def __init__(
        self,
        agents: AgentPool,
        clock: Clock,
        account_id: UUID,
        call_id: UUID,
        on_end: Callable[[ModelRequestRecord, bool], None],
    ) -> None:
        """Observe the requests of a call.

        Args:
            agents: the source of the agent who has the call, and of its settings.
            clock: the time.
            account_id: the account of the call.
            call_id: the call.
            on_end: called with every request that has ended, and whether its tools are those of the one
                before; must return at once.
        """
        self._agents = agents
        self._clock = clock
        self._account_id = account_id
        self._call_id = call_id
        self._on_end = on_end
        self._open: _OpenRequest | None = None
        self._before: ModelRequestRecord | None = None

    def sent(self, context: LLMContext, role: str | None) -> None:
        """A request is made with these messages and tools; ``role`` are the instructions before them."""
        self._end("interrupted")
        llm = self._agents.current.content.llm
        settings = {"provider": llm.provider, "model": llm.model, **llm.settings}
        tools = context.tools.standard_tools if isinstance(context.tools, ToolsSchema) else ()
        said = [dict(each) for each in context.get_messages() if isinstance(each, dict)]
        self._open = _OpenRequest(
            began_ms=self._clock.monotonic_ms(),
            at=self._clock.now(),
            active=self._agents.active,
            messages=[*([{"role": "system", "content": role}] if role else []), *said],
            tools=[{"type": "function", "function": each.to_default_dict()} for each in tools],
            settings=settings,
        )

    def observe(self, frame: Frame) -> None:
        """A frame left the model."""
        request = self._open
        if request is None:
            return
        match frame:
            case LLMTextFrame():
                self._note_token(request)
                request.text.append(frame.text)
            case FunctionCallsStartedFrame():
                self._note_token(request)
                request.function_calls += [
                    {"name": each.function_name, "arguments": dict(each.arguments)}
                    for each in frame.function_calls
                ]
            case MetricsFrame():
                self._measured(request, frame)
            case InterruptionFrame():
                self._end("interrupted")
            case LLMFullResponseEndFrame():
                self._end("done")

    def failed(self, error: BaseException | None, message: str) -> None:
        """The model failed: ``error`` is the exception, ``message`` pipecat's report of it."""
        if self._open is not None:
            self._open.error = {
                "type": type(error).__name__ if error else "error",
                "code": getattr(error, "code", None),
                "http_status": getattr(error, "status_code", None),
                "message": str(error or message)[:MAX_ERROR],
            }
            self._end("failed")

    def _note_token(self, request: _OpenRequest) -> None:
        if request.first_token_ms is None:
            request.first_token_ms = self._clock.monotonic_ms() - request.began_ms

    def _measured(self, request: _OpenRequest, frame: MetricsFrame) -> None:
        for each in frame.data:
            if isinstance(each, LLMUsageMetricsData):
                request.usage = each.value
                request.settings["model"] = each.model or request.settings["model"]

    def _end(self, status: RequestStatus) -> None:
        request, self._open = self._open, None
        if request is None:
            return
        before, usage = self._before, request.usage
        first_ms = request.first_token_ms
        record = ModelRequestRecord(
            id=new_id(),
            account_id=self._account_id,
            call_id=self._call_id,
            seq=before.seq + 1 if before else 1,
            at=request.at,
            template_id=request.active.template_id,
            node=request.active.node,
            shared=_common(before.messages if before else (), request.messages),
            messages=request.messages,
            tools=request.tools,
            settings=request.settings,
            text="".join(request.text),
            function_calls=request.function_calls,
            status=status,
            error=request.error,
            first_token_ms=None if first_ms is None else round(first_ms),
            total_ms=round(self._clock.monotonic_ms() - request.began_ms),
            tokens=_tokens(usage) if usage else None,
            cost_usd=_cost(request.settings["model"], usage) if usage else None,
        )
        same_tools = before is not None and before.tools == record.tools
        self._before = record
        self._on_end(record, same_tools)


def _tokens(usage: LLMTokenUsage) -> dict[str, int]:
    return {
        "prompt": usage.prompt_tokens,
        "completion": usage.completion_tokens,
        "cached": usage.cache_read_input_tokens or 0,
        "total": usage.total_tokens,
    }


def _cost(model: str | None, usage: LLMTokenUsage) -> float | None:
    return cost_usd(
        model or "",
        prompt=usage.prompt_tokens,
        completion=usage.completion_tokens,
        cached=usage.cache_read_input_tokens or 0,
    )


def _common(before: Sequence[Any], messages: Sequence[Any]) -> int:
    """How many messages at their beginning both have in common."""
    count = 0
    for ours, theirs in zip(before, messages, strict=False):
        if ours != theirs:
            break
        count += 1
    return count
