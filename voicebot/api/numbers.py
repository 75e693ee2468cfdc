"""/numbers: the account's phone numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from db import audit, numbers, template_rules, templates
from db.audit import Change
from db.errors import DatabaseBusy
from db.numbers import DEFAULT_CHANNELS, DEFAULT_PATIENCE_MS, NumberDraft, NumberFilter, NumberRecord
from db.rows import MAX_LIMIT
from templates.check import CarrierRules
from templates.check.basics import policy_problems
from templates.check.rules import problem_for
from templates.inbound import InboundPolicy
from templates.problem import Problem
from voicebot.api.access import Admin, Principal, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, CHANGE, NOT_MODIFIED, SCHEMA_REF, patch_schema, refuses
from voicebot.api.media_types import MERGE_PATCH
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.preconditions import IfMatch, IfNoneMatch, etag, unchanged
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.validation import TimeZone, invalid_body
from voicebot.authoring import merged
from voicebot.authoring.number_check import broken_templates, known_number
from voicebot.carriers import CARRIERS, DEFAULT_CARRIER, CarrierName

router = resource_router("/numbers", "numbers")

_TAKEN = ("number_taken", "number_not_assigned")

_CODES = {"busy_tone_impossible": "not_possible_at_carrier", "forwards_to_itself": "invalid_value"}
"""Codes of the API for problems that have others in the check of templates."""

_USED_BY_TEMPLATES = {"carrier", "channels", "reserved_inbound", "inbound"}
"""Members of a number on which it depends whether a template can do what it asks for."""

E164_PATTERN = r"^\+[1-9][0-9]{1,14}$"
E164 = Annotated[str, Field(pattern=E164_PATTERN, description="E.164.", examples=["+14155550100"])]


class NumberBody(BaseModel):
    """A number, as a client sends it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"e164": "+14155550100", "time_zone": "America/Los_Angeles"}]},
    )

    e164: E164
    carrier: Annotated[CarrierName, Field(description="The carrier of its calls.")] = DEFAULT_CARRIER
    label: Annotated[str, Field(max_length=200, description="For display.")] = ""
    time_zone: Annotated[TimeZone, Field(description="IANA name.")] = "UTC"
    fallback_number: Annotated[
        E164 | None, Field(description="Where calls are sent that cannot be answered.")
    ] = None
    patience_ms: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=300_000,
            description="How long a call waits while the database is down, before it is sent there.",
        ),
    ] = DEFAULT_PATIENCE_MS
    channels: Annotated[
        int,
        Field(strict=True, ge=1, le=1000, description="How many calls it carries at once; limits dialling."),
    ] = DEFAULT_CHANNELS
    reserved_inbound: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=1000,
            description="Channels that dialling leaves free for callers. If it leaves none, the number does "
            "not dial: new leads are refused, and those that are due end as `number_unavailable`.",
        ),
    ] = 0
    inbound: Annotated[
        InboundPolicy,
        Field(
            description="Which inbound calls are taken, and what happens to the others.",
            examples=[
                {
                    "hours": {"from": "09:00", "to": "17:00"},
                    "max_concurrent": 20,
                    "refusals": {"outside_hours": {"action": "callback"}, "number_busy": {"action": "busy"}},
                }
            ],
        ),
    ] = InboundPolicy()
    active: Annotated[
        bool,
        Field(
            strict=True,
            description="Whether its calls are answered. If not, it does not dial either: new leads are "
            "refused, and those that are due end as `number_unavailable`.",
        ),
    ] = True

    def draft(self) -> NumberDraft:
        """The row to write; an empty policy takes every call."""
        inbound = {} if self.inbound == InboundPolicy() else self.inbound.model_dump(mode="json")
        return NumberDraft(**self.model_dump(exclude={"inbound"}), inbound=inbound)


