"""The defaults of an account, which apply to templates that do not set the same fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from templates.flow import Flag
from templates.services import Llm, LlmService, Part, Stt, SttService, Tts, TtsService

MAX_BACKUPS = 5
"""For each kind, as in a template."""

_KINDS: Mapping[str, type[Tts] | type[Stt] | type[Llm]] = {"tts": Tts, "stt": Stt, "llm": Llm}


class AccountBackups(Part):
    """The services that take over in calls whose template names no backup for that kind, tried in order.

    A voice speaks the language of its templates: where agents speak several, their templates name backups.
    """

    tts: tuple[TtsService, ...] = Field(default=(), max_length=MAX_BACKUPS, description="Voices.")
    stt: tuple[SttService, ...] = Field(
        default=(), max_length=MAX_BACKUPS, description="Providers of speech to text."
    )
    llm: tuple[LlmService, ...] = Field(default=(), max_length=MAX_BACKUPS, description="Language models.")


class AccountTakeover(Part):
    """What is recorded while an operator has a call in a browser, if its template does not say."""

    transcribe: Flag = Field(
        default=False,
        description="Whether the words of the operator and of the caller are in the call's transcript.",
    )


class CallDefaults(Part):
    """What an account sets for its calls."""

    backup: AccountBackups = AccountBackups()
    takeover: AccountTakeover = AccountTakeover()

    @classmethod
    def of_account(cls, backup: Mapping[str, Any], *, transcribes: bool) -> CallDefaults:
        """The defaults as an account's settings have them."""
        return cls.model_validate({"backup": backup, "takeover": {"transcribe": transcribes}})

    def applied_to(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """The content of a template with the account's defaults applied."""
        takeover = content.get("takeover") or {}
        if takeover.get("transcribe") is None:
            takeover = {**takeover, "transcribe": self.takeover.transcribe}
        services = {kind: self._with_backup(kind, content.get(kind) or {}) for kind in _KINDS}
        return {**content, **services, "takeover": takeover}

    def _with_backup(self, kind: str, service: Mapping[str, Any]) -> Mapping[str, Any]:
        """A service with the account's backups, except one that equals the service."""
        named = [each.model_dump() for each in getattr(self.backup, kind)]
        if service.get("backup") or not named:
            return service
        preferred = _KINDS[kind].model_validate(service).model_dump(exclude={"backup"})
        return {**service, "backup": [each for each in named if each != preferred]}
