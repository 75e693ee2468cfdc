"""Nobody overwrites what they have not seen: ETags are revisions, and a change names the one it knows.

RFC 9110 section 13 (conditional requests), RFC 6585 section 3 (428).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Response

from voicebot.api.problems import ApiProblem

_TAG = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions that a header names; `any` for `*`."""

    any: bool
    named: frozenset[str]

    def has(self, revision: int) -> bool:
        """Whether a resource at this revision is meant."""
        return self.any or str(revision) in self.named

    def expect(self, revision: int) -> None:
        """Refuse with 412 unless the resource is at a revision that was named."""
        if not self.has(revision):
            raise ApiProblem(
                "precondition_failed",
                f"It is at revision {revision} by now: read it again, then decide.",
                headers={"ETag": etag(revision)},
            )


def etag(revision: int) -> str:
    """The ETag of a revision."""
    return f'"{revision}"'


def required(
    if_match: Annotated[
        str | None, Header(description="The ETag of what was read.", examples=['"1"'])
    ] = None,
) -> Revisions:
    """A dependency: what `If-Match` names; 428 without it."""
    if if_match is None:
        raise ApiProblem("precondition_required", 'Send If-Match with the ETag that you read, e.g. "1".')
    return _read(if_match)


def optional(
    if_match: Annotated[str | None, Header(description="If given, the ETag of what was read.")] = None,
) -> Revisions:
    """A dependency: what `If-Match` names, everything without it."""
    return Revisions(True, frozenset()) if if_match is None else _read(if_match)


def seen(
    if_none_match: Annotated[
        str | None, Header(description="The ETag of what the client has; 304 if it is still that.")
    ] = None,
) -> Revisions:
    """A dependency: what `If-None-Match` says the client has already, nothing without it."""
    if if_none_match is None:
        return Revisions(False, frozenset())
    # Weak comparison (RFC 9110 section 13.1.2): a proxy that compressed the answer has weakened the tag.
    return _read(if_none_match.replace("W/", ""))


def unchanged(revision: int) -> Response:
    """304: the client has this revision."""
    return Response(status_code=304, headers={"ETag": etag(revision)})


def _read(header: str) -> Revisions:
    # A weak tag never matches here (RFC 9110 section 13.1.1), nor does what is no tag at all.
    named = frozenset(tag for weak, tag in _TAG.findall(header) if not weak)
    return Revisions(header.strip() == "*", named)


IfMatch = Annotated[Revisions, Depends(required)]
IfNoneMatch = Annotated[Revisions, Depends(seen)]
MaybeIfMatch = Annotated[Revisions, Depends(optional)]