class Number(NumberBody):
    """A number, as the API answers it."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, json_schema_extra=None)

    id: UUID
    revision: int
    created_at: datetime
    updated_at: datetime


class NumberQuery(PageQuery):
    """Which numbers to list."""

    carrier: CarrierName | None = None
    e164: Annotated[str | None, Field(max_length=20)] = None
    active: bool | None = None


Patch = Annotated[
    Any,
    Body(media_type=MERGE_PATCH, examples=[{"label": "Main line"}]),
    WithJsonSchema(patch_schema(NumberBody.model_json_schema(ref_template=SCHEMA_REF), "NumberPatch")),
]


@router.get("", responses=refuses("invalid_request"))
async def list_numbers(
    app_state: AppStateDep, reader: Reader, query: Annotated[NumberQuery, Query()]
) -> PageOf[Number]:
    """The account's numbers, newest first."""
    where = NumberFilter(carrier=query.carrier, e164=query.e164, active=query.active)
    found = await numbers.list_numbers(
        app_state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Number](
        items=[Number.model_validate(each) for each in found.items], next_cursor=found.next_cursor
    )


@router.post("", status_code=201, responses=refuses(*BODY, "invalid_request", *_TAKEN))
async def create_number(app_state: AppStateDep, admin: Admin, body: NumberBody, response: Response) -> Number:
    """Add a number whose calls the carrier sends to this server.

    A number belongs to the account that has registered it, also while it is not `active`. If the operator of
    the server assigns numbers (`VOICEBOT_NUMBERS=assigned`), only assigned numbers can be added.
    """
    async with app_state.database.transaction() as transaction:
        saved = await numbers.create(
            transaction,
            admin.account_id,
            _possible(body),
            assigned_only=app_state.settings.numbers == "assigned",
        )
        await audit.record(transaction, admin.account_id, _change(admin, "create", saved, None))
    app_state.number_directory.changed()
    response.headers["Location"] = f"/api/v1/numbers/{saved.id}"
    return _answer(saved, response)


@router.get("/{number_id:uuid}", response_model=Number, responses=NOT_MODIFIED | refuses("not_found"))
async def get_number(
    app_state: AppStateDep, reader: Reader, number_id: UUID, if_none_match: IfNoneMatch, response: Response
) -> Number | Response:
    """One number."""
    record = await numbers.get(app_state.database, reader.account_id, number_id)
    return unchanged(record.revision) if if_none_match.has(record.revision) else _answer(record, response)


@router.patch("/{number_id:uuid}", responses=refuses(*BODY, *CHANGE, "invalid_request", *_TAKEN))
async def patch_number(
    app_state: AppStateDep, admin: Admin, number_id: UUID, if_match: IfMatch, patch: Patch, response: Response
) -> Number:
    """Change parts of a number (RFC 7396). Calls to a number that is not `active` are rejected.

    To hold dialling for a while, pause it (`POST /dispatch/pause` or `/templates/{id}/pause`): leads of a
    number that is not `active`, or reserves all its channels for callers, end as `number_unavailable` when
    they are due.
    """
    before = await numbers.get(app_state.database, admin.account_id, number_id)
    if_match.expect(before.revision)
    stored = Number.model_validate(before).model_dump(mode="json", include=set(NumberBody.model_fields))
    draft = _read(merged(stored, _writable_part(patch)))
    checked = None
    if not _USED_BY_TEMPLATES.isdisjoint(_changed(before, draft)):
        # Before the transaction, which locks the number: calls to it would wait for the check.
        checked = await _check_templates(app_state, before, draft)
    async with app_state.database.transaction() as transaction:
        saved = await numbers.update(
            transaction,
            admin.account_id,
            number_id,
            draft,
            expected_revision=before.revision,
            assigned_only=app_state.settings.numbers == "assigned",
        )
        if checked not in (None, await template_rules.answering(transaction, admin.account_id, number_id)):
            raise DatabaseBusy("Other requests have changed templates of this number; try again.")
        await audit.record(transaction, admin.account_id, _change(admin, "update", saved, before))
    app_state.number_directory.changed()
    return _answer(saved, response)


