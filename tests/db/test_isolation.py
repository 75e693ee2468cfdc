"""A second account sees nothing of the first: every query function is tried with the first one's ids."""

import asyncio
import contextlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest

import db
from db import (
    account_settings,
    accounts,
    answering_machines,
    attempts,
    audit,
    bridged_calls,
    call_ends,
    call_leases,
    call_lists,
    call_snapshot,
    call_start,
    call_tokens,
    call_use,
    calls,
    carrier_calls,
    channels,
    dispatch,
    dispatch_records,
    events,
    finalisation,
    greetings,
    handoff_events,
    handoff_metrics,
    handoff_transitions,
    handoff_work,
    handoffs,
    inbound,
    journal,
    keys,
    lead_control,
    leads,
    leg_changes,
    legs,
    model_requests,
    notices,
    number_fallbacks,
    numbers,
    open_handoffs,
    operators,
    outbox,
    processes,
    provider_health,
    retention,
    revisions,
    routes,
    stream_tokens,
    template_sets,
    template_targets,
    templates,
    users,
    utterances,
)
from db.audit import AuditFilter, Change
from db.call_ends import EndWithEvent
from db.call_lists import CallFilter
from db.calls import CallEnd
from db.errors import ConstraintViolated, KeyRefused, NotFound, TargetsUnavailable
from db.handoffs import CreatedHandoff, HandoffDraft
from db.ids import new_id
from db.leads import LeadDraft, LeadFilter
from db.legs import LegDraft
from db.numbers import NumberDraft, NumberFilter
from db.outbox import NoticeDraft
from db.pool import Database, Executor
from db.rows import Page
from db.templates import TemplateFilter
from db.users import UserDraft
from tests.db.seed import (
    NOON,
    SeededAccount,
    draft,
    make_event,
    make_model_request,
    make_route,
    make_utterance,
)

Attempt = Callable[[Database, UUID, SeededAccount], Awaitable[object]]

END = CallEnd(ended_by="system", end_reason="stolen", outcome="stolen", ended_at=NOON)
STOLEN = NumberDraft(e164="+14155550999", carrier="twilio")

