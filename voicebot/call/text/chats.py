"""The text calls that this process holds for clients of the API: so many an account, for so long.

A conversation lives in one process: its flow, its model's memory and what its functions have done cannot be
played again without doing things twice. So it is held here, and another replica (or this one, later) says
plainly that it does not have it (docs/decisions/0010-text-calls.md).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db.ids import new_id
from db.pool import Database
from handlers.http import CheckedNetwork, HttpClient, HttpFunctions
from voicebot.call.dependencies import HttpBinder
from voicebot.call.text.answers import Answers, PreparedHttp
from voicebot.call.text.chat import TURN_TIMEOUT_S, Chat, Setup, TurnTooLong
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.call.text.library import AccountLibrary
from voicebot.clock import Clock
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.vault import Vault

MAX_PER_ACCOUNT = 20
MAX_IN_ALL = 200
IDLE_S = 600.0


class ChatNotHere(LookupError):
    """This process holds no such conversation: it ended, was left alone too long, or is held elsewhere."""


class ChatBusy(Exception):
    """Another request is taking a turn in the conversation; try again when it has been answered."""


class TooManyChats(Exception):
    """The account, or the process, has as many conversations open as it may; end one, or wait."""


class Interrupted(Exception):
    """A turn was not over in time. ``exchanges`` is what came before, the unfinished one included."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        super().__init__("the turn was not over in time")
        self.exchanges = tuple(exchanges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a turn may take and a conversation be left alone, in s; how many there may be."""

    turn_s: float = TURN_TIMEOUT_S
    idle_s: float = IDLE_S
    per_account: int = MAX_PER_ACCOUNT
    in_all: int = MAX_IN_ALL


@dataclass(slots=True, kw_only=True, eq=False)
class HeldChat:
    """A conversation that a client can go on with."""

    id: UUID
    account_id: UUID
    template_id: UUID
    chat: Chat
    taking: bool = False
    expiry: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How a conversation is to begin. ``answers`` of None: HTTP functions make real requests."""

    account_id: UUID
    template_id: UUID
    payload: Mapping[str, Any] = field(default_factory=dict)
    answers: Answers | None = None


class Chats:
    """The conversations of this process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        providers: Providers,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits or Limits()
        self._speech = providers
        self._http_client = HttpClient(CheckedNetwork(settings.http_allow))
        self._http = HttpFunctions(self._http_client.send, Vault(settings.fernet_key()).open)
        self._held: dict[UUID, HeldChat] = {}
        self._open: Counter[UUID] = Counter()
        self._leaving: set[asyncio.Task[None]] = set()

    async def begin(self, wish: ChatOptions) -> tuple[HeldChat, Exchange]:
        """Begin a conversation, and hear what the agent says first.

        Raises:
            TooManyChats: the account has too many.
            NotFound, CannotBegin: as for ``Chat.begin``.
            Interrupted: the first words did not come in time.
        """
        mine, limits = self._open[wish.account_id], self._limits
        if mine >= limits.per_account or self._open.total() >= limits.in_all:
            raise TooManyChats
        self._open[wish.account_id] += 1
        try:
            chat, opening = await Chat.begin(self._setup(wish), wish.template_id)
        except BaseException as error:
            self._open[wish.account_id] -= 1
            if isinstance(error, TurnTooLong):
                raise Interrupted([error.exchange]) from None
            raise
        held = HeldChat(id=new_id(), account_id=wish.account_id, template_id=wish.template_id, chat=chat)
        self._held[held.id] = held
        self._leave_alone(held)
        return held, opening

    def find(self, account_id: UUID, template_id: UUID, chat_id: UUID) -> HeldChat:
        """A conversation that this process holds.

        Raises:
            ChatNotHere: it does not.
        """
        held = self._held.get(chat_id)
        if held is None or (held.account_id, held.template_id) != (account_id, template_id):
            raise ChatNotHere
        return held

    async def take(self, held: HeldChat, turns: Sequence[str], *, end: bool = False) -> list[Exchange]:
        """Say the turns one after the other, until the call is over; with ``end`` the caller then hangs up.

        Raises:
            ChatBusy: somebody else is taking a turn.
            Interrupted: a turn was not over in time; the conversation is.
        """
        if held.taking:
            raise ChatBusy
        held.taking = True
        exchanges: list[Exchange] = []
        try:
            for turn in turns:
                if held.chat.is_over:
                    break
                exchanges.append(await held.chat.say(turn))
            if end and not held.chat.is_over:
                await held.chat.hang_up()
        except TurnTooLong as error:
            raise Interrupted([*exchanges, error.exchange]) from None
        finally:
            held.taking = False
            self._leave_alone(held)
        return exchanges

    async def close(self) -> None:
        """End all conversations."""
        for held in list(self._held.values()):
            self._forget(held)
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._http.close()
        await self._http_client.close()

    def _setup(self, wish: ChatOptions) -> Setup:
        answers = wish.answers

        def http(log: ExchangeLog) -> HttpBinder:
            return self._http if answers is None else PreparedHttp(answers, log.unanswered)

        return Setup(
            library=AccountLibrary(self._database, wish.account_id),
            llm=self._speech.llm,
            http=http,
            payload=wish.payload,
            clock=self._clock,
            turn_timeout_s=self._limits.turn_s,
        )

    def _leave_alone(self, held: HeldChat) -> None:
        """Keep it for a while; a call that is over need not be kept."""
        if held.expiry is not None:
            held.expiry.cancel()
        if held.chat.is_over:
            self._forget(held)
        else:
            loop = asyncio.get_running_loop()
            held.expiry = loop.call_later(self._limits.idle_s, self._expire, held)

    def _expire(self, held: HeldChat) -> None:
        if held.taking:
            self._leave_alone(held)
        else:
            self._forget(held)

    def _forget(self, held: HeldChat) -> None:
        if self._held.pop(held.id, None) is None:
            return
        self._open[held.account_id] -= 1
        if held.expiry is not None:
            held.expiry.cancel()
        task = asyncio.create_task(_hang_up(held.chat), name=f"ending text call {held.id}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _hang_up(chat: Chat) -> None:
    if not chat.is_over:
        await chat.hang_up()
