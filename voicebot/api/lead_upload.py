"""POST /leads/upload: many leads as CSV or JSON lines, read as a stream; each line is stored or refused."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Annotated, Any
from uuid import UUID

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from db import audit, leads
from db.audit import Change
from db.errors import IdempotencyKeyReused
from db.ids import new_id
from db.leads import LeadDraft
from templates.model import Variable
from templates.problem import pointer
from templates.storable import unstorable
from voicebot.api.access import LeadWriter, Principal
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.lead_checks import LeadBody, LeadChecks, LeadRefused
from voicebot.api.limits import limit_exceeded
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.upload_lines import TOO_LONG, csv_rows, lines
from voicebot.api.validation import invalid_body

router = resource_router("/leads", "leads", media_types=None)

CSV = "text/csv"
JSON_LINES = "application/x-ndjson"

MAX_REFUSED = 1000
"""Refused lines that are answered; the others are counted."""

_BATCH = 200
_LINES_AT_ONCE = 20
_IN_MEMORY = 1024 * 1024
_INTEGER = re.compile("-?[0-9]{1,9}")
_COLUMNS = frozenset(LeadBody.model_fields) - {"payload"} | {"idempotency_key"}

Line = tuple[int, dict[str, Any] | FieldError]
"""A line's number, from 1, and its members or why it cannot be read."""


class UploadQuery(BaseModel):
    """Values for the lines that do not have them."""

    model_config = ConfigDict(extra="forbid")

    number_id: UUID | None = None
    template_id: UUID | None = None


class RefusedLine(BaseModel):
    """A line that was not stored."""

    line: Annotated[int, Field(description="Number of the line, from 1; a CSV file's header is line 1.")]
    errors: list[FieldError]


class Uploaded(BaseModel):
    """The result of an upload."""

    accepted: int
    refused_total: int
    refused: Annotated[list[RefusedLine], Field(description="The first 1,000 lines that were refused.")]


@router.post(
    "/upload",
    responses=refuses("invalid_request", "unsupported_media_type", "payload_too_large"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                CSV: {
                    "schema": {"type": "string"},
                    "example": "phone,time_zone,name\n+14155550199,America/Los_Angeles,Ada\n",
                },
                JSON_LINES: {
                    "schema": {"type": "string"},
                    "example": '{"phone":"+14155550199","payload":{"name":"Ada"}}\n',
                },
            },
        }
    },
)
async def upload_leads(
    app_state: AppStateDep, writer: LeadWriter, request: Request, query: Annotated[UploadQuery, Query()]
) -> Uploaded:
    """Create many leads. Valid lines are stored; the answer lists the faults of the others.

    JSON lines have the members of `POST /leads` and `idempotency_key`. CSV has a header; columns that are no
    member of a lead belong to the payload. Lines without `number_id` or `template_id` have those of the
    query. A line that is repeated with its `idempotency_key` is accepted and changes nothing.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (CSV, JSON_LINES):
        raise ApiProblem("unsupported_media_type", f"Send {CSV} or {JSON_LINES}.")
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, mode="w+b") as stored:
        async for chunk in bounded(request.stream(), app_state.limits.upload_bytes):
            stored.write(chunk)
        stored.seek(0)
        lines = _csv_lines(stored) if kind == CSV else _json_lines(stored)
        return await _store(app_state, writer, query, lines, is_text=kind == CSV)


async def bounded(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The chunks of a body, up to a number of bytes.

    Raises:
        ApiProblem: there are more.
    """
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise limit_exceeded("upload", "payload_too_large", f"An upload may have at most {limit} bytes.")
        yield chunk


async def _store(
    app_state: AppState, writer: Principal, query: UploadQuery, lines: Iterator[Line], *, is_text: bool
) -> Uploaded:
    checks = LeadChecks(app_state.database, writer.account_id, app_state.clock.now())
    answer = Uploaded(accepted=0, refused_total=0, refused=[])
    upload_id = new_id()
    batch: list[tuple[int, LeadDraft, str | None]] = []
    for number, members in lines:
        if number % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        if isinstance(members, FieldError):
            _refuse(answer, number, [members])
            continue
        try:
            batch.append((number, *await _draft(checks, query, members, is_text=is_text)))
        except LeadRefused as refused:
            _refuse(answer, number, refused.errors)
        if len(batch) == _BATCH:
            await _write(app_state, writer, upload_id, batch, answer)
            batch.clear()
    await _write(app_state, writer, upload_id, batch, answer)
    answer.refused.sort(key=lambda refused: refused.line)
    return answer


