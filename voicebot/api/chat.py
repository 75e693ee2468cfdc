"""/templates/{id}/chat: a text call with a template, for authors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from templates.size import JsonLimits
from templates.storable import unstorable
from voicebot.api.access import Author
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.limits import limit_exceeded
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.worker_forwarding import answer_of_other
from voicebot.call.text import exchange as happened
from voicebot.call.text.answers import Answer
from voicebot.call.text.chat import TURN_TIMEOUT_S, CannotBegin
from voicebot.call.text.chats import ChatBusy, ChatNotHere, ChatOptions, HeldChat, Interrupted, TooManyChats

MAX_TURNS = 50
MAX_TURN_LENGTH = 2000
RETRY_AFTER_S = 60
_LIMITS = JsonLimits(values=5000, characters=256 * 1024)

router = resource_router("/templates", "templates")

Turn = Annotated[str, Field(min_length=1, max_length=MAX_TURN_LENGTH, pattern=r"\S")]


class ChatRequest(BaseModel):
    """What the caller says."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"turns": ["I have a question about my bill."], "payload": {"customer": "Ada"}}]
        },
    )

    chat_id: UUID | None = Field(
        default=None,
        description="The conversation to continue; null: start a new one, which the agent opens.",
    )
    turns: list[Turn] = Field(
        default_factory=list,
        max_length=MAX_TURNS,
        description="What the caller says, turn by turn; each is answered before the next is sent.",
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, description="For a new conversation: the lead's payload, which sets variables."
    )
    answers: dict[str, list[Answer]] | None = Field(
        default=None,
        description=(
            "For a new conversation: answers of HTTP functions by name; the first that matches is used. No "
            "request is made, and a call without a matching answer fails. Null: requests are made."
        ),
    )
    end: bool = Field(default=False, description="Hang up after the turns have been answered.")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if too_large := _LIMITS.fault(data):
            raise PydanticCustomError("too_large", "A value {fault}", {"fault": too_large[1]})
        for _, fault in unstorable(data):
            raise PydanticCustomError("unstorable", "A text {fault}", {"fault": fault})
        return data

    @model_validator(mode="after")
    def _only_at_the_start(self) -> Self:
        if self.chat_id is not None and (self.payload or self.answers is not None):
            raise PydanticCustomError(
                "already_started",
                "payload and answers are only for a new conversation: remove them, or chat_id",
            )
        return self


class Place(BaseModel):
    """Which agent has the call, and at which node of its flow."""

    template_id: UUID
    agent: str = Field(description="The template's name.")
    node: str | None


class Reply(BaseModel):
    """Something that the agent said."""

    text: str
    source: Literal["llm", "greeting", "filler"]
    at: Place


class FunctionCall(BaseModel):
    """A function that the model called."""

    name: str
    arguments: dict[str, Any]
    status: str | None = Field(
        description="Of the result: `ok`, `failed`, …; null: the function has not returned."
    )
    duration_ms: int | None
    failure: str | None = Field(description="Of a failed function: code and message.")
    at: Place


class ChatRoute(BaseModel):
    """A route to another agent, done, refused or failed."""

    name: str
    reason: str
    status: Literal["done", "refused", "failed"]
    code: str | None = Field(description="Why it was refused or failed.")
    context: str
    at: Place = Field(description="The agent that routed.")
    to: Place | None


class Outcome(BaseModel):
    """The outcome of the call, as the model recorded it."""

    outcome: str
    fields: dict[str, Any]


class Failure(BaseModel):
    """A failure of a provider, an HTTP function or an agent. On a phone call it would be audible."""

    part: str = Field(description="`llm` (the language model), `http`, or `agent`.")
    reason: str


class ChatTurn(BaseModel):
    """A turn of the caller, and everything that followed it."""

    said: str | None = Field(description="What the caller said; null: the agent's opening.")
    replies: list[Reply]
    functions: list[FunctionCall]
    nodes: list[str] = Field(description="Nodes that were entered, in order.")
    routes: list[ChatRoute]
    outcomes: list[Outcome]
    failures: list[Failure]


class AgentState(BaseModel):
    """An agent that the template routes to."""

    name: str = Field(description="The route's name.")
    ready: bool
    reason: str | None = Field(description="Why the route is not available.")


class ChatAnswer(BaseModel):
    """The state of the conversation after these turns."""

    chat_id: UUID
    status: Literal["open", "ended"]
    ended_by: str | None
    end_reason: str | None
    at: Place
    variables: dict[str, Any] = Field(description="Of the agent that has the call.")
    agents: list[AgentState]
    turns: list[ChatTurn] = Field(
        description="The new turns; the first of a conversation is the agent's opening."
    )


