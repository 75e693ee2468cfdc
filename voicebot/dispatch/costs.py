"""The cost of a call by provider, computed from the call's records and the account's prices. Pure functions.

Speech to text is counted in seconds for which an agent had the call, text to speech in characters (a greeting
is synthesised once for many calls and is not counted), models in tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from db.call_use import CallUse
from db.model_requests import ModelUse
from templates.services import Stt, Tts

Part = Literal["stt", "tts"]
Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Provider = Annotated[str, Field(min_length=1, max_length=200)]


class _Priced(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SttPrice(_Priced):
    """What a provider of speech to text charges."""

    per_minute: Annotated[Amount, Field(description="For a minute of audio.")]


class TtsPrice(_Priced):
    """What a provider of text to speech charges."""

    per_1000_characters: Annotated[Amount, Field(description="For 1,000 characters.")]


class LlmPrice(_Priced):
    """What a model charges for a million tokens."""

    prompt: Annotated[Amount, Field(description="For a million tokens of requests.")]
    cached: Annotated[
        Amount | None, Field(description="For those that were cached; null: the price of the others.")
    ] = None
    completion: Annotated[Amount, Field(description="For a million tokens of answers.")]


class Prices(_Priced):
    """What the account's providers charge, by their names; a model also as `provider/model`."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")] = "USD"
    stt: Annotated[dict[Provider, SttPrice], Field(max_length=50)] = Field(default_factory=dict)
    tts: Annotated[dict[Provider, TtsPrice], Field(max_length=50)] = Field(default_factory=dict)
    llm: Annotated[
        dict[Provider, LlmPrice],
        Field(max_length=50, description="Without a price, OpenAI's list price in US dollars is used."),
    ] = Field(default_factory=dict)


_DEFAULTS: Mapping[Part, str] = {"stt": Stt().provider, "tts": Tts().provider}


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The agent and its providers at each moment of the call."""

    use: CallUse

    def template_at(self, at: datetime) -> UUID:
        template_id = self.use.call.initial_template_id
        for route in self.use.routes:
            if route.status == "done" and route.switched_at and route.switched_at <= at:
                template_id = route.to_template_id or template_id
        return template_id

    def provider_at(self, part: Part, template_id: UUID, at: datetime) -> str | None:
        provider = None
        for agent in self.use.agents:
            if agent.template_id == template_id:
                provider = getattr(agent, part) or _DEFAULTS[part]
        for switch in self.use.switches:
            is_of_part = switch.data.get("part") == part
            if is_of_part and switch.template_id == template_id and switch.at <= at:
                provider = switch.data.get("to", provider)
        return provider

    def boundaries(self, start: datetime, end: datetime) -> list[datetime]:
        moments = [route.switched_at for route in self.use.routes]
        moments += [switch.at for switch in self.use.switches]
        for leg in self.use.legs:
            moments += [leg.bridged_at, leg.ended_at]
        inside = {each for each in moments if each is not None and start < each < end}
        return [start, *sorted(inside), end]

    def is_with_person(self, at: datetime) -> bool:
        return any(
            leg.bridged_at is not None
            and leg.bridged_at <= at
            and (leg.ended_at is None or at < leg.ended_at)
            for leg in self.use.legs
        )


def stt_seconds(use: CallUse) -> Mapping[str, float]:
    """Seconds of the caller's audio by provider of speech to text."""
    start, end = use.call.answered_at, use.call.ended_at
    seconds: defaultdict[str, float] = defaultdict(float)
    if start is None or end is None or end <= start:
        return seconds
    timeline = _Timeline(use)
    moments = timeline.boundaries(start, end)
    for since, until in pairwise(moments):
        provider = timeline.provider_at("stt", timeline.template_at(since), since)
        if provider is not None and not timeline.is_with_person(since):
            seconds[provider] += (until - since).total_seconds()
    return seconds


def tts_characters(use: CallUse) -> Mapping[str, int]:
    """Characters that were synthesised, by provider of text to speech."""
    start = use.call.answered_at
    characters: defaultdict[str, int] = defaultdict(int)
    if start is None:
        return characters
    timeline = _Timeline(use)
    for said in use.utterances:
        if said.speaker != "agent" or said.source == "greeting" or said.template_id is None:
            continue
        at = start + timedelta(milliseconds=said.started_ms)
        provider = timeline.provider_at("tts", said.template_id, at)
        if provider is not None:
            characters[provider] += len(said.text)
    return characters


def cost_of(use: CallUse, prices: Prices) -> dict[str, Any]:
    """The cost of a call by provider: ``currency``, ``items``, and ``total``, null if a price is unknown."""
    items = list(_items(use, prices))
    known = [item["cost"] for item in items if item["cost"] is not None]
    total = round(sum(known), 8) if len(known) == len(items) else None
    return {"currency": prices.currency, "total": total, "items": items}


def _items(use: CallUse, prices: Prices) -> Iterator[dict[str, Any]]:
    for provider, seconds in sorted(stt_seconds(use).items()):
        stt = prices.stt.get(provider)
        yield {
            "part": "stt", "provider": provider, "seconds": round(seconds, 3),
            "cost": None if stt is None else round(seconds / 60 * stt.per_minute, 8),
        }  # fmt: skip
    for provider, characters in sorted(tts_characters(use).items()):
        tts = prices.tts.get(provider)
        yield {
            "part": "tts", "provider": provider, "characters": characters,
            "cost": None if tts is None else round(characters / 1000 * tts.per_1000_characters, 8),
        }  # fmt: skip
    for model in use.models:
        yield {
            "part": "llm", "provider": model.provider, "model": model.model, "prompt_tokens": model.prompt,
            "cached_tokens": model.cached, "completion_tokens": model.completion,
            "cost": _llm_cost(model, prices),
        }  # fmt: skip


def _llm_cost(model: ModelUse, prices: Prices) -> float | None:
    price = prices.llm.get(f"{model.provider}/{model.model}") or prices.llm.get(model.provider)
    if price is None:
        return model.cost_usd if prices.currency == "USD" else None
    cached = price.prompt if price.cached is None else price.cached
    spent = (model.prompt - model.cached) * price.prompt + model.cached * cached
    return round((spent + model.completion * price.completion) / 1_000_000, 8)