READS_AND_CHANGES: Mapping[Callable[..., Any], Attempt] = {
    audit.list_changes: lambda d, me, w: audit.list_changes(
        d, me, AuditFilter(resource_id=w.front.id), limit=9
    ),
    bridged_calls.transferring: lambda d, me, w: bridged_calls.transferring(d, me, w.call.id),
    bridged_calls.return_to_agent: lambda d, me, w: bridged_calls.return_to_agent(d, me, w.call.id),
    bridged_calls.forward: lambda d, me, w: bridged_calls.forward(d, me, w.call.id, "+14155550000"),
    bridged_calls.begin_transfer: lambda d, me, w: bridged_calls.begin_transfer(d, me, w.call.id),
    bridged_calls.cancel_transfer: lambda d, me, w: bridged_calls.cancel_transfer(d, me, w.call.id),
    leg_changes.create: lambda d, me, w: leg_changes.create(d, make_leg(w, me)),
    legs.of_call: lambda d, me, w: legs.of_call(d, me, w.call.id),
    legs.open_of: lambda d, me, w: legs.open_of(d, me, row_id(w, 1)),
    legs.operator_line: lambda d, me, w: legs.operator_line(d, me, w.call.id, row_id(w, 2)),
    calls.answered: lambda d, me, w: calls.answered(d, me, w.call.id, NOON),
    call_ends.finish_with_event: lambda d, me, w: call_ends.finish_with_event(
        d, EndWithEvent(account_id=me, call_id=w.call.id, end=END, data={})
    ),
    call_ends.finish_unanswered: lambda d, me, w: call_ends.finish_unanswered(
        d, [EndWithEvent(account_id=me, call_id=w.call.id, end=END, data={})]
    ),
    calls.finish: lambda d, me, w: calls.finish(d, me, w.call.id, END),
    calls.get: lambda d, me, w: calls.get(d, me, w.call.id),
    calls.keep_variables: lambda d, me, w: calls.keep_variables(d, me, w.call.id, "desk", {"stolen": 1}),
    calls.keep_revisions: lambda d, me, w: calls.keep_revisions(d, me, w.call.id, {w.front.id: 9}),
    call_lists.list_calls: lambda d, me, w: call_lists.list_calls(
        d, me, CallFilter(lead_id=w.call.lead_id), limit=9
    ),
    calls.record_outcome: lambda d, me, w: calls.record_outcome(d, me, w.call.id, "stolen"),
    calls.handed_over: lambda d, me, w: calls.handed_over(d, me, w.call.id, 9),
    calls.resumed: lambda d, me, w: calls.resumed(d, me, w.call.id, 9),
    calls.reconnect: lambda d, me, w: calls.reconnect(d, me, w.call.id),
    calls.set_node: lambda d, me, w: calls.set_node(d, me, w.call.id, "stolen"),
    calls.set_status: lambda d, me, w: calls.set_status(d, me, w.call.id, "transferring"),
    processes.address_of_call: lambda d, me, w: processes.address_of_call(
        d, me, w.call.id, within=timedelta(days=1)
    ),
    channels.delete: lambda d, me, w: channels.delete(d, me, row_id(w, 4)),
    channels.get: lambda d, me, w: channels.get(d, me, row_id(w, 4)),
    channels.of_account: lambda d, me, _: channels.of_account(d, me),
    lead_control.cancel: lambda d, me, w: lead_control.cancel(d, me, w.call.lead_id, NOON),
    lead_control.cancel_some: lambda d, me, w: lead_control.cancel_some(
        d, me, None, "in_call", NOON, ids=(UUID(int=0), w.call.lead_id), limit=9
    ),
    lead_control.is_any_open: lambda d, me, w: lead_control.is_any_open(d, me, None, w.call.lead_id),
    lead_control.newest: lambda d, me, _: lead_control.newest(d, me),
    lead_control.dial_now: lambda d, me, w: lead_control.dial_now(d, me, w.call.lead_id, NOON),
    lead_control.hold: lambda d, me, w: lead_control.hold(d, me, w.call.lead_id, NOON),
    lead_control.resume: lambda d, me, w: lead_control.resume(d, me, w.call.lead_id, NOON),
    lead_control.lift_stop: lambda d, me, w: lead_control.lift_stop(d, me, w.front.id, "pause"),
    answering_machines.leave_to_message: lambda d, me, w: answering_machines.leave_to_message(
        d, me, w.call.id, timedelta(hours=1)
    ),
    attempts.placed: lambda d, me, w: attempts.placed(d, me, w.call.id, "stolen", timedelta(hours=1)),
    lead_control.stop: lambda d, me, w: lead_control.stop(d, me, w.front.id, "pause"),
    dispatch_records.list_alerts: lambda d, me, _: dispatch_records.list_alerts(d, me, limit=9),
    dispatch_records.list_opt_outs: lambda d, me, _: dispatch_records.list_opt_outs(d, me, limit=9),
    dispatch_records.opt_in: lambda d, me, w: dispatch_records.opt_in(d, me, row_id(w, 1)),
    dispatch_records.ringing: lambda d, me, w: dispatch_records.ringing(d, me, [w.call.lead_id]),
    dispatch_records.stops: lambda d, me, _: dispatch_records.stops(d, me),
    leads.add: lambda d, me, w: leads.add(d, me, stolen_lead(w)),
    leads.create_all: lambda d, me, w: leads.create_all(d, me, [(stolen_lead(w), None)]),
    leads.add_all: lambda d, me, w: leads.add_all(d, me, [(stolen_lead(w), None)]),
    call_snapshot.of_call: lambda d, me, w: call_snapshot.of_call(d, me, w.call.id, max_utterances=9),
    handoff_events.after: lambda d, me, _: handoff_events.after(d, me, 0, limit=9),
    handoff_events.last_seqs: lambda d, me, _: handoff_events.last_seqs(d, [me]),
    events.append: lambda d, me, w: events.append(
        d, replace(make_event(w, seq=9), account_id=me, template_id=None)
    ),
    events.of_call: lambda d, me, w: events.of_call(d, me, w.call.id),
    events.record: lambda d, me, w: events.record(
        d, replace(make_event(w, seq=9), account_id=me, template_id=None)
    ),
    greetings.get: lambda d, me, _: greetings.get(d, me, "greeting"),
    handoff_transitions.set_assessment: lambda d, me, w: handoff_transitions.set_assessment(
        d, me, row_id(w, 1), {"stolen": 1}, NOON
    ),
    handoff_transitions.claim: lambda d, me, w: handoff_transitions.claim(
        d, me, row_id(w, 1), row_id(w, 2), at=NOON, lease_until=NOON
    ),
    handoffs.create: lambda d, me, w: create_handoff(d, me, make_handoff(w)),
    handoff_transitions.decline: lambda d, me, w: handoff_transitions.decline(
        d, me, row_id(w, 1), row_id(w, 3), reason="", at=NOON
    ),
    handoffs.get: lambda d, me, w: handoffs.get(d, me, row_id(w, 1)),
    open_handoffs.held_by: lambda d, me, w: open_handoffs.held_by(d, me, row_id(w, 2)),
    handoff_transitions.set_note_id: lambda d, me, w: handoff_transitions.set_note_id(
        d, me, row_id(w, 1), "stolen"
    ),
    handoff_transitions.offer: lambda d, me, w: handoff_transitions.offer(
        d, me, row_id(w, 1), row_id(w, 2), at=NOON, lease_until=NOON
    ),
    open_handoffs.queued: lambda d, me, _: open_handoffs.queued(d, me, limit=9),
    open_handoffs.declined_by: lambda d, me, w: open_handoffs.declined_by(d, me, row_id(w, 1)),
    open_handoffs.escalation_of: lambda d, me, w: open_handoffs.escalation_of(d, me, w.call.id),
    open_handoffs.intents: lambda d, me, w: open_handoffs.intents(d, me, [w.call.id]),
    handoff_transitions.renew: lambda d, me, w: handoff_transitions.renew(d, me, row_id(w, 2), NOON),
    handoffs.snapshot: lambda d, me, w: handoffs.snapshot(d, me, row_id(w, 1)),
    keys.get: lambda d, me, w: keys.get(d, me, w.key.record.id),
    keys.list_keys: lambda d, me, _: keys.list_keys(d, me, limit=9),
    keys.get_valid: lambda d, me, w: keys.get_valid(d, me, w.key.record.id),
    keys.revoke: lambda d, me, w: keys.revoke(d, me, w.key.record.id),
    leads.create: lambda d, me, w: leads.create(d, me, stolen_lead(w), idempotency_key="k"),
    leads.get: lambda d, me, w: leads.get(d, me, w.call.lead_id),
    leads.keep_variables: lambda d, me, w: leads.keep_variables(d, me, w.call.lead_id, {"stolen": 1}),
    leads.list_leads: lambda d, me, _: leads.list_leads(d, me, LeadFilter(), limit=9),
    numbers.delete: lambda d, me, w: numbers.delete(d, me, w.number.id, expected_revision=1),
    numbers.find: lambda d, me, w: numbers.find(d, me, e164s=[w.number.e164], ids=[w.number.id]),
    numbers.get: lambda d, me, w: numbers.get(d, me, w.number.id),
    numbers.list_numbers: lambda d, me, _: numbers.list_numbers(d, me, NumberFilter(), limit=9),
    numbers.update: lambda d, me, w: numbers.update(d, me, w.number.id, STOLEN, expected_revision=1),
    operators.mark_seen: lambda d, me, w: operators.mark_seen(d, me, row_id(w, 2), NOON),
    operators.count: lambda d, me, w: operators.count(d, me, row_id(w, 2), holding=1),
    operators.ensure: lambda d, me, w: operators.ensure(d, me, row_id(w, 2)),
    operators.signed_on: lambda d, me, _: operators.signed_on(d, me),
    operators.lock: lambda d, me, w: operators.lock(d, me, [row_id(w, 2)]),
    operators.list_operators: lambda d, me, _: operators.list_operators(d, me, limit=9),
    operators.set_last_offered: lambda d, me, w: operators.set_last_offered(d, me, row_id(w, 2), NOON),
    operators.below_capacity: lambda d, me, _: operators.below_capacity(d, me),
    notices.attempts: lambda d, me, w: notices.attempts(d, me, row_id(w, 5)),
    outbox.cancel: lambda d, me, w: outbox.cancel(d, me, row_id(w, 1), ["email"], NOON),
    notices.get: lambda d, me, w: notices.get(d, me, row_id(w, 5)),
    notices.list_notices: lambda d, me, _: notices.list_notices(d, me, limit=9),
    notices.of_handoff: lambda d, me, w: notices.of_handoff(d, me, row_id(w, 1)),
    outbox.put: lambda d, me, w: outbox.put(
        d, me, [NoticeDraft(medium="email", message={}, at=NOON, handoff_id=row_id(w, 1))]
    ),
    notices.retry: lambda d, me, w: notices.retry(d, me, row_id(w, 5), NOON),
    revisions.for_call: lambda d, me, w: revisions.for_call(d, me, w.front.id, 1),
    revisions.get: lambda d, me, w: revisions.get(d, me, w.front.id, 1),
    revisions.list_revisions: lambda d, me, w: revisions.list_revisions(d, me, w.front.id, limit=9),
    revisions.targets: lambda d, me, w: revisions.targets(d, me, [w.front.id, w.billing.id]),
    routes.complete: lambda d, me, w: routes.complete(d, replace(make_route(w, seq=9), account_id=me)),
    routes.measured: lambda d, me, w: routes.measured(d, me, route_id(w), first_audio_at=NOON, gap_ms=9),
    routes.of_call: lambda d, me, w: routes.of_call(d, me, w.call.id),
    routes.of_leads: lambda d, me, w: routes.of_leads(d, me, [w.call.lead_id]),
    routes.record: lambda d, me, w: routes.record(d, replace(make_route(w, seq=9), account_id=me)),
    template_sets.find: lambda d, me, w: template_sets.find(
        d, me, names=[w.front.name], ids=[w.front.id, w.billing.id]
    ),
    template_sets.all_names: lambda d, me, _: template_sets.all_names(d, me),
    template_sets.names_with_targets: lambda d, me, w: template_sets.names_with_targets(
        d, me, names=[w.front.name], ids=[w.front.id, w.billing.id]
    ),
    template_sets.users_of: lambda d, me, w: template_sets.users_of(d, me, [w.billing.id]),
    templates.by_name: lambda d, me, w: templates.by_name(d, me, w.front.name),
    templates.create: lambda d, me, w: templates.create(
        d, me, draft("thief", kind="orchestrator", references=[w.billing.id])
    ),
    templates.delete: lambda d, me, w: templates.delete(d, me, w.billing.id, expected_revision=1),
    templates.get: lambda d, me, w: templates.get(d, me, w.front.id),
    templates.keep_problems: lambda d, me, w: templates.keep_problems(d, me, w.front.id, ["stolen"]),
    templates.list_templates: lambda d, me, _: templates.list_templates(d, me, TemplateFilter(), limit=9),
    templates.names: lambda d, me, _: templates.names(d, me, beginning=""),
    templates.update: lambda d, me, w: templates.update(
        d, me, w.front.id, draft("stolen"), expected_revision=1
    ),
    template_targets.used_by: lambda d, me, w: template_targets.used_by(d, me, w.billing.id),
    template_targets.reached_from: lambda d, me, w: template_targets.reached_from(d, me, [w.front.id]),
    stream_tokens.is_renewed: lambda d, me, _: stream_tokens.is_renewed(d, me, "token", NOON),
    users.delete: lambda d, me, w: users.delete(d, me, row_id(w, 2)),
    users.get: lambda d, me, w: users.get(d, me, row_id(w, 2)),
    users.list_users: lambda d, me, _: users.list_users(d, me, limit=9),
    users.of_key: lambda d, me, w: users.of_key(d, me, w.key.record.id),
    users.phones: lambda d, me, w: users.phones(d, me, [row_id(w, 2)]),
    users.set_phone: lambda d, me, w: users.set_phone(d, me, row_id(w, 2), "+14155550199"),
    users.to_notify: lambda d, me, _: users.to_notify(d, me),
    users.update: lambda d, me, w: users.update(d, me, row_id(w, 2), UserDraft(name="stolen", role="owner")),
    utterances.of_call: lambda d, me, w: utterances.of_call(d, me, w.call.id),
    utterances.record: lambda d, me, w: utterances.record(
        d, replace(make_utterance(w, seq=9), account_id=me, template_id=None)
    ),
}
"""Each query function, tried by the account ``me`` on what is in the world ``w`` of another one."""

