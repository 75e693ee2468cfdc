"""Control of dialling: single leads, templates, and the whole account; alerts, and people who opted out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from fastapi import Query
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field

from db import audit, dispatch_records, lead_control, leads, templates
from db.audit import Change
from db.calls import CallRecord
from db.dispatch_records import AlertRecord, OptOutRecord
from db.lead_control import CancelledLead, StopKind
from db.pool import Executor
from telephony.errors import CarrierError
from voicebot.api.access import Admin, Author, LeadWriter, Principal, Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.leads import Lead
from voicebot.api.numbers import E164
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router
from voicebot.dispatch import cancellation

router = resource_router("", "dispatch")

Alert = Annotated[AlertRecord, AnswerOf("Alert")]
OptOut = Annotated[OptOutRecord, AnswerOf("OptOut")]

MovedT = TypeVar("MovedT")
LeadMove = Callable[[Executor, UUID, UUID, datetime], Awaitable[MovedT | None]]


class DispatchState(BaseModel):
    """Whether leads are dialled."""

    model_config = ConfigDict(extra="forbid")

    paused: Annotated[bool, Field(description="Whether the account's leads are held back.")]
    kill_switch: Annotated[bool, Field(description="Whether the kill switch is on.")]
    paused_template_ids: Annotated[list[UUID], Field(description="Templates whose leads are held back.")]


class CancelledLeads(BaseModel):
    """The result of cancelling many leads."""

    cancelled: Annotated[int, Field(description="How many leads were cancelled.")]


class OptOutBody(BaseModel):
    """A person who does not want to be called."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"phone": "+14155550199"}]})

    phone: E164
    reason: Annotated[str, Field(max_length=500, description="For display.")] = ""


# ------------------------------------------------------------------------------------------- single leads


@router.post("/leads/{lead_id:uuid}/cancel", responses=refuses("not_found", "lead_over"))
async def cancel_lead(app_state: AppStateDep, writer: LeadWriter, lead_id: UUID) -> Lead:
    """Stop dialling the lead. A ringing call is hung up; a conversation continues."""
    cancelled = await _move(app_state, writer, lead_id, "cancel", cancellation.cancel)
    await _on_cancelled(app_state, writer, [cancelled])
    return await leads.get(app_state.database, writer.account_id, lead_id)


@router.post("/leads/{lead_id:uuid}/pause", responses=refuses("not_found", "lead_over"))
async def pause_lead(app_state: AppStateDep, writer: LeadWriter, lead_id: UUID) -> Lead:
    """Hold a queued lead back (`held`) until it is resumed."""
    await _move(app_state, writer, lead_id, "pause", lead_control.hold)
    return await leads.get(app_state.database, writer.account_id, lead_id)


@router.post("/leads/{lead_id:uuid}/resume", responses=refuses("not_found", "lead_over"))
async def resume_lead(app_state: AppStateDep, writer: LeadWriter, lead_id: UUID) -> Lead:
    """Queue a held lead again."""
    await _move(app_state, writer, lead_id, "resume", lead_control.resume)
    return await leads.get(app_state.database, writer.account_id, lead_id)


@router.post("/leads/{lead_id:uuid}/dial-now", responses=refuses("not_found", "lead_over"))
async def dial_lead_now(app_state: AppStateDep, writer: LeadWriter, lead_id: UUID) -> Lead:
    """Dial a queued or held lead now instead of at its time; window, rate limit and channels still apply."""
    await _move(app_state, writer, lead_id, "dial_now", lead_control.dial_now)
    return await leads.get(app_state.database, writer.account_id, lead_id)


async def _move(
    app_state: AppState, writer: Principal, lead_id: UUID, action: str, move: LeadMove[MovedT]
) -> MovedT:
    """Move a lead and write it into the audit log; 409 if its status does not allow it."""
    async with app_state.database.transaction() as transaction:
        moved = await move(transaction, writer.account_id, lead_id, app_state.clock.now())
        if moved is not None:
            change = Change(key_id=writer.key_id, action=action, resource="lead", resource_id=lead_id)
            await audit.record(transaction, writer.account_id, change)
            return moved
    lead = await leads.get(app_state.database, writer.account_id, lead_id)
    detail = f"The lead is '{lead.status}', which does not allow this."
    raise ApiProblem("lead_over", detail, more={"lead_status": lead.status})


