"""What a number can do for the templates that answer it, and which of them a change of it would break."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from db.numbers import NumberDraft, NumberRecord
from templates.check import CarrierRules, CheckContext, KnownNumber
from templates.check.basics import check_inbound
from templates.check.variables import check_provision
from templates.inbound import InboundPolicy
from templates.problem import Problem
from voicebot.authoring.documents import content_of

_BREAKS = {
    "busy_tone_impossible": "/carrier",
    "call_back_impossible": "/reserved_inbound",
    "payload_on_call_back": "/inbound",
}
"""Where a number breaks a template, by the problem that the template has with it."""


def known_number(number: NumberDraft | NumberRecord, rules: CarrierRules) -> KnownNumber:
    """What the check needs of a number; ``rules`` are those of its carrier."""
    return KnownNumber(
        active=number.active,
        carrier=number.carrier,
        rules=rules,
        e164=number.e164,
        can_dial=number.channels > number.reserved_inbound,
        calls_back=InboundPolicy.model_validate(number.inbound).calls_back,
    )


def broken_templates(
    number_id: UUID, number: KnownNumber, documents: Sequence[Mapping[str, Any]]
) -> list[Problem]:
    """The problems that active templates have with their number; the pointers lead into the number."""
    context = CheckContext(numbers={str(number_id): number})
    return [problem for document in documents for problem in _broken(document, context)]


def _broken(document: Mapping[str, Any], context: CheckContext) -> Iterator[Problem]:
    content = content_of(document)
    for check in (check_inbound, check_provision):
        for problem in check(content, context):
            if problem.code in _BREAKS:
                yield replace(
                    problem,
                    pointer=_BREAKS[problem.code],
                    message=f"The active template '{content.name}' would break: {problem.message}",
                    remedy=f"In '{content.name}', at {problem.pointer}: {problem.remedy}",
                )
