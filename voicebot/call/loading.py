"""Loads the data of a call at the voice webhook, so that the first words do not wait for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger

from db import revisions
from db.call_start import kept_revisions, read_start
from db.calls import CallRecord
from db.errors import DatabaseError, DatabaseUnavailable
from db.pool import Database
from db.revisions import TemplateSnapshot
from templates.defaults import CallDefaults
from voicebot.background import BackgroundTasks
from voicebot.call.resume import ResumeState, load_resume_state
from voicebot.clock import Clock

LOAD_TIMEOUT_S = 1.5
"""How long a media stream waits for the database; then it is closed, and the carrier asks for another one."""

KEPT_MS = 60_000.0
"""How long data is kept for the media stream of its call, in ms."""

RETRY_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallData:
    """What the database knows of a call before its first word."""

    template: TemplateSnapshot
    defaults: CallDefaults
    """The account's defaults; they are already applied to ``template``."""
    time_zone: ZoneInfo
    payload: Mapping[str, Any]
    """The lead's payload and variables."""
    has_phone: bool
    """Whether the person's number is known."""
    past: ResumeState | None
    """What happened before the call's stream was lost; None: the call is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    call: CallRecord
    since_ms: float
    data: CallData | None = None


class CallLoader:
    """Loads the data of calls, and keeps what was loaded before the media stream begins."""

    def __init__(self, database: Database, clock: Clock, tasks: BackgroundTasks) -> None:
        """``tasks`` run statements that are not awaited to their end."""
        self._database = database
        self._clock = clock
        self._tasks = tasks
        self._prepared: dict[UUID, _Prepared] = {}

    def known(self, call_id: UUID) -> CallRecord | None:
        """The record of a call that was prepared here within the last minute."""
        prepared = self._prepared.get(call_id)
        return None if prepared is None else prepared.call

    async def prepare(self, call: CallRecord) -> TemplateSnapshot | None:
        """Load the data of a call that is about to begin; return its template, None if that failed."""
        self._drop_old()
        prepared = _Prepared(call=call, since_ms=self._clock.monotonic_ms())
        self._prepared.pop(call.id, None)  # so that the new entry is the last one
        self._prepared[call.id] = prepared
        try:
            data = await self._read(call)
        except DatabaseError as error:
            logger.warning("call {} was not prepared: {}", call.id, type(error).__name__)
            return None
        if self._prepared.get(call.id) is prepared:
            self._prepared[call.id] = replace(prepared, data=data)
        return data.template

    async def load(self, call: CallRecord) -> CallData:
        """The data of a call whose media stream has begun.

        Raises:
            DatabaseUnavailable: the database did not answer within ``LOAD_TIMEOUT_S``.
            DatabaseError: the data cannot be read.
        """
        prepared = self._prepared.pop(call.id, None)
        # What was said before a stream was lost may be written after the data was read here.
        if prepared is not None and prepared.data is not None and not call.resumes:
            return prepared.data
        try:
            return await self._tasks.in_time(self._read(call), LOAD_TIMEOUT_S, name="loading a call")
        except TimeoutError as error:
            raise DatabaseUnavailable(str(error)) from None

    async def targets(
        self, call: CallRecord, ids: Sequence[UUID], defaults: CallDefaults
    ) -> Mapping[UUID, TemplateSnapshot]:
        """The templates that the call may be routed to; waits until the database answers."""
        kept = kept_revisions(call)
        while True:
            try:
                found = await revisions.targets(self._database, call.account_id, ids, kept)
            except DatabaseError as error:
                if not error.retryable:
                    raise
                logger.warning("call {}: its targets wait for the database", call.id)
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return {each: _with_defaults(snapshot, defaults) for each, snapshot in found.items()}

    async def _read(self, call: CallRecord) -> CallData:
        start = await read_start(self._database, call)
        defaults = CallDefaults.of_account(start.backup, transcribes=start.transcribes_takeovers)
        return CallData(
            template=_with_defaults(start.template, defaults),
            defaults=defaults,
            time_zone=ZoneInfo(start.time_zone),
            payload=start.payload,
            has_phone=start.has_phone,
            past=await load_resume_state(self._database, call, self._clock.now()) if call.resumes else None,
        )

    def _drop_old(self) -> None:
        oldest_ms = self._clock.monotonic_ms() - KEPT_MS
        while self._prepared and next(iter(self._prepared.values())).since_ms < oldest_ms:
            del self._prepared[next(iter(self._prepared))]  # the first one is the oldest


def _with_defaults(snapshot: TemplateSnapshot, defaults: CallDefaults) -> TemplateSnapshot:
    return replace(snapshot, content=defaults.applied_to(snapshot.content))