async def _on_cancelled(app_state: AppState, principal: Principal, leads_: Sequence[CancelledLead]) -> None:
    """Hang up calls of the leads that ring, and send their webhooks."""
    app_state.handoffs.outbox.wake()
    dialing = [lead.id for lead in leads_ if lead.before == "dialing"]
    if dialing:
        found = await dispatch_records.ringing(app_state.database, principal.account_id, dialing)
        _hang_up(app_state, found)


def _hang_up(app_state: AppState, ringing: list[CallRecord]) -> None:
    """Hang up calls that ring, without waiting for the carrier."""

    async def hang_up(call: CallRecord) -> None:
        carrier = app_state.carriers.get(call.carrier)
        if carrier is not None and call.carrier_call_id is not None:
            try:
                await carrier.hang_up(call.carrier_call_id)
            except CarrierError as error:
                logger.warning("call {} was not hung up: {}", call.id, error)

    for call in ringing:
        app_state.background.start(hang_up(call), name=f"hanging up call {call.id}")


# --------------------------------------------------------------------------------- templates and accounts


@router.post("/templates/{template_id:uuid}/pause", responses=refuses("not_found"))
async def pause_template(app_state: AppStateDep, author: Author, template_id: UUID) -> DispatchState:
    """Hold the leads of a template back until it is resumed; inbound calls are not affected."""
    await templates.get(app_state.database, author.account_id, template_id)
    return await _stop(app_state, author, template_id, "pause")


@router.post("/templates/{template_id:uuid}/resume", responses=refuses("not_found"))
async def resume_template(app_state: AppStateDep, author: Author, template_id: UUID) -> DispatchState:
    """Dial the leads of a template again."""
    await templates.get(app_state.database, author.account_id, template_id)
    return await _lift(app_state, author, template_id, "pause")


@router.post("/templates/{template_id:uuid}/cancel", responses=refuses("not_found"))
async def cancel_template(app_state: AppStateDep, author: Author, template_id: UUID) -> CancelledLeads:
    """Cancel all leads of a template that are not over, as `POST /leads/{id}/cancel` does.

    If the request fails, some are cancelled; send it again.
    """
    await templates.get(app_state.database, author.account_id, template_id)
    return await _cancel_all(app_state, author, template_id)


@router.get("/dispatch", responses=refuses())
async def get_dispatch(app_state: AppStateDep, reader: Reader) -> DispatchState:
    """Whether the account's leads are dialled."""
    return await _state(app_state, reader.account_id)


@router.post("/dispatch/pause", responses=refuses())
async def pause_dispatch(app_state: AppStateDep, admin: Admin) -> DispatchState:
    """Hold all leads of the account back. Calls that ring or go on are not affected."""
    return await _stop(app_state, admin, None, "pause")


@router.post("/dispatch/resume", responses=refuses())
async def resume_dispatch(app_state: AppStateDep, admin: Admin) -> DispatchState:
    """Dial the account's leads again, unless the kill switch is on."""
    return await _lift(app_state, admin, None, "pause")


@router.post("/dispatch/cancel", responses=refuses())
async def cancel_dispatch(app_state: AppStateDep, admin: Admin) -> CancelledLeads:
    """Cancel all leads of the account that are not over, as `POST /leads/{id}/cancel` does.

    If the request fails, some are cancelled; send it again.
    """
    return await _cancel_all(app_state, admin, None)


@router.post("/dispatch/kill-switch", responses=refuses())
async def set_kill_switch(app_state: AppStateDep, admin: Admin) -> DispatchState:
    """Place no more calls for the account, and hang up ringing calls. Conversations continue."""
    state = await _stop(app_state, admin, None, "kill_switch")
    _hang_up(app_state, await dispatch_records.ringing(app_state.database, admin.account_id))
    return state


