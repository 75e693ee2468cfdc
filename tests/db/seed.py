"""A small account to test with: one number, an orchestrator that answers it, one agent, and a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from db import accounts, inbound, keys, numbers, templates
from db.accounts import AccountRecord
from db.call_tokens import TokenUse
from db.calls import CallRecord
from db.events import EventRecord
from db.ids import new_id
from db.inbound import InboundCall
from db.keys import CreatedKey
from db.model_requests import ModelRequestRecord
from db.numbers import NumberDraft, NumberRecord
from db.pool import Executor
from db.routes import RouteRecord
from db.templates import Kind, Status, TemplateDraft, TemplateRecord
from db.utterances import UtteranceRecord

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLER = "+14155550100"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededAccount:
    """One account and its rows."""

    account: AccountRecord
    key: CreatedKey
    number: NumberRecord
    front: TemplateRecord
    """The orchestrator."""
    billing: TemplateRecord
    """The agent it routes to."""
    call: CallRecord

    @property
    def id(self) -> UUID:
        return self.account.id


async def seed_account(db: Executor, e164: str = "+14155550111") -> SeededAccount:
    """Make an account whose number is ``e164``, with a ringing call."""
    account = await accounts.create(db, "Acme")
    key = await keys.create(db, account.id, "owner")
    number = await numbers.create(db, account.id, NumberDraft(e164=e164, carrier="twilio"))
    billing = await templates.create(db, account.id, draft("billing"))
    front = await templates.create(
        db,
        account.id,
        draft("front desk", kind="orchestrator", number_id=number.id, references=[billing.id]),
    )
    began = await inbound.begin(db, webhook(e164, f"CA{new_id().hex}"))
    return SeededAccount(
        account=account, key=key, number=number, front=front, billing=billing, call=began.call
    )


def draft(
    name: str,
    *,
    kind: Kind = "agent",
    status: Status = "active",
    number_id: UUID | None = None,
    references: Sequence[UUID] = (),
) -> TemplateDraft:
    """A template to save."""
    return TemplateDraft(
        name=name,
        kind=kind,
        status=status,
        number_id=number_id,
        content={"name": name, "prompt": f"You are {name}."},
        references=references,
    )


def webhook(to_number: str, carrier_call_id: str, from_number: str | None = CALLER) -> InboundCall:
    """A voice webhook."""
    return InboundCall(
        carrier="twilio",
        carrier_call_id=carrier_call_id,
        to_number=to_number,
        from_number=from_number,
        started_at=NOON,
    )


def make_route(seeded: SeededAccount, *, seq: int = 1) -> RouteRecord:
    """A route of the world's call from its orchestrator to its agent, done."""
    return RouteRecord(
        id=new_id(),
        account_id=seeded.id,
        call_id=seeded.call.id,
        seq=seq,
        name="billing",
        hop=seq,
        from_template_id=seeded.front.id,
        from_node="start",
        to_template_id=seeded.billing.id,
        to_node="greet",
        reason="a question about an invoice",
        context="full",
        announced=False,
        status="done",
        error_code=None,
        requested_at=NOON,
        switched_at=NOON,
        first_audio_at=None,
        gap_ms=None,
    )


def make_utterance(seeded: SeededAccount, *, seq: int = 1) -> UtteranceRecord:
    """Something the caller of the world's call says."""
    return UtteranceRecord(
        id=new_id(),
        account_id=seeded.id,
        call_id=seeded.call.id,
        seq=seq,
        speaker="caller",
        template_id=seeded.front.id,
        node="start",
        text="I have a question",
        heard_text=None,
        interrupted=False,
        source="stt",
        started_ms=100,
        ended_ms=None,
    )


def make_model_request(seeded: SeededAccount, *, said: str = "Where is my parcel?") -> ModelRequestRecord:
    """A request to the model of the world's call."""
    return ModelRequestRecord(
        id=new_id(),
        account_id=seeded.id,
        call_id=seeded.call.id,
        seq=1,
        at=NOON,
        template_id=seeded.front.id,
        node="start",
        shared=0,
        messages=[{"role": "system", "content": "You are Acme."}, {"role": "user", "content": said}],
        tools=[{"type": "function", "function": {"name": "end_call"}}],
        settings={"provider": "openai", "model": "gpt-4.1-mini"},
        text="Let me see.",
        function_calls=[],
        status="done",
        error=None,
        first_token_ms=120,
        total_ms=300,
        tokens={"prompt": 40, "completion": 4, "cached": 0, "total": 44},
        cost_usd=0.0000224,
    )


def make_token_use(seeded: SeededAccount, *, token: str = "any") -> TokenUse:  # noqa: S107
    """Return a use of a media token by the account's call."""
    return TokenUse(
        token=token,
        account_id=seeded.id,
        call_id=seeded.call.id,
        carrier_call_id=str(seeded.call.carrier_call_id),
        used_by=new_id(),
    )


def make_event(seeded: SeededAccount, *, seq: int = 1) -> EventRecord:
    """An event of the world's call."""
    return EventRecord(
        id=new_id(),
        account_id=seeded.id,
        call_id=seeded.call.id,
        seq=seq,
        type="route.done",
        at=NOON,
        template_id=seeded.front.id,
        node="start",
        data={"route": "billing"},
    )
