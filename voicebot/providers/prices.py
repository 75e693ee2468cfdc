"""List prices of language models, for the cost of a request in the record of a call.

From OpenAI's price list (https://platform.openai.com/docs/pricing), in US dollars for a million tokens, as of
November 2026. They are an estimate: an account may have other prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens: of the request, of its part that was cached, and of the answer."""

    prompt: float
    cached: float
    completion: float


_PRICES: Mapping[str, Price] = {
    "gpt-4.1": Price(2.00, 0.50, 8.00),
    "gpt-4.1-mini": Price(0.40, 0.10, 1.60),
    "gpt-4.1-nano": Price(0.10, 0.025, 0.40),
    "gpt-4o": Price(2.50, 1.25, 10.00),
    "gpt-4o-mini": Price(0.15, 0.075, 0.60),
    "gpt-5": Price(1.25, 0.125, 10.00),
    "gpt-5-mini": Price(0.25, 0.025, 2.00),
    "gpt-5-nano": Price(0.05, 0.005, 0.40),
}


def cost_usd(model: str, *, prompt: int, completion: int, cached: int = 0) -> float | None:
    """The price of a request in US dollars; None for a model without a known price.

    Args:
        model: the vendor's name of the model; one with a date (``gpt-4.1-mini-2025-04-14``) has the price
            of the model without it.
        prompt: tokens of the request, with the cached ones.
        completion: tokens of the answer.
        cached: tokens of the request that the vendor had cached.
    """
    price = _PRICES.get(model) or _PRICES.get("-".join(model.split("-")[:-3]))
    if price is None:
        return None
    spent = (prompt - cached) * price.prompt + cached * price.cached + completion * price.completion
    return round(spent / 1_000_000, 8)