@router.delete("/dispatch/kill-switch", responses=refuses())
async def lift_kill_switch(app_state: AppStateDep, admin: Admin) -> DispatchState:
    """Turn the kill switch off."""
    return await _lift(app_state, admin, None, "kill_switch")


async def _stop(
    app_state: AppState, principal: Principal, template_id: UUID | None, kind: StopKind
) -> DispatchState:
    async with app_state.database.transaction() as transaction:
        await lead_control.stop(transaction, principal.account_id, template_id, kind)
        await _record(transaction, principal, "pause", template_id)
    return await _state(app_state, principal.account_id)


async def _lift(
    app_state: AppState, principal: Principal, template_id: UUID | None, kind: StopKind
) -> DispatchState:
    async with app_state.database.transaction() as transaction:
        await lead_control.lift_stop(transaction, principal.account_id, template_id, kind)
        await _record(transaction, principal, "resume", template_id)
    return await _state(app_state, principal.account_id)


async def _cancel_all(app_state: AppState, principal: Principal, template_id: UUID | None) -> CancelledLeads:
    await _record(app_state.database, principal, "cancel", template_id)
    total = 0
    async for batch in cancellation.cancel_all(
        app_state.database, principal.account_id, template_id, app_state.clock.now()
    ):
        total += len(batch)
        await _on_cancelled(app_state, principal, batch)
    return CancelledLeads(cancelled=total)


async def _record(
    db: Executor,
    principal: Principal,
    action: Literal["pause", "resume", "cancel"],
    template_id: UUID | None,
) -> None:
    resource: audit.Resource = "dispatch" if template_id is None else "template"
    resource_id = template_id or principal.account_id
    change = Change(key_id=principal.key_id, action=action, resource=resource, resource_id=resource_id)
    await audit.record(db, principal.account_id, change)


async def _state(app_state: AppState, account_id: UUID) -> DispatchState:
    stops = await dispatch_records.stops(app_state.database, account_id)
    return DispatchState(
        paused=(None, "pause") in stops,
        kill_switch=(None, "kill_switch") in stops,
        paused_template_ids=sorted(template_id for template_id, _ in stops if template_id is not None),
    )


# --------------------------------------------------------------------------------- alerts and opting out


@router.get("/alerts", responses=refuses("invalid_request"))
async def list_alerts(
    app_state: AppStateDep, reader: Reader, query: Annotated[PageQuery, Query()]
) -> PageOf[Alert]:
    """The account's alerts, newest first: leads that cannot be dialled."""
    found = await dispatch_records.list_alerts(
        app_state.database, reader.account_id, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Alert].of(found)


@router.get("/opt-outs", responses=refuses("invalid_request"))
async def list_opt_outs(
    app_state: AppStateDep, reader: Reader, query: Annotated[PageQuery, Query()]
) -> PageOf[OptOut]:
    """The people who are not called, newest first."""
    found = await dispatch_records.list_opt_outs(
        app_state.database, reader.account_id, limit=query.limit, cursor=query.cursor
    )
    return PageOf[OptOut].of(found)


@router.post("/opt-outs", status_code=201, responses=refuses(*BODY, "invalid_request"))
async def create_opt_out(app_state: AppStateDep, writer: LeadWriter, body: OptOutBody) -> OptOut:
    """Never call a person again, whichever lead names them. Repeating it changes nothing."""
    async with app_state.database.transaction() as transaction:
        made = await dispatch_records.opt_out(transaction, writer.account_id, body.phone, body.reason)
        change = Change(key_id=writer.key_id, action="create", resource="opt_out", resource_id=made.id)
        await audit.record(transaction, writer.account_id, change)
    return made


@router.delete("/opt-outs/{opt_out_id:uuid}", status_code=204, responses=refuses("not_found"))
async def delete_opt_out(app_state: AppStateDep, admin: Admin, opt_out_id: UUID) -> None:
    """Allow calls to a person again."""
    async with app_state.database.transaction() as transaction:
        await dispatch_records.opt_in(transaction, admin.account_id, opt_out_id)
        change = Change(key_id=admin.key_id, action="delete", resource="opt_out", resource_id=opt_out_id)
        await audit.record(transaction, admin.account_id, change)
