"""/templates/{id}/chat: a text call with a template, for its author."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from templates.storable import unstorable
from voicebot.api.access import Author
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.call.text import exchange as happened
from voicebot.call.text.answers import Answer
from voicebot.call.text.chat import CannotBegin
from voicebot.call.text.chats import ChatBusy, ChatNotHere, ChatOptions, HeldChat, Interrupted, TooManyChats

MAX_TURNS = 50
MAX_TURN_LENGTH = 2000
RETRY_AFTER_S = 60

router = APIRouter(prefix="/templates", tags=["templates"])

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
        default=None, description="Go on with this conversation; null: begin one, which the agent opens."
    )
    turns: list[Turn] = Field(
        default_factory=list,
        max_length=MAX_TURNS,
        description="What the caller says, one turn after the other; each is answered before the next.",
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, description="To begin with: the lead's payload, which fills variables."
    )
    answers: dict[str, list[Answer]] | None = Field(
        default=None,
        description=(
            "To begin with: answers of HTTP functions by name, the first that fits. No request is made then, "
            "and a call that no answer fits fails. Null: requests are really made."
        ),
    )
    end: bool = Field(default=False, description="Hang up when the turns have been answered.")

    @model_validator(mode="before")
    @classmethod
    def _sendable(cls, data: Any) -> Any:
        for _, fault in unstorable(data):
            raise PydanticCustomError("unstorable", "A text {fault}", {"fault": fault})
        return data

    @model_validator(mode="after")
    def _begins_once(self) -> Self:
        if self.chat_id is not None and (self.payload or self.answers is not None):
            raise PydanticCustomError(
                "begun_already", "payload and answers belong to the beginning: leave them out, or chat_id"
            )
        return self


class Place(BaseModel):
    """Which agent has the call, and at which node of its flow."""

    template_id: UUID
    agent: str = Field(description="The template's name.")
    node: str | None


class Reply(BaseModel):
    """Something that was said to the caller."""

    text: str
    source: Literal["llm", "greeting", "filler"]
    at: Place


class FunctionCall(BaseModel):
    """A function that the model called."""

    name: str
    arguments: dict[str, Any]
    status: str | None = Field(description="Of its result: `ok`, `failed`, …; null: it has not returned.")
    duration_ms: int | None
    at: Place


class Route(BaseModel):
    """A change of agent, or why there was none."""

    name: str
    reason: str
    status: Literal["done", "refused", "failed"]
    code: str | None = Field(description="Why it was refused or failed.")
    context: str
    at: Place = Field(description="Who routed.")
    to: Place | None


class Outcome(BaseModel):
    """What came of the call, as the model recorded it."""

    outcome: str
    fields: dict[str, Any]


class Trouble(BaseModel):
    """Something that did not work; on the telephone the caller would have heard nothing, or an excuse."""

    part: str = Field(description="`mind` (the language model), `http`, or `agent`.")
    reason: str


class ChatTurn(BaseModel):
    """A turn of the caller's, and everything that followed."""

    said: str | None = Field(description="Null: the agent's opening.")
    replies: list[Reply]
    functions: list[FunctionCall]
    nodes: list[str] = Field(description="Nodes that were entered, in order.")
    routes: list[Route]
    outcomes: list[Outcome]
    troubles: list[Trouble]


class AgentState(BaseModel):
    """An agent that the template routes to."""

    name: str = Field(description="The route's name.")
    ready: bool
    reason: str | None = Field(description="Why it cannot be routed to.")


class ChatAnswer(BaseModel):
    """Where the conversation stands after these turns."""

    chat_id: UUID
    status: Literal["open", "ended"]
    ended_by: str | None
    end_reason: str | None
    at: Place
    variables: dict[str, Any] = Field(description="Of the agent who has the call.")
    agents: list[AgentState]
    turns: list[ChatTurn] = Field(description="The new ones; a conversation's first is the agent's opening.")


@router.post(
    "/{template_id:uuid}/chat",
    responses=refuses(
        *BODY, "not_found", "invalid_request", "invalid_template", "chat_not_here", "chat_busy",
        "rate_limited", "model_timeout",
    ),
)  # fmt: skip
async def chat(wired: AppStateDep, author: Author, template_id: UUID, asked: ChatRequest) -> ChatAnswer:
    """Talk to a template in text: the flow, functions and routes of a telephone call. Drafts answer too.

    Nothing of it is written down: no call, no lead. The server process that began a conversation holds it
    until it is over, or was left alone for ten minutes.
    """
    exchanges: list[happened.Exchange] = []
    try:
        if asked.chat_id is None:
            held, opening = await wired.chats.begin(
                ChatOptions(
                    account_id=author.account_id,
                    template_id=template_id,
                    payload=asked.payload,
                    answers=asked.answers,
                )
            )
            exchanges.append(opening)
        else:
            held = wired.chats.find(author.account_id, template_id, asked.chat_id)
        exchanges.extend(await wired.chats.take(held, asked.turns, end=asked.end))
    except (CannotBegin, ChatNotHere, ChatBusy, TooManyChats, Interrupted) as error:
        raise _problem(error, exchanges) from None
    if any(exchange.model_hung for exchange in exchanges):
        detail = "The language model sent nothing for too long; the conversation goes on."
        raise _hung(detail, exchanges, held.id)
    return _answer(held, exchanges)


def _answer(held: HeldChat, exchanges: Sequence[happened.Exchange]) -> ChatAnswer:
    end, at = held.chat.end, held.chat.log.at
    if at is None:
        raise RuntimeError("a conversation that was begun is somewhere")
    return ChatAnswer(
        chat_id=held.id,
        status="open" if end is None else "ended",
        ended_by=end.ended_by if end else None,
        end_reason=end.reason if end else None,
        at=_place(at),
        variables=dict(held.chat.variables()),
        agents=[
            AgentState(name=agent.name, ready=agent.ready, reason=agent.reason)
            for agent in held.chat.log.agents.values()
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
            "troubles": exchange.troubles,
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
                message="The conversation is over, was left alone for too long, or another server holds it.",
                remedy="Begin anew without chat_id; turns may be all that the caller has said so far.",
            )
            return ApiProblem("chat_not_here", fault.message, errors=[fault])
        case ChatBusy():
            return ApiProblem("chat_busy", "Another request is taking a turn; wait for its answer.")
        case TooManyChats():
            return ApiProblem(
                "rate_limited",
                "Too many conversations are open: end one (`end`), or wait until one has been left alone.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        case Interrupted():
            detail = "The turn was not over in time; the conversation was ended."
            return _hung(detail, [*before, *error.exchanges])
    raise error


def _hung(detail: str, exchanges: Sequence[happened.Exchange], chat_id: UUID | None = None) -> ApiProblem:
    more = {
        "chat_id": str(chat_id) if chat_id else None,
        "turns": [_turn(exchange).model_dump(mode="json") for exchange in exchanges],
    }
    return ApiProblem("model_timeout", f"{detail} `turns` is how far it came.", more=more)
