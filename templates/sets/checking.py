"""The check of a set: each template is looked at with the set around it, and the account around that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from templates.check import CheckContext, Problem, Reading, Report, check_reading, read, targets
from templates.check.context import BUILTIN_FUNCTIONS
from templates.model import TemplateContent
from templates.problem import Severity
from templates.sets.names import Directory, WithIds, name_of, own_part, with_ids

_NAMELESS = UUID("00000000-0000-7000-8000-000000000000")


def id_of_name(name: str) -> str:
    """An id for a template that nobody has given one: always the same for a name."""
    return str(uuid5(_NAMELESS, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What is around a set. None means not known: rules that ask for it are left out.

    Attributes:
        ids: ids of the account's templates by name: at least those that the set has or speaks of.
        templates: the account's templates by id: at least those that the set routes to or that route to it.
        numbers: ids of the account's numbers by E.164.
        active_numbers: whether numbers are active, by id.
        names: other names of the account's templates, which a misspelt one may have meant.
        builtins: names of the built-in functions.
        http_allow: ``host:port`` that HTTP functions may reach although private.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, TemplateContent] | None = None
    numbers: Mapping[str, str] | None = None
    active_numbers: Mapping[str, bool] | None = None
    names: Collection[str] = ()
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    http_allow: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A template of a set, after the check.

    Attributes:
        template_id: the account's, or a new one.
        name: as written, "" where there is none.
        content: the template with ids; None where not even a draft could be saved of the document.
        report: everything that is wrong, with pointers into the document as it is written.
        unknown: what of the report is about names that stand for nothing.
        place: leads a pointer into the template with ids back to the document as it is written.
    """

    template_id: str
    name: str
    content: TemplateContent | None
    report: Report
    unknown: tuple[Problem, ...]
    place: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Member:
    template_id: str
    name: str
    named: WithIds
    reading: Reading


def check_set(
    documents: Sequence[Any], outside: Outside | None = None, new_id: Callable[[str], str] = id_of_name
) -> list[Checked]:
    """Check templates as files have them, in their order.

    Args:
        documents: any JSON; what only the server says of a template is left aside.
        outside: the account; by default nothing is known of it.
        new_id: makes the id of a template that the account does not have, from its name.
    """
    around = outside or Outside()
    ids = _ids(documents, around, new_id)
    directory = _directory(documents, ids, around)
    set_members: list[_Member] = []
    for document, own in zip(documents, ids, strict=True):
        named = with_ids(own_part(document), directory)
        set_members.append(_Member(own, name_of(document), named, read(named.document)))
    seen: set[str] = set()
    for member in set_members:
        if member.name and member.name in seen:
            member.named.faults.append(_taken(member.name))
        seen.add(member.name)
    near = _Near(set_members, around)
    return [_check(member, near) for member in set_members]


class _Near:
    """Who routes to whom, so that each template is shown no more of a big set than concerns it."""

    def __init__(self, set_members: Sequence[_Member], outside: Outside) -> None:
        self._outside = outside
        ours = {each.template_id: each.reading.content for each in set_members if each.reading.content}
        self._templates = {**(outside.templates or {}), **ours}
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        for template_id, content in self._templates.items():
            for target in targets(content):
                self._users[target].add(template_id)
        self.has_orchestrator = any(content.kind == "orchestrator" for content in ours.values())

    @property
    def is_whole(self) -> bool:
        """Whether the account is known."""
        return self._outside.templates is not None

    def around(self, member: _Member) -> CheckContext:
        """What the check of one template is told."""
        content = member.reading.content
        wanted = self._users[member.template_id] | (targets(content) if content else frozenset())
        return CheckContext(
            template_id=member.template_id,
            templates={each: self._templates[each] for each in wanted if each in self._templates},
            numbers=self._outside.active_numbers,
            builtins=self._outside.builtins,
            http_allow=self._outside.http_allow,
        )


def _check(member: _Member, near: _Near) -> Checked:
    report = check_reading(member.reading, near.around(member))
    named = member.named
    found = [*named.faults, *named.unknown]
    for told in (*report.errors, *report.warnings):
        problem = replace(told, pointer=named.place(told.pointer))
        if not named.told(problem) and (near.is_whole or not _guesses(problem, near)):
            found.append(problem)
    whole = not named.faults and not member.reading.problems
    return Checked(
        template_id=member.template_id,
        name=member.name,
        content=member.reading.content if whole else None,
        report=Report(
            errors=tuple(each for each in found if each.severity is Severity.ERROR),
            warnings=tuple(each for each in found if each.severity is Severity.WARNING),
        ),
        unknown=tuple(named.unknown),
        place=named.place,
    )


def _guesses(problem: Problem, near: _Near) -> bool:
    """Whether a rule has taken a part of the account for all of it.

    A set with an orchestrator is believed to be all that belongs together; an agent alone is not.
    """
    if problem.code == "agent_unreached":
        return not near.has_orchestrator
    return problem.code == "target_missing"


def _ids(documents: Sequence[Any], around: Outside, new_id: Callable[[str], str]) -> list[str]:
    """An id for each document: of two that have one name, the first has the account's."""
    given: set[str] = set()
    ids = []
    for index, document in enumerate(documents):
        name = name_of(document)
        own = around.ids.get(name) or new_id(name or f"#{index}")
        ids.append(own if own not in given else new_id(f"#{index} {name}"))
        given.add(ids[-1])
    return ids


def _directory(documents: Sequence[Any], ids: Sequence[str], around: Outside) -> Directory:
    templates = dict(around.ids)
    written: dict[str, str] = {}
    for document, own in reversed([*zip(documents, ids, strict=True)]):  # the first of a name has it
        if name := name_of(document):
            templates[name] = own
        if isinstance(document, dict) and isinstance(document.get("id"), str):
            written[document["id"]] = own
    return Directory(
        templates=templates,
        ids=written,
        numbers=around.numbers,
        others=around.names,
        whole=around.templates is not None,
    )


def _taken(name: str) -> Problem:
    return Problem(
        pointer="/name",
        code="name_duplicate",
        message=f"Another template of this set has the name '{name}'.",
        remedy="Rename one of the two, or remove it.",
    )
