"""/channels and /notices: where the account hears of its handoffs, and what became of each message."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from db import audit, channels, outbox
from db.audit import Change, Resource
from db.channels import ChannelKind, ChannelRecord
from db.outbox import Medium, NoticeState, Outcome
from db.pool import Executor
from voicebot.api.access import Admin, Principal
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.pagination import PageOf, PageQuery

router = APIRouter(tags=["notices"])


class ChannelBody(BaseModel):
    """Where to send."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[
        ChannelKind,
        Field(description="`webhook` and `ticket` are signed; a `ticket` gets the notes on resolve."),
    ]
    url: Annotated[
        str,
        Field(
            pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[1-9][0-9]{0,4})?(/[!-~]*)?$",
            max_length=2000,
            examples=["https://example.com/hook"],
        ),
    ]
    label: Annotated[str, Field(max_length=100)] = ""


class Channel(BaseModel):
    """Where it is sent."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: ChannelKind
    url: str
    label: str
    created_at: datetime


class NewChannel(Channel):
    """A channel that was just made."""

    signing_secret: Annotated[
        str | None, Field(description="For Standard Webhooks' signatures; shown this once.")
    ]


class Notice(BaseModel):
    """One message to one recipient."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    handoff_id: UUID | None
    channel_id: UUID | None
    user_id: UUID | None
    medium: Medium
    state: NoticeState
    attempts: int
    next_at: datetime
    remote_id: str | None
    created_at: datetime
    sent_at: datetime | None


class Attempt(BaseModel):
    """One attempt to send it."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    status_code: int | None
    error: str | None
    retry_after_ms: int | None


class NoticeQuery(PageQuery):
    """Which notices to list."""

    state: NoticeState | None = None


@router.get("/channels", responses=refuses())
async def list_channels(wired: AppStateDep, admin: Admin) -> PageOf[Channel]:
    """The account's channels, oldest first; all of them on one page."""
    found = await channels.of_account(wired.database, admin.account_id)
    return PageOf[Channel](items=[Channel.model_validate(each) for each in found], next_cursor=None)


@router.post("/channels", status_code=201, responses=refuses(*BODY, "invalid_request"))
async def create_channel(
    wired: AppStateDep, admin: Admin, body: ChannelBody, response: Response
) -> NewChannel:
    """Add a channel. The secret that signs what is sent is made here and shown once."""
    secret = None if body.kind == "slack" else f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    sealed = wired.vault.seal(secret) if secret else None
    async with wired.database.transaction() as transaction:
        made: ChannelRecord = await channels.create(
            transaction, admin.account_id, body.kind, body.url, label=body.label, secret=sealed
        )
        await _audit(transaction, admin, "create", "channel", made.id)
    response.headers["Location"] = f"/api/v1/channels/{made.id}"
    return NewChannel(**Channel.model_validate(made).model_dump(), signing_secret=secret)


@router.delete("/channels/{channel_id:uuid}", status_code=204, responses=refuses("not_found"))
async def delete_channel(wired: AppStateDep, admin: Admin, channel_id: UUID) -> None:
    """Take a channel away."""
    async with wired.database.transaction() as transaction:
        await channels.delete(transaction, admin.account_id, channel_id)
        await _audit(transaction, admin, "delete", "channel", channel_id)


@router.get("/notices", responses=refuses("invalid_request"))
async def list_notices(
    wired: AppStateDep, admin: Admin, query: Annotated[NoticeQuery, Query()]
) -> PageOf[Notice]:
    """What was sent, is being sent, or could not be: `?state=dead` are the dead letters."""
    found = await outbox.list_notices(
        wired.database, admin.account_id, state=query.state, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Notice](
        items=[Notice.model_validate(each) for each in found.items], next_cursor=found.next_cursor
    )


@router.get("/notices/{notice_id:uuid}/attempts", responses=refuses("not_found"))
async def list_attempts(wired: AppStateDep, admin: Admin, notice_id: UUID) -> PageOf[Attempt]:
    """Every attempt to send a notice, in order; all of them on one page."""
    await outbox.get(wired.database, admin.account_id, notice_id)
    found = await outbox.attempts(wired.database, admin.account_id, notice_id)
    return PageOf[Attempt](items=[Attempt.model_validate(each) for each in found], next_cursor=None)


@router.post("/notices/{notice_id:uuid}/retry", responses=refuses("not_found"))
async def retry_notice(wired: AppStateDep, admin: Admin, notice_id: UUID) -> Notice:
    """Try a dead letter again; one in another state stays as it is."""
    async with wired.database.transaction() as transaction:
        tried = await outbox.retry(transaction, admin.account_id, notice_id, wired.clock.now())
        await _audit(transaction, admin, "retry", "notice", notice_id)
    wired.office.outbox.stir()
    return Notice.model_validate(tried)


async def _audit(db: Executor, admin: Principal, action: str, resource: Resource, id: UUID) -> None:
    change = Change(key_id=admin.key_id, action=action, resource=resource, resource_id=id)
    await audit.record(db, admin.account_id, change)
