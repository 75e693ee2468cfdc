"""/providers: the state of the providers of speech and language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from db.provider_health import ProviderKind
from voicebot.api.access import Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.pagination import PageOf
from voicebot.api.resource_router import resource_router
from voicebot.availability import ProviderState
from voicebot.providers.health import ProviderStatus

router = resource_router("/providers", "providers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """One provider with the credential that the server uses for it."""

    kind: ProviderKind
    """What it is used for."""
    provider: str
    """Its name, as a template writes it."""
    credential: str
    """The environment variable that holds its key; empty: it needs none."""
    configured: bool
    """Whether the server has what it needs to use it."""
    state: ProviderState
    """`ok`; `failing`: it failed, but is still used; the others: a template's backup is used instead."""
    until: datetime | None
    """When a fault is expected to be over: a rate limit ends then, otherwise one call tries again."""
    probing: bool
    """Whether a call is trying whether it works again."""
    failures: int
    """Failures in a row since it last worked."""
    reason: str
    """What the latest failure was."""
    failed_at: datetime | None
    """When it last failed."""


Provider = Annotated[ProviderAnswer, AnswerOf("Provider", omit=(), examples={"kind": "tts"})]


@router.get("", responses=refuses())
async def list_providers(app_state: AppStateDep, _: Reader) -> PageOf[Provider]:
    """The state of each provider and credential of the server, on one page.

    It is shared by all processes of the server and by all accounts; a process knows what another one
    reported within two seconds.
    """
    items = [_answer(status) for status in app_state.provider_health.statuses()]
    return PageOf[Provider](items=items, next_cursor=None)


def _answer(status: ProviderStatus) -> ProviderAnswer:
    health = status.health
    return ProviderAnswer(
        kind=status.kind,
        provider=status.provider,
        credential=status.credential,
        configured=status.configured,
        state=status.state,
        until=None if status.state in ("ok", "failing") else health.until,
        probing=status.probing,
        failures=health.failures,
        reason=health.reason,
        failed_at=health.failed_at,
    )
