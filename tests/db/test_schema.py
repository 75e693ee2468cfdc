"""The schema against the program's types, and against the rules every table keeps."""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args
from uuid import UUID

import pytest

from db import (
    calls,
    channels,
    handoff_events,
    handoffs,
    journal,
    keys,
    lead_control,
    leads,
    legs,
    model_requests,
    operators,
    outbox,
    provider_health,
    routes,
    templates,
    utterances,
)
from db.accounts import AccountRecord
from db.audit import AuditRecord
from db.calls import CallRecord
from db.channels import ChannelRecord
from db.events import EventRecord
from db.handoff_events import HandoffEventRecord
from db.handoffs import HandoffRecord
from db.ids import new_id
from db.keys import KeyRecord
from db.leads import LeadRecord
from db.legs import LegRecord
from db.model_requests import ModelRequestRecord
from db.notices import AttemptRecord
from db.numbers import NumberRecord
from db.operators import OperatorRecord
from db.outbox import NoticeRecord
from db.pool import Database, Row
from db.revisions import RevisionRecord
from db.routes import RouteRecord
from db.templates import TemplateRecord
from db.users import UserRecord
from db.utterances import UtteranceRecord

SETS = {
    "provider_health_kind_known": provider_health.HealthKind,
    "provider_health_fault_known": provider_health.ProviderFault,
    "api_keys_role_known": keys.Role,
    "templates_kind_known": templates.Kind,
    "templates_status_known": templates.Status,
    "template_revisions_kind_known": templates.Kind,
    "template_revisions_status_known": templates.Status,
    "leads_direction_known": calls.Direction,
    "leads_status_known": leads.LeadStatus,
    "calls_carrier_status_known": calls.CarrierStatus,
    "calls_direction_known": calls.Direction,
    "calls_status_known": calls.CallStatus,
    "calls_ended_by_known": calls.EndedBy,
    "routes_context_known": routes.RouteContext,
    "routes_status_known": routes.RouteStatus,
    "utterances_speaker_known": utterances.Speaker,
    "utterances_source_known": utterances.Source,
    "model_requests_status_known": model_requests.RequestStatus,
    "users_role_known": keys.Role,
    "operators_activity_known": operators.Activity,
    "operators_quota_known": operators.Quota,
    "handoffs_intent_known": handoffs.Intent,
    "handoffs_origin_known": handoffs.Origin,
    "handoffs_state_known": handoffs.State,
    "handoffs_priority_known": handoffs.Priority,
    "handoff_events_kind_known": handoff_events.JournalKind,
    "handoff_legs_state_known": legs.LegState,
    "handoff_legs_result_known": legs.LegResult,
    "handoff_legs_cause_known": legs.LegCause,
    "journal_remarks_kind_known": journal.RemarkKind,
    "calls_answered_by_known": calls.AnsweredBy,
    "channels_kind_known": channels.ChannelKind,
    "dispatch_stops_kind_known": lead_control.StopKind,
    "outbox_medium_known": outbox.Medium,
    "outbox_state_known": outbox.NoticeState,
    "outbox_attempts_outcome_known": outbox.Outcome,
}

RECORDS = {
    "provider_health": (provider_health.ProviderHealthRecord, {"changed_at"}),
    "accounts": (
        AccountRecord,
        {
            "revision",
            "prices",
            "webhook_secret",
            "transcripts_days",
            "payloads_days",
            "backup",
            "transcribes_takeovers",
        },
    ),
    "api_keys": (KeyRecord, {"key_hash"}),
    "numbers": (NumberRecord, {"deleted_at"}),
    "templates": (TemplateRecord, {"deleted_at"}),
    "template_revisions": (RevisionRecord, set()),
    "leads": (LeadRecord, {"idempotency_key", "claimed_by", "claimed_until", "payload_deleted_at"}),
    "calls": (
        CallRecord,
        {
            "held_by",
            "held_until",
            "finalised_at",
            "finalise_after",
            "machine_action_at",
            "transcript_deleted_at",
        },
    ),
    "routes": (RouteRecord, set()),
    "utterances": (UtteranceRecord, set()),
    "events": (EventRecord, set()),
    "model_requests": (ModelRequestRecord, set()),
    "audit": (AuditRecord, set()),
    "users": (UserRecord, set()),
    "operators": (OperatorRecord, set()),
    "handoffs": (
        HandoffRecord,
        {
            "snapshot",
            "idempotency_key",
            "unclaimed_since",
            "escalate_after_ms",
            "escalated",
            "text_deleted_at",
        },
    ),
    "handoff_events": (HandoffEventRecord, set()),
    "handoff_legs": (LegRecord, {"retry_at"}),
    "channels": (ChannelRecord, set()),
    "outbox": (NoticeRecord, set()),
    "outbox_attempts": (AttemptRecord, set()),
}
GATHERED = {"call_ids", "routes"}
"""Fields of a record that come from other tables."""

