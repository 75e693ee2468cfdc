"""What a call begins with, read in one statement while the carrier opens the media stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.calls import CallRecord
from db.errors import NotFound
from db.pool import Executor
from db.revisions import TemplateSnapshot
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStart:
    """The template, the number and the lead of a call."""

    template: TemplateSnapshot
    time_zone: str
    """The number's, from the IANA database."""
    payload: Mapping[str, Any]
    """The lead's payload and variables."""
    has_phone: bool
    """Whether the person's number is known."""
    backup: Mapping[str, Any]
    transcribes_takeovers: bool
    """What the account sets where a template says nothing (``db.account_settings``)."""


async def read_start(db: Executor, call: CallRecord) -> CallStart:
    """What a call begins with; the template is at the revision that the call keeps, or at its newest one.

    Raises:
        NotFound: the template was deleted, and the call keeps no revision of it.
    """
    template_id = call.initial_template_id
    row = await db.fetchrow(
        """
        SELECT template.id, template.account_id, kept.name, kept.kind, template.status, kept.revision,
            kept.content, number.time_zone, lead.payload || lead.variables AS payload,
            lead.phone IS NOT NULL AS has_phone,
            account.backup, account.transcribes_takeovers
        FROM numbers number
        JOIN accounts account ON account.id = number.account_id
        JOIN leads lead ON lead.account_id = number.account_id AND lead.id = $3
        JOIN templates template ON template.account_id = number.account_id AND template.id = $4
        JOIN template_revisions kept
            ON kept.account_id = template.account_id AND kept.template_id = template.id
            AND kept.revision = coalesce($5::int, template.revision)
        WHERE number.account_id = $1 AND number.id = $2
            AND (template.deleted_at IS NULL OR $5::int IS NOT NULL)
        """,
        call.account_id,
        call.number_id,
        call.lead_id,
        template_id,
        kept_revisions(call).get(template_id),
    )
    if row is None:
        raise NotFound("template", template_id)
    columns = dict(row)
    names = ("time_zone", "payload", "has_phone", "backup", "transcribes_takeovers")
    others = {name: columns.pop(name) for name in names}
    return CallStart(template=read(TemplateSnapshot, columns), **others)


def kept_revisions(call: CallRecord) -> Mapping[UUID, int]:
    """The revisions that a call keeps, by template."""
    return {UUID(template): revision for template, revision in call.revisions.items()}