NO_OTHER_ACCOUNT_TO_REACH = {
    accounts.create: "makes an account",
    account_settings.get: "answers for the account it is asked for",
    account_settings.replace_webhook_secret: "changes the account it is given",
    account_settings.update: "changes the account it is given",
    account_settings.webhook_secret: "the key of the account it is asked for",
    accounts.get: "answers for the account it is asked for",
    accounts.oldest: "the commands of whoever runs the server",
    audit.record: "writes into the account it is given",
    processes.seen: "the processes of the server, which belong to no account",
    processes.stopped: "the processes of the server, which belong to no account",
    provider_health.all_of: "the providers of the server, whose keys belong to no account",
    provider_health.change: "the providers of the server, whose keys belong to no account",
    processes.has_other: "the processes of the server, which belong to no account",
    number_fallbacks.fallbacks: "the numbers of all accounts, for calls that arrive without the database",
    number_fallbacks.version: "says only whether something has changed",
    call_tokens.consume_token: "the token names the account; test_call_tokens",
    channels.create: "makes a channel of the account it is given",
    handoff_metrics.of_account: "metrics of the account it is asked for; test_handoff_metrics",
    handoff_metrics.usual_wait_ms: "the median of the account it is asked for; test_call_watch",
    handoff_metrics.totals: "totals of all accounts, for the operator of the server",
    handoff_metrics.history: "totals of all accounts, for the operator of the server",
    handoff_events.bounds: "sequence numbers of the account it is asked for; test_stream",
    handoff_events.delete_old: "old events of all accounts",
    handoff_transitions.apply: "the record names the account",
    handoff_transitions.escalate: "the record names the account",
    handoff_transitions.store_hang_up: "the record names the account",
    handoff_transitions.renew_offer: "the record names the account",
    handoffs.queue: "items and a sequence number of the account it is asked for; test_handoff_service",
    open_handoffs.accounts_with_queue: "the scheduler works for all accounts",
    open_handoffs.of_live_calls: "a process names the calls it has",
    open_handoffs.unclaimed: "the scheduler works for all accounts",
    open_handoffs.needing_action: "the scheduler works for all accounts",
    journal.forget_part: "the journal is the installation's",
    handoff_transitions.renew_bridge: "the record names the account",
    handoff_transitions.set_cause: "the record names the account",
    legs.to_destinations: "a process names the calls it has",
    leg_changes.accepted: "the record names the leg",
    leg_changes.bridged: "the record names the leg",
    leg_changes.close: "every process closes legs of all accounts",
    leg_changes.end: "the record names the leg",
    leg_changes.extend: "the record names the leg",
    legs.get: "the carrier's signature vouches for the URL that names it",
    leg_changes.left: "the carrier's signature vouches for the URL that names it",
    leg_changes.named: "the carrier's signature vouches for the URL that names it",
    handoff_work.find: "every process works for all accounts",
    legs.are_unclosed: "every process looks after legs of all accounts",
    legs.overdue: "every process looks after legs of all accounts",
    leg_changes.progressed: "the record names the leg",
    legs.take_unclosed: "every process closes legs of all accounts",
    legs.unknown_of: "call ids of the carrier, of which the unknown ones are returned",
    journal.backlog: "the journal is the installation's",
    journal.lines_after: "the journal is the installation's",
    journal.number: "the journal is the installation's",
    journal.parts: "the journal is the installation's",
    journal.record_part: "the journal is the installation's",
    journal.remark: "the journal is the installation's",
    operators.save: "the record names the account",
    operators.silent_since: "the scheduler works for all accounts",
    outbox.claim: "the outbox sends for all accounts",
    attempts.attempt_of: "the carrier's signature vouches for it",
    attempts.all_placed: "each answer names its account",
    answering_machines.begin_machine_action: "the record names the call",
    attempts.wanted_of: "it takes the calls",
    call_use.of_calls: "it takes the calls",
    answering_machines.report_answered_by: "the record names the call",
    attempts.is_wanted: "it takes the call",
    attempts.dialable_of: "it takes the calls",
    attempts.ids_of_others: "ids of a carrier, which belong to one call",
    attempts.someone_rings: "a process that stops waits for the people of all accounts",
    attempts.was_not_placed: "the record names the call",
    dispatch.claim: "the dispatcher dials for all accounts",
    finalisation.claim: "the calls of all accounts are finalised",
    finalisation.finalise: "the record names the call",
    finalisation.next_due: "the calls of all accounts are finalised",
    finalisation.renew: "the record names the call",
    dispatch.defer: "the claim names the lead",
    dispatch.finish: "the claim names the lead",
    dispatch.next_due: "the dispatcher dials for all accounts",
    dispatch_records.alert: "writes into the account it is given",
    dispatch_records.opt_out: "writes into the account it is given",
    retention.delete_handoff_texts: "by the time of each account; test_retention",
    retention.delete_notices: "by the time of each account; test_retention",
    retention.delete_payloads: "by the time of each account; test_retention",
    retention.delete_transcripts: "by the time of each account; test_retention",
    outbox.finish: "the record names the account",
    outbox.due: "the outbox sends for all accounts",
    stream_tokens.renew: "writes into the account it is given",
    users.create: "makes a user of the account it is given",
    carrier_calls.by_carrier_id: "the carrier's signature vouches for it",
    carrier_calls.carrier_status: "the carrier's signature vouches for it",
    carrier_calls.carrier_statuses: "the carrier's signature vouches for it",
    bridged_calls.transferring_by_flow: "every process asks about all calls; test_conformance_person",
    call_leases.end_expired: "every process ends calls of all accounts; test_call_leases",
    call_start.read_start: "the record of the call names the account",
    call_leases.renew: "a process names the calls it has; test_call_leases",
    greetings.put: "writes into the account it is given; test_greetings",
    keys.authenticate: "the key names the account; test_keys",
    keys.create: "makes a key of the account it is given",
    keys.valid_ids: "the keys of the open streams of all accounts; test_stream",
    numbers.assign: "the operator of the server gives a number to the account; test_numbers",
    model_requests.append: lambda d, me, w: model_requests.append(
        d, replace(make_model_request(w), account_id=me), same_tools=False
    ),
    model_requests.of_call: lambda d, me, w: model_requests.of_call(d, me, w.call.id, limit=9),
    numbers.create: "makes a number of the account it is given; test_numbers",
    inbound.begin: "the dialled number names the account; test_inbound",
    inbound.live_calls: "the record of the number names it",
    inbound.taken_calls: "the record of the number names it",
    inbound.forwarded_calls: "the record of the number names it",
}


