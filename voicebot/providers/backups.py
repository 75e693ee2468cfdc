"""The services that a template names for one kind: the preferred one, then its backups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from db.provider_health import ProviderKind
from templates.model import TemplateContent


def candidates(content: TemplateContent, kind: ProviderKind) -> Sequence[TemplateContent]:
    """One copy of the template for each service of a kind, in the author's order, each without backups."""
    preferred: Any = getattr(content, kind)
    alone = preferred.model_copy(update={"backup": ()})
    services = [
        alone,
        *(alone.model_copy(update=dict(backup)) for backup in preferred.backup),
    ]
    return [content.model_copy(update={kind: service}) for service in services]
