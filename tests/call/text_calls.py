"""Text calls whose model is a function of what it is asked, for tests of the control of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pipecat.frames.frames import LLMFullResponseEndFrame, LLMFullResponseStartFrame, LLMTextFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import LLMService

from db.ids import new_id
from db.revisions import TemplateSnapshot
from templates.model import TemplateContent
from tests.context_model import ContextModel
from voicebot.call.text.answers import Answers, PreparedHttp
from voicebot.call.text.chat import Chat, Setup
from voicebot.call.text.exchange import Exchange
from voicebot.providers.llm_failover import LlmWatch
from voicebot.providers.service_spec import ServiceSpec, connected_at_once, made

ACCOUNT = new_id()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the model was asked: its instructions, the messages, and its tools by name."""

    role: str
    messages: Sequence[Mapping[str, Any]]
    tools: Mapping[str, Mapping[str, Any]]

    @property
    def newest(self) -> str:
        """The content of the newest message."""
        return str(self.messages[-1].get("content")) if self.messages else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """Text, function calls (name and arguments), or both; neither is an answer without content."""

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()


Answering = Callable[[Request], ModelAnswer | str]


@dataclass(slots=True)
class TextModel:
    """The models of a call: all of them answer with the same function and record their requests."""

    answer: Answering
    requests: list[Request] = field(default_factory=list)
    summary: str | None = None
    """What the model says of a conversation that it is to summarise; None: it fails."""

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        """Make the model of one agent (``LlmFactory``)."""
        service = _Service(self)
        return ServiceSpec(key=f"llm of {content.name}", make=made(service), connected=connected_at_once), (
            service
        )


class _Service(ContextModel):
    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self._text_model = model

    async def run_inference(self, *_: Any, **__: Any) -> str | None:
        return self._text_model.summary

    async def respond(self, context: LLMContext) -> None:
        tools = {tool.name: tool.to_default_dict() for tool in getattr(context.tools, "standard_tools", [])}
        request = Request(
            role=self.role,
            messages=[cast("dict[str, Any]", message).copy() for message in context.messages],
            tools=tools,
        )
        self._text_model.requests.append(request)
        answer = self._text_model.answer(request)
        answer = ModelAnswer(text=answer) if isinstance(answer, str) else answer
        await self.push_frame(LLMFullResponseStartFrame())
        if answer.text:
            await self.push_frame(LLMTextFrame(answer.text))
        await self.call_functions(answer.calls, context)
        await self.push_frame(LLMFullResponseEndFrame())


@dataclass(frozen=True, slots=True)
class _Templates:
    """A ``Library`` of documents by template id."""

    documents: Mapping[UUID, Mapping[str, Any]]

    async def answering(self, template_id: UUID) -> TemplateSnapshot:
        return self._snapshot(template_id)

    async def targets(self, template_ids: Sequence[UUID]) -> Mapping[UUID, TemplateSnapshot]:
        return {each: self._snapshot(each) for each in template_ids}

    async def time_zone(self, snapshot: TemplateSnapshot) -> ZoneInfo:
        return ZoneInfo("UTC")

    def _snapshot(self, template_id: UUID) -> TemplateSnapshot:
        document = self.documents[template_id]
        return TemplateSnapshot(
            id=template_id,
            account_id=ACCOUNT,
            name=document["name"],
            kind=document.get("kind", "agent"),
            status="active",
            revision=1,
            content=document,
        )


async def begin(
    model: TextModel,
    desk: Mapping[str, Any],
    targets: Mapping[str, Mapping[str, Any]],
    *,
    answers: Answers | None = None,
    contexts: Mapping[str, str] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    turn_timeout_s: float = 6.0,
) -> tuple[Chat, Exchange]:
    """Begin a text call with an orchestrator that routes to the targets, by the names of the routes.

    ``answers`` are prepared answers of HTTP functions, ``contexts`` the context modes of routes. ``others``
    are agents to which only agents route; the routes of agents have names in place of ids.
    """
    agents = {**targets, **(others or {})}
    ids = {name: new_id() for name in agents}
    documents: dict[UUID, Mapping[str, Any]] = {
        ids[name]: {"name": name, "tts": {"voice_id": name}, **document, "routes": [
            {**route, "template_id": str(ids[route["template_id"]])} for route in document.get("routes", ())
        ]}
        for name, document in agents.items()
    }  # fmt: skip
    desk_id = new_id()
    documents[desk_id] = {
        "name": "desk",
        "kind": "orchestrator",
        "tts": {"voice_id": "desk"},
        "greeting": {"text": "Acme, hello."},
        "routes": [
            {
                "name": name,
                "template_id": str(template_id),
                "when": name,
                "context": (contexts or {}).get(name, "full"),
            }
            for name, template_id in ids.items()
            if name in targets
        ],
        **desk,
    }
    setup = Setup(
        library=_Templates(documents),
        llm=model.llm,
        http=lambda log: PreparedHttp(answers or {}, log.unanswered),
        turn_timeout_s=turn_timeout_s,
    )
    return await Chat.begin(setup, desk_id)


async def settled(chat: Chat, seconds: float) -> None:
    """Give results that are late the time to arrive."""
    await asyncio.sleep(seconds)
    assert not chat.is_over