async def _draft(
    checks: LeadChecks, query: UploadQuery, members: dict[str, Any], *, is_text: bool
) -> tuple[LeadDraft, str | None]:
    for path, fault in unstorable(members):
        raise LeadRefused(
            "invalid_request", "", [_fault(pointer(*path), f"a value that can be stored; it {fault}")]
        )
    key = members.pop("idempotency_key", None)
    if key is not None and (not isinstance(key, str) or not 1 <= len(key) <= 200):
        raise LeadRefused("invalid_request", "", [_fault("/idempotency_key", "1 to 200 characters")])
    for name in ("number_id", "template_id"):
        given = getattr(query, name)
        if members.get(name) is None and given is not None:
            members[name] = str(given)
    try:
        body = LeadBody.model_validate_json(json.dumps(members))
    except ValidationError as error:
        faults = list(invalid_body(error.errors(include_url=False)).errors)
        raise LeadRefused("invalid_request", "", faults) from None
    if is_text:
        variables = await checks.variables(body.template_id)
        body = body.model_copy(update={"payload": _typed(body.payload, variables)})
    return await checks.draft(body), key


async def _write(
    app_state: AppState,
    writer: Principal,
    upload_id: UUID,
    batch: list[tuple[int, LeadDraft, str | None]],
    answer: Uploaded,
) -> None:
    if not batch:
        return
    async with app_state.database.transaction() as transaction:
        drafts = [(draft, key) for _, draft, key in batch]
        added = await leads.add_all(transaction, writer.account_id, drafts)
        for (number, _, _), lead in zip(batch, added, strict=True):
            if isinstance(lead, IdempotencyKeyReused):
                _refuse(answer, number, [_fault("/idempotency_key", "a key of another lead")])
            else:
                answer.accepted += 1
        change = Change(
            key_id=writer.key_id, action="upload", resource="lead", resource_id=upload_id,
            data={"lines": len(batch)},
        )  # fmt: skip
        await audit.record(transaction, writer.account_id, change)


def _refuse(answer: Uploaded, number: int, errors: list[FieldError]) -> None:
    answer.refused_total += 1
    if len(answer.refused) < MAX_REFUSED:
        answer.refused.append(RefusedLine(line=number, errors=errors))


def _json_lines(stored: IO[bytes]) -> Iterator[Line]:
    for number, line in lines(stored):
        if line is None:
            yield number, _fault("", TOO_LONG)
            continue
        if not line.strip():
            continue
        try:
            members = json.loads(line)
        except (ValueError, RecursionError):
            yield number, _fault("", "the line is not JSON")
            continue
        yield number, members if isinstance(members, dict) else _fault("", "the line is not an object")


def _csv_lines(stored: IO[bytes]) -> Iterator[Line]:
    header: list[str] = []
    for number, cells in csv_rows(stored):
        if not header:
            header = _header(cells)
        elif isinstance(cells, str):
            yield number, _fault("", cells)
        elif len(cells) != len(header):
            yield number, _fault("", f"the line has {len(cells)} values, the header {len(header)}")
        else:
            yield number, _members(header, cells)


def _header(cells: list[str] | str) -> list[str]:
    if isinstance(cells, str):
        raise ApiProblem("invalid_request", "The header cannot be read.", errors=[_fault("", cells)])
    names = [cell.strip() for cell in cells]
    if "phone" not in names:
        missing = _fault(
            "/phone", "a column with this name in the header, the first line; commas separate columns"
        )
        raise ApiProblem("invalid_request", "The file has no column 'phone'.", errors=[missing])
    for name in names:
        if name and names.count(name) > 1:
            twice = _fault(pointer(name), "one column with this name")
            raise ApiProblem("invalid_request", "The file has two columns with one name.", errors=[twice])
    return names


def _members(header: list[str], cells: list[str]) -> dict[str, Any]:
    given = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    members: dict[str, Any] = {name: given[name] for name in given if name in _COLUMNS}
    if _INTEGER.fullmatch(members.get("priority", "")):
        members["priority"] = int(members["priority"])
    members["payload"] = {name: cell for name, cell in given.items() if name not in _COLUMNS}
    return members


def _typed(payload: dict[str, Any], variables: tuple[Variable, ...]) -> dict[str, Any]:
    """Cells as values of the variables' types, where they can be read as such."""
    types = {variable.name: variable.type for variable in variables}
    typed = {}
    for name, cell in payload.items():
        typed[name] = cell
        if types.get(name) in ("number", "integer", "boolean", "object"):
            try:
                typed[name] = json.loads(cell)
            except (ValueError, RecursionError):
                continue  # refused as a text where a number is needed
    return typed


def _fault(pointer: str, expected: str) -> FieldError:
    return FieldError(
        pointer=pointer, code="invalid_line", message=f"Expected {expected}." if pointer else f"{expected}.",
        remedy="Correct the line and send it again.",
    )  # fmt: skip
