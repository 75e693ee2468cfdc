"""The text calls that this process holds for clients of the API, limited per account and in time.

A text call belongs to one process: its flow, its context and the effects of its functions cannot be replayed
without calling functions twice. Another process, or this one after a restart, answers that it does not have
the call (docs/decisions/0010-text-calls.md).
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
from handlers.http import CheckedNetwork, HttpClient
from handlers.http.function import HttpFunctions
from voicebot.background import BackgroundTasks
from voicebot.call.dependencies import Health, HttpBinder
from voicebot.call.text.answers import Answers, PreparedHttp
from voicebot.call.text.chat import TURN_TIMEOUT_S, Chat, Setup, TurnTooLong
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.call.text.library import AccountLibrary
from voicebot.clock import Clock
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.vault import Vault

IDLE_S = 600.0


class ChatNotHere(LookupError):
    """This process holds no such text call: it ended, was idle too long, or is held by another process."""


class ChatBusy(Exception):
    """Another request is taking a turn in the text call; try again when it has been answered."""


class TooManyChats(Exception):
    """The account (``of_account``) or the process has as many text calls as allowed; end one, or wait."""

    def __init__(self, *, of_account: bool) -> None:
        super().__init__("too many text calls")
        self.of_account = of_account


class Interrupted(Exception):
    """A turn took too long. ``exchanges`` are the turns of the request, the unfinished one included."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        super().__init__("the turn took too long")
        self.exchanges = tuple(exchanges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a turn may take and a text call be idle, in seconds, and how many text calls there may be."""

    turn_s: float = TURN_TIMEOUT_S
    idle_s: float = IDLE_S
    per_account: int = 20
    total: int = 200


@dataclass(slots=True, kw_only=True, eq=False)
class HeldChat:
    """A text call that a client can continue."""

    id: UUID
    account_id: UUID
    template_id: UUID
    chat: Chat
    is_busy: bool = False
    expiry: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How to begin a text call. ``answers`` of None: HTTP functions make real requests."""

    account_id: UUID
    template_id: UUID
    payload: Mapping[str, Any] = field(default_factory=dict)
    answers: Answers | None = None


class Chats:
    """The text calls of this process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        providers: Providers,
        clock: Clock,
        limits: Limits | None = None,
        health: Health | None = None,
    ) -> None:
        """Hold no text call yet. ``health`` is shared with the calls of this process."""
        self._database = database
        self._clock = clock
        self._limits = limits or Limits()
        self._services = providers
        self._health = health
        self._http_client = HttpClient(CheckedNetwork(settings.http_allow))
        self._http = HttpFunctions(self._http_client.send, Vault(*settings.fernet_keys()).open)
        self._held: dict[UUID, HeldChat] = {}
        self._open: Counter[UUID] = Counter()
        self._background = BackgroundTasks()

    async def begin(self, options: ChatOptions) -> tuple[HeldChat, Exchange]:
        """Begin a text call; return it and what the agent says first.

        Raises:
            TooManyChats: the account has too many.
            NotFound, CannotBegin: as for ``Chat.begin``.
            Interrupted: the agent did not speak in time.
        """
        of_account, limits = self._open[options.account_id], self._limits
        if of_account >= limits.per_account or self._open.total() >= limits.total:
            raise TooManyChats(of_account=of_account >= limits.per_account)
        self._open[options.account_id] += 1
        try:
            chat, opening = await Chat.begin(self._setup(options), options.template_id)
        except BaseException as error:
            self._open[options.account_id] -= 1
            if isinstance(error, TurnTooLong):
                raise Interrupted([error.exchange]) from None
            raise
        held = HeldChat(
            id=new_id(), account_id=options.account_id, template_id=options.template_id, chat=chat
        )
        self._held[held.id] = held
        self._restart_timeout(held)
        return held, opening

    def find(self, account_id: UUID, template_id: UUID, chat_id: UUID) -> HeldChat:
        """A text call that this process holds.

        Raises:
            ChatNotHere: it does not.
        """
        held = self._held.get(chat_id)
        if held is None or (held.account_id, held.template_id) != (account_id, template_id):
            raise ChatNotHere
        return held

    async def take(self, held: HeldChat, turns: Sequence[str], *, end: bool = False) -> list[Exchange]:
        """Say the turns one after the other until the call is over; with ``end``, then hang up.

        Raises:
            ChatBusy: another request is taking a turn.
            Interrupted: a turn took too long; the call has been ended.
        """
        if held.is_busy:
            raise ChatBusy
        held.is_busy = True
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
            held.is_busy = False
            self._restart_timeout(held)
        return exchanges

    async def close(self) -> None:
        """End all text calls."""
        for held in list(self._held.values()):
            self._forget(held)
        await self._background.finish()
        await self._http.close()
        await self._http_client.close()

    def _setup(self, options: ChatOptions) -> Setup:
        answers = options.answers

        def http(log: ExchangeLog) -> HttpBinder:
            return self._http if answers is None else PreparedHttp(answers, log.unanswered)

        return Setup(
            library=AccountLibrary(self._database, options.account_id),
            llm=self._services.llm,
            http=http,
            health=self._health,
            payload=options.payload,
            clock=self._clock,
            turn_timeout_s=self._limits.turn_s,
        )

    def _restart_timeout(self, held: HeldChat) -> None:
        """Restart the idle timeout, or forget a call that is over."""
        if held.expiry is not None:
            held.expiry.cancel()
        if held.chat.is_over:
            self._forget(held)
        else:
            loop = asyncio.get_running_loop()
            held.expiry = loop.call_later(self._limits.idle_s, self._expire, held)

    def _expire(self, held: HeldChat) -> None:
        if held.is_busy:
            self._restart_timeout(held)
        else:
            self._forget(held)

    def _forget(self, held: HeldChat) -> None:
        if self._held.pop(held.id, None) is None:
            return
        self._open[held.account_id] -= 1
        if held.expiry is not None:
            held.expiry.cancel()
        self._background.start(_hang_up(held.chat), name=f"ending text call {held.id}")


async def _hang_up(chat: Chat) -> None:
    if not chat.is_over:
        await chat.hang_up()