@pytest.fixture
def database(module_database: Database) -> Database:
    """Other accounts do not change during a test."""
    return module_database


def stolen_lead(seeded: SeededAccount) -> LeadDraft:
    return LeadDraft(
        direction="outbound",
        phone=None,
        number_id=seeded.number.id,
        template_id=seeded.front.id,
        payload={},
        variables={},
    )


def row_id(seeded: SeededAccount, number: int) -> UUID:
    """1: a handoff, 2: an operator who has not been asked, 3: one who declined, 4: a channel, 5: a notice."""
    return UUID(int=seeded.call.id.int ^ (number << 8))


def make_leg(seeded: SeededAccount, account_id: UUID) -> LegDraft:
    return LegDraft(
        id=new_id(),
        account_id=account_id,
        handoff_id=row_id(seeded, 1),
        epoch=1,
        call_id=seeded.call.id,
        user_id=row_id(seeded, 2),
        carrier="twilio",
        from_number="+14155550111",
        to_number="+14155550122",
        webhooks_url="https://x",
        deadline=NOON,
        created_at=NOON,
    )


def make_handoff(seeded: SeededAccount, **more: Any) -> HandoffDraft:
    values = {"intent": "escalate", "origin": "model", "reason": "stolen"} | more
    return HandoffDraft(**values, call_id=seeded.call.id, created_at=NOON)


