"""Chooses the services of a call: the preferred one of the template, or a backup while that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipecat.services.llm_service import LLMService

from db.provider_health import ProviderKind
from templates.model import TemplateContent
from voicebot.call.dependencies import Health, ServiceFactory
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.providers.backups import candidates
from voicebot.providers.llm_failover import LlmEndpoint, LlmWatch
from voicebot.providers.service_spec import OnRequest, ServiceSpec

UNUSABLE = 2
"""A provider that fails on other calls counts as if it had failed this many times on this call."""


class CallServices:
    """The services of one call; implements ``ServiceFactory`` and ``LlmWatch``.

    Each request makes the service with the fewest failures on this call, in the author's order. Failures and
    successes are reported to the health of the providers, which other calls read.
    """

    def __init__(
        self,
        services: ServiceFactory,
        health: Health | None,
        recorder: CallRecorder,
    ) -> None:
        """Nothing has failed on this call yet.

        Args:
            services: makes the services.
            health: the state of the providers; None: unknown.
            recorder: for failures and changes of providers.
        """
        self._services = services
        self._health = health
        self._recorder = recorder
        self.on_replaced: Callable[[str, str], None] = lambda *_: None
        """Called with the keys of a service that failed and of the one that replaced it."""
        self._failures: Counter[str] = Counter()
        self._blamed: set[str] = set()
        """Services that have failed since they were connected."""
        self._asked: LlmEndpoint | None = None
        self._reported: BaseException | None = None
        self._made: dict[str, tuple[ProviderKind, ServiceSpec]] = {}

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """Speech to text, and the decision when the caller's turn ends."""
        return self._best("stt", content, self._services.stt)

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """Text to speech."""
        return self._best("tts", content, lambda each: self._services.tts(each, on_request))

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        """The language model, which asks its backups itself."""
        spec, service = self._services.llm(content, watch or self)
        self._made[spec.key] = "llm", spec
        return spec, service

    def error(self, key: str, error: BaseException | None, *, is_vendors: bool) -> None:
        """Count an error of a service in use; ``is_vendors``: False for an error in a function."""
        kind, spec = self._made[key]
        if kind == "llm" and is_vendors and self._asked is not None and error is not self._reported:
            self._llm_failed(self._asked, error)  # in the middle of its answer
        self.failed(kind, spec, error, type(error).__name__ if error else "error")

    def blame(self, key: str) -> None:
        """Count a service that is to be replaced; one that has reported no error was silent."""
        if key not in self._blamed and key in self._made:
            kind, spec = self._made[key]
            self.failed(kind, spec, None, "silent")

    def failed(self, kind: ProviderKind, spec: ServiceSpec, error: BaseException | None, reason: str) -> None:
        """Count a service that failed or could not be connected, so that another one is made next."""
        self._failures[spec.key] += 1
        self._blamed.add(spec.key)
        self._note_failure(kind, spec.provider, reason)
        # The requests to language models were reported one by one.
        if self._health is not None and spec.provider and kind != "llm":
            self._health.failed(kind, spec.provider, error, reason)

    def connected(self, kind: ProviderKind, spec: ServiceSpec) -> None:
        """A service has been connected."""
        self._blamed.discard(spec.key)
        if self._health is not None and spec.provider:
            self._health.connected(kind, spec.provider)

    def worked(self, kind: ProviderKind, provider: str) -> None:
        """Report that a service has produced output."""
        if self._health is not None and provider:
            self._health.worked(kind, provider)

    def switched(self, before: str, after: str) -> None:
        """Record that the service ``after`` has replaced the service ``before``; both are keys."""
        (kind, failed), (_, spec) = self._made[before], self._made[after]
        self._note_switch(kind, failed.provider, spec.provider)
        self.on_replaced(before, after)

    def others(self, kind: ProviderKind, content: TemplateContent) -> int:
        """How many services of a kind the template names besides the one it prefers."""
        return len(getattr(content, kind).backup)

    async def to_probe(self, content: TemplateContent, on_request: OnRequest) -> Sequence[ServiceSpec]:
        """The preferred services that failed and that this call is to probe; one call at a time does."""
        preferred = {
            "stt": lambda: self._services.stt(candidates(content, "stt")[0]),
            "tts": lambda: self._services.tts(candidates(content, "tts")[0], on_request),
        }
        kinds: tuple[ProviderKind, ...] = ("stt", "tts")
        found = [
            (kind, preferred[kind]())
            for kind in kinds
            if self._health is not None
            and self.others(kind, content)
            and await self._health.may_probe(kind, getattr(content, kind).provider)
        ]
        self._made.update((spec.key, (kind, spec)) for kind, spec in found)
        return [spec for _, spec in found]

    # ------------------------------------------------------------------------- language models

    def order(self, endpoints: Sequence[LlmEndpoint]) -> Sequence[LlmEndpoint]:
        """The endpoints in the order in which they are to be asked."""
        return sorted(endpoints, key=lambda each: self._rank("llm", each.provider, _key(each)))

    def llm_failed(self, endpoint: LlmEndpoint, error: BaseException, instead: LlmEndpoint | None) -> None:
        """A request failed; the last failure is an error of the service, which is reported elsewhere."""
        self._llm_failed(endpoint, error)
        self._reported = error
        if instead is not None:
            self._note_failure("llm", endpoint.provider, type(error).__name__, instead=instead.provider)

    def _llm_failed(self, endpoint: LlmEndpoint, error: BaseException | None) -> None:
        self._failures[_key(endpoint)] += 1
        if self._health is not None:
            self._health.failed("llm", endpoint.provider, error, "")

    def llm_worked(self, endpoint: LlmEndpoint) -> None:
        """An answer began."""
        self.worked("llm", endpoint.provider)
        before, self._asked = self._asked, endpoint
        if before is not None and _key(before) != _key(endpoint):
            self._note_switch("llm", before.provider, endpoint.provider)

    # ------------------------------------------------------------------------------------------

    def _best(
        self, kind: ProviderKind, content: TemplateContent, make: Callable[[TemplateContent], ServiceSpec]
    ) -> ServiceSpec:
        specs = [make(each) for each in candidates(content, kind)]
        best = min(specs, key=lambda spec: self._rank(kind, spec.provider, spec.key))
        self._made[best.key] = kind, best
        return best

    def _note_failure(self, kind: ProviderKind, provider: str, reason: str, **more: str) -> None:
        self._recorder.event("provider.failed", part=kind, provider=provider, reason=reason, **more)

    def _note_switch(self, kind: ProviderKind, before: str, after: str) -> None:
        self._recorder.event("provider.switched", part=kind, **{"from": before, "to": after})

    def _rank(self, kind: ProviderKind, provider: str, key: str) -> int:
        usable = self._health is None or not provider or self._health.is_usable(kind, provider)
        return self._failures[key] + (0 if usable else UNUSABLE)


def _key(endpoint: LlmEndpoint) -> str:
    return f"{endpoint.provider} {sorted(endpoint.options.items(), key=str)}"