@router.delete("/{number_id:uuid}", status_code=204, responses=refuses(*CHANGE, "number_in_use"))
async def delete_number(app_state: AppStateDep, admin: Admin, number_id: UUID, if_match: IfMatch) -> Response:
    """Delete a number; no template may be attached to it."""
    before = await numbers.get(app_state.database, admin.account_id, number_id)
    if_match.expect(before.revision)
    async with app_state.database.transaction() as transaction:
        await numbers.delete(transaction, admin.account_id, number_id, expected_revision=before.revision)
        await audit.record(transaction, admin.account_id, _change(admin, "delete", None, before))
    app_state.number_directory.changed()
    return Response(status_code=204)


def _read(document: Any) -> NumberDraft:
    try:
        return _possible(NumberBody.model_validate(document))
    except ValidationError as error:
        raise invalid_body(error.errors(include_url=False)) from None


def _possible(body: NumberBody) -> NumberDraft:
    """The row of a number, if it and its carrier can do what it asks for.

    Raises:
        ApiProblem: they cannot, or calls would be led back to the number without end.
    """
    draft = body.draft()
    problems = list(policy_problems(body.inbound, known_number(draft, _rules(draft)), busy="number_busy"))
    if body.fallback_number == body.e164:
        message = "This is the number itself: its calls would be led back to it without end."
        problems.insert(0, problem_for("forwards_to_itself", ("fallback_number",), message))
    if problems:
        raise _impossible("The number cannot do what is asked of it.", problems)
    return draft


def _rules(number: NumberDraft | NumberRecord) -> CarrierRules:
    return CarrierRules(has_busy_tone=CARRIERS[number.carrier].has_busy_tone)


def _impossible(detail: str, problems: Sequence[Problem]) -> ApiProblem:
    faults = [
        FieldError(
            pointer=each.pointer,
            code=_CODES.get(each.code, each.code),
            message=each.message,
            remedy=each.remedy,
        )
        for each in problems
    ]
    return ApiProblem("invalid_request", detail, errors=faults)


async def _check_templates(
    app_state: AppState, before: NumberRecord, after: NumberDraft
) -> Mapping[UUID, int]:
    """Check that a changed number can do what the templates that answer it ask for.

    Returns:
        The templates that were checked, and their revisions.

    Raises:
        ApiProblem: it cannot.
    """
    wanted = templates.TemplateFilter(status="active", number_id=before.id)
    found = await templates.list_templates(app_state.database, before.account_id, wanted, limit=MAX_LIMIT)
    broken = await app_state.authoring.checks.run(
        before.account_id,
        broken_templates,
        before.id,
        known_number(after, _rules(after)),
        [each.content for each in found.items],
    )
    if broken:
        raise _impossible("Templates that answer the number would break.", broken)
    return {each.id: each.revision for each in found.items}


def _writable_part(patch: Any) -> Any:
    """A patch without the read-only members, which a client may send back unchanged."""
    if not isinstance(patch, dict):
        raise ApiProblem("invalid_request", "A merge patch of a number must be an object.")
    read_only = Number.model_fields.keys() - NumberBody.model_fields.keys()
    return {name: value for name, value in patch.items() if name not in read_only}


def _answer(record: NumberRecord, response: Response) -> Number:
    response.headers["ETag"] = etag(record.revision)
    return Number.model_validate(record)


def _change(admin: Principal, action: str, saved: NumberRecord | None, before: NumberRecord | None) -> Change:
    subject = saved or before
    assert subject is not None  # noqa: S101 - one of the two exists
    return Change(
        key_id=admin.key_id,
        action=action,
        resource="number",
        resource_id=subject.id,
        revision_before=before.revision if before else None,
        revision_after=saved.revision if saved else None,
        data={"e164": subject.e164, "changed": _changed(before, saved) if before and saved else []},
    )


def _changed(before: NumberRecord, after: NumberRecord | NumberDraft) -> list[str]:
    """Names of the members that a save changes."""
    return sorted(name for name in NumberBody.model_fields if getattr(before, name) != getattr(after, name))