async def create_handoff(db: Executor, account_id: UUID, draft: HandoffDraft) -> CreatedHandoff:
    return await handoffs.create(
        db, account_id, draft, state="queued", queue_at=NOON, expires_at=NOON + timedelta(hours=1)
    )


async def seed_account(database: Database, seeded: SeededAccount) -> None:
    """Add a handoff, two users, a channel and a notice."""
    await create_handoff(database, seeded.id, make_handoff(seeded, id=row_id(seeded, 1)))
    for number in (2, 3):
        await database.execute(
            "INSERT INTO users (id, account_id, name, role, email) VALUES ($2, $1, 'Acme', 'operator', $3)",
            seeded.id,
            row_id(seeded, number),
            f"{number}@example.com",
        )
        await operators.ensure(database, seeded.id, row_id(seeded, number))
    await database.execute(
        "INSERT INTO channels (id, account_id, kind, label, url) VALUES ($2, $1, 'slack', 'Acme', 'https://x')",
        seeded.id,
        row_id(seeded, 4),
    )
    await database.execute(
        """
        INSERT INTO outbox (id, account_id, handoff_id, medium, message, next_at, created_at, state)
        VALUES ($2, $1, $3, 'email', '{}', $4, $4, 'dead')
        """,
        seeded.id,
        row_id(seeded, 5),
        row_id(seeded, 1),
        NOON,
    )
    async with database.transaction() as transaction:
        await handoff_events.append(
            transaction,
            seeded.id,
            "handoff.created",
            NOON,
            handoff_id=row_id(seeded, 1),
        )


