"""The check of a set: each template is checked in the context of the set and of the account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from templates.check import CheckContext, KnownNumber, Problem, Reading, Report, check_reading, read, targets
from templates.check.context import BUILTIN_FUNCTIONS, ProviderTable, agents_reached
from templates.model import TemplateContent
from templates.sets.names import NameIndex, ResolvedDocument, name_of, resolve_names, without_server_fields
from templates.size import oversized

_NAMESPACE = UUID("00000000-0000-7000-8000-000000000000")


def id_from_name(name: str) -> str:
    """Deterministic id for a template without an id, made from its name."""
    return str(uuid5(_NAMESPACE, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetContext:
    """The account data for the check of a set. None means unknown: rules that need the value are skipped.

    Attributes:
        ids: template name → id: at least for the names that occur in the set.
        templates: template id → content: at least those that routes of the set lead to, and those from which
            routes lead to it, directly or through others.
        numbers: E.164 → number id.
        known_numbers: number id → the number.
        names: further template names, for suggestions.
        builtins: names of the built-in functions.
        http_allow: private addresses that HTTP functions may reach, each as ``host:port``.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, TemplateContent] | None = None
    numbers: Mapping[str, str] | None = None
    known_numbers: Mapping[str, KnownNumber] | None = None
    names: Collection[str] = ()
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    http_allow: frozenset[str] = frozenset()
    providers: ProviderTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTemplate:
    """Result for one template of a set.

    Attributes:
        template_id: id of the account's template of this name, or a new id.
        name: as written; "" if missing.
        content: the template with ids; None if the document cannot be saved, even as a draft.
        report: all problems, with pointers into the document as written.
        unknown: the problems for names that do not exist; they are also in the report.
        original_pointer: translates a pointer into the template with ids to the document as written.
    """

    template_id: str
    name: str
    content: TemplateContent | None
    report: Report
    unknown: tuple[Problem, ...]
    original_pointer: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _SetMember:
    template_id: str
    name: str
    named: ResolvedDocument
    reading: Reading


def check_set(
    documents: Sequence[Any],
    set_context: SetContext | None = None,
    new_id: Callable[[str], str] = id_from_name,
) -> list[CheckedTemplate]:
    """Check the templates of a set; the results have the order of ``documents``.

    Args:
        documents: any JSON; ``names.SERVER_FIELDS`` are ignored.
        set_context: the account; None: nothing is known of it.
        new_id: makes an id from the name of a template that the account does not have.
    """
    set_context = set_context or SetContext()
    ids = _ids(documents, set_context, new_id)
    directory = _directory(documents, ids, set_context)
    members: list[_SetMember] = []
    for document, own in zip(documents, ids, strict=True):
        written = without_server_fields(document)
        named = ResolvedDocument(written) if oversized(written) else resolve_names(written, directory)
        members.append(_SetMember(own, name_of(document), named, read(named.document)))
    seen: set[str] = set()
    for member in members:
        if member.name and member.name in seen:
            member.named.problems.append(_duplicate_name(member.name))
        seen.add(member.name)
    set_index = _SetIndex(members, set_context)
    return [_check(member, set_index) for member in members]


class _SetIndex:
    """Routes between templates: limits the context of each check to the templates that it needs."""

    def __init__(self, members: Sequence[_SetMember], set_context: SetContext) -> None:
        self._set_context = set_context
        contents = {each.template_id: each.reading.content for each in members if each.reading.content}
        self._templates = {**(set_context.templates or {}), **contents}
        self._referrers: defaultdict[str, set[str]] = defaultdict(set)
        for template_id, content in self._templates.items():
            for target in targets(content):
                self._referrers[target].add(template_id)
        self.has_orchestrator = any(content.kind == "orchestrator" for content in contents.values())

    @property
    def is_whole(self) -> bool:
        """Whether the account's templates are known."""
        return self._set_context.templates is not None

    def check_context(self, member: _SetMember) -> CheckContext:
        """The context for the check of one template."""
        content = member.reading.content
        wanted = self._leading_to(member.template_id)
        wanted |= agents_reached(content, self._templates) if content else frozenset()
        return CheckContext(
            template_id=member.template_id,
            templates={
                each: self._templates[each]
                for each in wanted - {member.template_id}
                if each in self._templates
            },
            numbers=self._set_context.known_numbers,
            builtins=self._set_context.builtins,
            http_allow=self._set_context.http_allow,
            providers=self._set_context.providers,
        )

    def _leading_to(self, template_id: str) -> set[str]:
        """The templates from which routes lead to a template, directly or through others."""
        found: set[str] = set()
        pending = [template_id]
        while pending:
            new = self._referrers[pending.pop()] - found
            found |= new
            pending.extend(new)
        return found


def _check(member: _SetMember, set_index: _SetIndex) -> CheckedTemplate:
    report = check_reading(member.reading, set_index.check_context(member))
    named = member.named
    found = [*named.problems, *named.unknown]
    places = named.places()
    for reported in report.problems():
        problem = replace(reported, pointer=named.original_pointer(reported.pointer))
        if problem.pointer not in places and (
            set_index.is_whole or not _needs_whole_account(problem, set_index)
        ):
            found.append(problem)
    is_readable = not named.problems and not member.reading.problems
    return CheckedTemplate(
        template_id=member.template_id,
        name=member.name,
        content=member.reading.content if is_readable else None,
        report=Report.of(found),
        unknown=tuple(named.unknown),
        original_pointer=named.original_pointer,
    )


def _needs_whole_account(problem: Problem, set_index: _SetIndex) -> bool:
    """Whether the problem may only be reported if all templates of the account are known.

    A set with an orchestrator is taken to be complete with respect to the routes to its agents.
    """
    if problem.code == "agent_unreached":
        return not set_index.has_orchestrator
    return problem.code == "target_missing"


def _ids(documents: Sequence[Any], set_context: SetContext, new_id: Callable[[str], str]) -> list[str]:
    """An id for each document; of documents with the same name, the first gets the account's id."""
    given: set[str] = set()
    ids = []
    for index, document in enumerate(documents):
        name = name_of(document)
        own = set_context.ids.get(name) or new_id(name or f"#{index}")
        ids.append(own if own not in given else new_id(f"#{index} {name}"))
        given.add(ids[-1])
    return ids


def _directory(documents: Sequence[Any], ids: Sequence[str], set_context: SetContext) -> NameIndex:
    templates = dict(set_context.ids)
    written: dict[str, str] = {}
    for document, own in reversed(
        [*zip(documents, ids, strict=True)]
    ):  # reversed: of documents with the same name, the first wins
        if name := name_of(document):
            templates[name] = own
        if isinstance(document, dict) and isinstance(document.get("id"), str):
            written[document["id"]] = own
    return NameIndex(
        templates=templates,
        ids=written,
        numbers=set_context.numbers,
        others=set_context.names,
        is_complete=set_context.templates is not None,
    )


def _duplicate_name(name: str) -> Problem:
    return Problem(
        pointer="/name",
        code="name_duplicate",
        message=f"Another template of this set has the name '{name}'.",
        remedy="Rename one of the two templates, or remove it.",
    )
