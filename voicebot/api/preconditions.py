"""Conditional requests (RFC 9110 section 13): an ETag is a revision, and a change names its base revision.

428 is defined in RFC 6585 section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Response

from voicebot.api.app_state import AppStateDep
from voicebot.api.limits import Limits, limit_exceeded
from voicebot.api.problems import ApiProblem, FieldError


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions that a header lists; ``any`` stands for ``*``."""

    any: bool
    listed: frozenset[str]
    malformed: str = ""
    """The header's text if it contains no ETag."""

    def has(self, revision: int) -> bool:
        """Whether the header matches a resource at this revision."""
        return self.any or str(revision) in self.listed

    def expect(self, revision: int) -> None:
        """Refuse with 412 unless the header matches the resource's revision."""
        if self.malformed and not self.has(revision):
            tag = re.sub(r"[^0-9A-Za-z_.-]", "", self.malformed)[:40]
            fault = FieldError(
                pointer="/If-Match",
                code="invalid_etag",
                message="If-Match has no ETag: an ETag is in quotation marks.",
                remedy=f'Send If-Match: "{tag}", with the quotation marks, as the ETag header has them.',
            )
            detail = f"{fault.message} {fault.remedy} The resource is at revision {revision}."
            headers = {"ETag": etag(revision)}
            raise ApiProblem("precondition_failed", detail, errors=[fault], headers=headers)
        if not self.has(revision):
            raise ApiProblem(
                "precondition_failed",
                f"The resource is at revision {revision}: read it again before you change it.",
                headers={"ETag": etag(revision)},
            )


def etag(revision: int) -> str:
    """The ETag of a revision."""
    return f'"{revision}"'


async def required(
    app_state: AppStateDep,
    if_match: Annotated[
        str | None, Header(description="The ETag of the resource as it was read.", examples=['"1"'])
    ] = None,
) -> Revisions:
    """A dependency: the revisions in `If-Match`; 428 without it."""
    if if_match is None:
        raise ApiProblem(
            "precondition_required", 'Send If-Match with the ETag of the resource that you read, such as "1".'
        )
    return _read(if_match, app_state.limits)


async def optional(
    app_state: AppStateDep,
    if_match: Annotated[
        str | None, Header(description="If given, the ETag of the resource as it was read.")
    ] = None,
) -> Revisions:
    """A dependency: the revisions in `If-Match`; any revision without it."""
    return Revisions(True, frozenset()) if if_match is None else _read(if_match, app_state.limits)


async def seen(
    app_state: AppStateDep,
    if_none_match: Annotated[
        str | None, Header(description="The ETag that the client has; 304 if it is current.")
    ] = None,
) -> Revisions:
    """A dependency: the revisions in `If-None-Match`; no revision without it."""
    if if_none_match is None:
        return Revisions(False, frozenset())
    # Weak comparison (RFC 9110 section 13.1.2): a proxy that compresses the answer weakens the tag.
    return _read(if_none_match, app_state.limits, weak=True)


def unchanged(revision: int) -> Response:
    """304: the client has the current revision."""
    return Response(status_code=304, headers={"ETag": etag(revision)})


def _read(header: str, limits: Limits, *, weak: bool = False) -> Revisions:
    """The revisions in a list of tags. A malformed tag matches nothing.

    Args:
        header: the value of the header.
        limits: bounds its length.
        weak: whether a weak tag may match; not in `If-Match` (RFC 9110 section 13.1.1).
    """
    if len(header) > limits.condition_characters:
        detail = f"If-Match and If-None-Match may have at most {limits.condition_characters} characters."
        raise limit_exceeded("condition_header", "headers_too_large", detail)
    tags = (tag.strip() for tag in header.split(","))
    strong = [tag.removeprefix("W/") if weak else tag for tag in tags]
    listed = frozenset(tag[1:-1] for tag in strong if len(tag) > 1 and tag[0] == tag[-1] == '"')
    return Revisions(header.strip() == "*", listed, "" if listed else header.strip())


IfMatch = Annotated[Revisions, Depends(required)]
IfNoneMatch = Annotated[Revisions, Depends(seen)]
MaybeIfMatch = Annotated[Revisions, Depends(optional)]