def route_id(seeded: SeededAccount) -> UUID:
    return UUID(int=seeded.call.id.int ^ 1)


def query_functions() -> set[Callable[..., Any]]:
    """Every public coroutine function of the package whose first parameter is an Executor."""
    found: set[Callable[..., Any]] = set()
    for module in pkgutil.iter_modules(db.__path__):
        for name, function in inspect.getmembers(
            import_module(f"db.{module.name}"), inspect.iscoroutinefunction
        ):
            first = next(iter(inspect.signature(function).parameters.values()), None)
            if not name.startswith("_") and first is not None and first.annotation == Executor.__name__:
                found.add(function)
    return found


async def everything(database: Database) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    tables = await database.fetch("SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'")
    return {
        table["name"]: sorted(
            row["row"]
            for row in await database.fetch(f"SELECT t::text AS row FROM {table['name']} t")  # noqa: S608
        )
        for table in tables
    }


def shows_nothing(result: object) -> bool:
    items = result.items if isinstance(result, Page) else result
    if items is None or items == 0:
        return True
    return isinstance(items, (Sequence, Mapping)) and not items


def test_every_query_function_is_tried() -> None:
    """A new query function has its place in this file, or a reason why it needs none."""
    assert query_functions() == READS_AND_CHANGES.keys() | NO_OTHER_ACCOUNT_TO_REACH.keys()


