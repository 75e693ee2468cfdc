"""/channels and /notices: where handoffs are announced, and the delivery of each notice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from db import audit, channels, notices, outbox
from db.audit import Change, Resource
from db.channels import ChannelKind, ChannelRecord
from db.notices import AttemptRecord
from db.outbox import NoticeRecord, NoticeState
from db.pool import Executor
from voicebot.api.access import Admin, Principal
from voicebot.api.answers import AnswerOf, extended
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router
from voicebot.handoffs import notifications
from voicebot.webhook_signature import new_signing_secret

router = resource_router("", "notices")


class ChannelBody(BaseModel):
    """A channel to add."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[
        ChannelKind,
        Field(
            description="`webhook` and `ticket` are signed; a `ticket` gets the notes of resolved handoffs."
        ),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWithSecret(ChannelRecord):
    """A channel that was just added."""

    signing_secret: str | None
    """Secret of the Standard Webhooks signatures, shown only once."""


_OMITTED = ("account_id", "secret", "deleted_at")
Channel = Annotated[ChannelRecord, AnswerOf("Channel", omit=_OMITTED)]
NewChannel = Annotated[ChannelWithSecret, AnswerOf("NewChannel", omit=_OMITTED)]
Notice = Annotated[
    NoticeRecord,
    AnswerOf("Notice", omit=("account_id", "message", "lease_until", "cancelled_at", "destination", "url")),
]
Attempt = Annotated[AttemptRecord, AnswerOf("Attempt", omit=("account_id", "notice_id"))]


class NoticeQuery(PageQuery):
    """Which notices to list."""

    state: NoticeState | None = None


@router.get("/channels", responses=refuses())
async def list_channels(state: AppStateDep, admin: Admin) -> PageOf[Channel]:
    """List the account's channels, oldest first, on one page."""
    found = await channels.of_account(state.database, admin.account_id)
    return PageOf[Channel](items=list(found), next_cursor=None)


@router.post("/channels", status_code=201, responses=refuses(*BODY, "invalid_request"))
async def create_channel(
    state: AppStateDep, admin: Admin, body: ChannelBody, response: Response
) -> NewChannel:
    """Add a channel. Its signing secret is created here and shown once."""
    secret = None if body.kind == "slack" else new_signing_secret()
    sealed = state.vault.seal(secret) if secret else None
    async with state.database.transaction() as transaction:
        made = await channels.create(
            transaction, admin.account_id, body.kind, body.url, label=body.label, secret=sealed
        )
        await _audit(transaction, admin, "create", "channel", made.id)
    response.headers["Location"] = f"/api/v1/channels/{made.id}"
    return extended(ChannelWithSecret, made, signing_secret=secret)


@router.delete("/channels/{channel_id:uuid}", status_code=204, responses=refuses("not_found"))
async def delete_channel(state: AppStateDep, admin: Admin, channel_id: UUID) -> None:
    """Delete a channel."""
    async with state.database.transaction() as transaction:
        await channels.delete(transaction, admin.account_id, channel_id)
        await _audit(transaction, admin, "delete", "channel", channel_id)


@router.post("/channels/{channel_id:uuid}/test", status_code=202, responses=refuses("not_found"))
async def test_channel(state: AppStateDep, admin: Admin, channel_id: UUID) -> Notice:
    """Send a test notice to a channel; `GET /notices/{id}/attempts` shows the result."""
    channel = await channels.get(state.database, admin.account_id, channel_id)
    if channel.deleted_at is not None:
        raise ApiProblem("not_found", f"The channel {channel_id} was deleted.")
    async with state.database.transaction() as transaction:
        draft = notifications.channel_test(channel, state.clock.now())
        [notice_id] = await outbox.put(transaction, admin.account_id, [draft])
        await _audit(transaction, admin, "test", "channel", channel_id)
    state.handoffs.outbox.wake()
    return await notices.get(state.database, admin.account_id, notice_id)


@router.get("/notices", responses=refuses("invalid_request"))
async def list_notices(
    state: AppStateDep, admin: Admin, query: Annotated[NoticeQuery, Query()]
) -> PageOf[Notice]:
    """List the notices, newest first. Those with `?state=dead` could not be delivered."""
    found = await notices.list_notices(
        state.database, admin.account_id, state=query.state, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Notice].of(found)


@router.get("/notices/{notice_id:uuid}/attempts", responses=refuses("not_found"))
async def list_attempts(state: AppStateDep, admin: Admin, notice_id: UUID) -> PageOf[Attempt]:
    """List the attempts to send a notice, in order, on one page."""
    await notices.get(state.database, admin.account_id, notice_id)
    found = await notices.attempts(state.database, admin.account_id, notice_id)
    return PageOf[Attempt](items=list(found), next_cursor=None)


@router.post("/notices/{notice_id:uuid}/retry", responses=refuses("not_found"))
async def retry_notice(state: AppStateDep, admin: Admin, notice_id: UUID) -> Notice:
    """Retry a dead notice; a notice in another state is not changed."""
    async with state.database.transaction() as transaction:
        notice = await notices.retry(transaction, admin.account_id, notice_id, state.clock.now())
        await _audit(transaction, admin, "retry", "notice", notice_id)
    state.handoffs.outbox.wake()
    return notice


async def _audit(db: Executor, admin: Principal, action: str, resource: Resource, id: UUID) -> None:
    change = Change(key_id=admin.key_id, action=action, resource=resource, resource_id=id)
    await audit.record(db, admin.account_id, change)