WITHOUT_ACCOUNT = {
    "accounts",
    "lead_moves",
    "schema_migrations",
    "journal_parts",
    "journal_remarks",
    "processes",
    "provider_health",
}


@pytest.fixture
def database(shared_database: Database) -> Database:
    """The tests only read the catalogs."""
    return shared_database


async def constraints(database: Database, kind: str) -> Sequence[Row]:
    return await database.fetch(
        """
        SELECT conname::text AS name, conrelid::regclass::text AS table_name,
            confrelid::regclass::text AS target, pg_get_constraintdef(oid) AS definition
        FROM pg_constraint WHERE contype::text = $1 AND connamespace = 'public'::regnamespace
        """,
        kind,
    )


async def test_sets_of_names_agree_with_the_program(database: Database) -> None:
    """Every CHECK of a set of names allows exactly the values of its Literal, none is forgotten."""
    checks = {
        row["name"]: set(re.findall(r"'([^']+)'", row["definition"]))
        for row in await constraints(database, "c")
        if row["name"].endswith("_known")
    }

    assert checks == {name: set(get_args(literal)) for name, literal in SETS.items()}


async def test_check_constraints_on_sets_are_named_as_such(database: Database) -> None:
    """A CHECK that lists names is called ..._known, so that the test above finds it."""
    listing = [row["name"] for row in await constraints(database, "c") if "ANY (ARRAY[" in row["definition"]]

    assert [name for name in listing if not name.endswith("_known")] == []


@pytest.mark.parametrize("table", RECORDS)
async def test_records_have_the_columns_of_their_table(database: Database, table: str) -> None:
    """A record shows every column of its table but the private ones, and nothing the table does not have."""
    rows = await database.fetch(
        "SELECT column_name::text AS name FROM information_schema.columns WHERE table_name = $1", table
    )
    record, private = RECORDS[table]
    record_type: Any = record

    assert {field.name for field in fields(record_type)} - GATHERED == {row["name"] for row in rows} - private


async def test_every_table_has_an_account(database: Database) -> None:
    """Every row belongs to an account: the column is there and may not be empty."""
    rows = await database.fetch(
        """
        SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'
        EXCEPT SELECT table_name::text FROM information_schema.columns
        WHERE column_name = 'account_id' AND is_nullable = 'NO' AND table_schema = 'public'
        """
    )

    assert {row["name"] for row in rows} == WITHOUT_ACCOUNT


async def test_no_reference_can_leave_its_account(database: Database) -> None:
    """Every foreign key to a row of an account carries the account with it, first."""
    loose = [
        row["name"]
        for row in await constraints(database, "f")
        if row["target"] != "accounts" and not row["definition"].startswith("FOREIGN KEY (account_id, ")
    ]

    assert loose == []


async def test_every_id_of_another_row_is_a_reference(database: Database) -> None:
    """Every other id is a foreign key, but for those of rows of any kind, and of the socket of a token."""
    columns = await database.fetch(
        """
        SELECT table_name::text AS table_name, column_name::text AS name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'uuid' AND column_name <> 'id'
        """
    )
    referring = {
        (row["table_name"], column)
        for row in await constraints(database, "f")
        for column in re.findall(r"\w+", row["definition"].split("(")[1].split(")")[0])
    }

    assert {(row["table_name"], row["name"]) for row in columns} - referring == {
        ("call_tokens", "used_by"),
        ("leads", "claimed_by"),
        ("audit", "resource_id"),
        ("calls", "held_by"),
        ("outbox", "destination"),
    }


async def test_every_reference_can_be_followed_backwards(database: Database) -> None:
    """Every foreign key to calls has an index."""
    rows = await database.fetch(
        """
        SELECT conrelid::regclass::text AS table_name, conname::text AS name FROM pg_constraint foreign_key
        WHERE contype = 'f' AND confrelid = 'calls'::regclass AND NOT EXISTS (
            SELECT 1 FROM pg_index WHERE indrelid = conrelid
                AND (indkey[0] = conkey[2] OR (indkey[0] = conkey[1] AND indkey[1] = conkey[2])))
        """
    )

    assert [(row["table_name"], row["name"]) for row in rows] == []


async def test_ids_are_made_by_the_program(database: Database) -> None:
    """No id has a default in the schema: they are UUIDv7, which PostgreSQL 15 cannot make."""
    rows = await database.fetch(
        """
        SELECT table_name::text AS name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_name = 'id'
            AND (column_default IS NOT NULL OR data_type <> 'uuid')
        """
    )

    assert list(rows) == []


async def test_times_have_a_zone(database: Database) -> None:
    """Every time in the schema is a timestamptz."""
    rows = await database.fetch(
        """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type LIKE 'timestamp without%'
        """
    )

    assert list(rows) == []


def test_ids_sort_by_their_creation() -> None:
    """Successive ids are UUIDv7 in order."""
    made = [new_id() for _ in range(1000)]

    assert made == sorted(made)
    assert {UUID(str(id)).version for id in made} == {7}