@pytest.mark.parametrize("function", READS_AND_CHANGES, ids=lambda f: f"{f.__module__}.{f.__name__}")
async def test_another_accounts_rows_are_not_there(
    database: Database, seeded: SeededAccount, function: Callable[..., Any]
) -> None:
    """The function finds nothing or raises NotFound, and changes nothing."""
    await routes.complete(database, replace(make_route(seeded), id=route_id(seeded)))
    await utterances.record(database, make_utterance(seeded))
    await events.record(database, make_event(seeded))
    await model_requests.append(database, make_model_request(seeded), same_tools=False)
    await greetings.put(database, seeded.id, "greeting", b"audio")
    await leads.create(database, seeded.id, stolen_lead(seeded), idempotency_key="k")
    await seed_account(database, seeded)
    change = Change(key_id=seeded.key.record.id, action="x", resource="template", resource_id=seeded.front.id)
    await audit.record(database, seeded.id, change)
    me = (await accounts.create(database, "Second")).id
    before = await everything(database)

    [result] = await asyncio.gather(READS_AND_CHANGES[function](database, me, seeded), return_exceptions=True)

    if isinstance(result, Exception):
        assert isinstance(result, (NotFound, ConstraintViolated, TargetsUnavailable, KeyRefused))
        assert "Acme" not in str(result)
    else:
        assert shows_nothing(result), result
    assert await everything(database) == before


async def test_another_accounts_rows_cannot_be_overwritten_by_their_ids(
    database: Database, seeded: SeededAccount
) -> None:
    """Writing a row under an id that another account has leaves that account's row as it is."""
    route, said, event = make_route(seeded), make_utterance(seeded), make_event(seeded)
    await routes.record(database, route)
    await utterances.record(database, said)
    await events.record(database, event)
    me = (await accounts.create(database, "Second")).id
    before = await everything(database)

    for attempt in (
        routes.record(database, replace(route, account_id=me, status="failed")),
        utterances.record(database, replace(said, account_id=me, text="forged")),
        events.record(database, replace(event, account_id=me, data={"forged": True})),
    ):
        with contextlib.suppress(ConstraintViolated):
            await attempt
    assert await everything(database) == before