@router.post(
    "/{template_id:uuid}/chat",
    response_model=ChatAnswer,
    responses=refuses(
        *BODY, "not_found", "invalid_request", "invalid_template", "chat_not_here", "chat_busy",
        "rate_limited", "model_timeout",
    ),
)  # fmt: skip
async def chat(
    app_state: AppStateDep, author: Author, template_id: UUID, request: ChatRequest, http: Request
) -> ChatAnswer | Response:
    """Talk to a template in text, with the flow, functions and routes of a phone call. Drafts work too.

    Nothing is stored: no call and no lead. The server that started a conversation keeps it until it ends or
    has been idle for ten minutes.
    """
    exchanges: list[happened.Exchange] = []
    try:
        if request.chat_id is None:
            session, opening = await app_state.chats.begin(
                ChatOptions(
                    account_id=author.account_id,
                    template_id=template_id,
                    payload=request.payload,
                    answers=request.answers,
                )
            )
            exchanges.append(opening)
        else:
            session = app_state.chats.find(author.account_id, template_id, request.chat_id)
        exchanges.extend(await app_state.chats.take(session, request.turns, end=request.end))
    except ChatNotHere as error:
        answer = await answer_of_other(
            app_state, http, refusal="chat_not_here", timeout_s=MAX_TURNS * TURN_TIMEOUT_S
        )
        if answer is None:
            raise _problem(error, exchanges) from None
        return answer
    except (CannotBegin, ChatBusy, TooManyChats, Interrupted) as error:
        raise _problem(error, exchanges) from None
    if any(exchange.model_hung for exchange in exchanges):
        detail = "The language model did not answer in time; the conversation can be continued."
        raise _timed_out(detail, exchanges, session.id)
    return _answer(session, exchanges)


def _answer(session: HeldChat, exchanges: Sequence[happened.Exchange]) -> ChatAnswer:
    end, at = session.chat.end, session.chat.log.at
    if at is None:
        raise RuntimeError("a started conversation has an agent")
    return ChatAnswer(
        chat_id=session.id,
        status="open" if end is None else "ended",
        ended_by=end.ended_by if end else None,
        end_reason=end.reason if end else None,
        at=_place(at),
        variables=dict(session.chat.variables()),
        agents=[
            AgentState(name=agent.name, ready=agent.ready, reason=agent.reason)
            for agent in session.chat.log.agents.values()
        ],
        turns=[_turn(exchange) for exchange in exchanges],
    )


def _turn(exchange: happened.Exchange) -> ChatTurn:
    return ChatTurn.model_validate(
        {
            "said": exchange.said,
            "replies": exchange.replies,
            "functions": exchange.functions,
            "nodes": exchange.nodes,
            "routes": exchange.routes,
            "outcomes": [step for step in exchange.steps if isinstance(step, happened.OutcomeRecorded)],
            "failures": exchange.failures,
        },
        from_attributes=True,
    )


def _place(at: happened.Place) -> Place:
    return Place.model_validate(at, from_attributes=True)


def _problem(error: Exception, before: Sequence[happened.Exchange]) -> ApiProblem:
    match error:
        case CannotBegin():
            faults = [FieldError(**problem.to_json()) for problem in error.problems]
            return ApiProblem("invalid_template", "The template cannot take a call like this.", errors=faults)
        case ChatNotHere():
            fault = FieldError(
                pointer="/chat_id",
                code="chat_not_here",
                message="The conversation has ended, expired, or belongs to another server process.",
                remedy="Start a new one without chat_id; `turns` may repeat what the caller has said.",
            )
            return ApiProblem("chat_not_here", fault.message, errors=[fault])
        case ChatBusy():
            return ApiProblem("chat_busy", "Another request is using the conversation; wait for its answer.")
        case TooManyChats():
            return limit_exceeded(
                "chats_per_account" if error.of_account else "chats",
                "rate_limited",
                "Too many conversations are open: end one (`end`), or wait until one has expired.",
                retry_after_s=RETRY_AFTER_S,
            )
        case Interrupted():
            detail = "The turn did not finish in time; the conversation was ended."
            return _timed_out(detail, [*before, *error.exchanges])
    raise error


def _timed_out(
    detail: str, exchanges: Sequence[happened.Exchange], chat_id: UUID | None = None
) -> ApiProblem:
    more = {
        "chat_id": str(chat_id) if chat_id else None,
        "turns": [_turn(exchange).model_dump(mode="json") for exchange in exchanges],
    }
    return ApiProblem("model_timeout", f"{detail} `turns` has what happened until then.", more=more)
