"""Names in place of ids: a route's target by template name, an orchestrator's number by E.164.

``resolve_names`` accepts any JSON document; structural problems are left to the check. An unknown name stays
in the id's field, so that a draft keeps it until a template or number of that name exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import repeat
from typing import Any
from uuid import UUID

from templates.bounds import E164
from templates.model import Template, TemplateContent
from templates.problem import Problem, pointer

SERVER_FIELDS = frozenset(Template.model_fields) - frozenset(TemplateContent.model_fields)
"""Fields that only the API adds; they are ignored when an author sends them back."""

_EMPTY_IDS: Mapping[str, Sequence[Any]] = {"number_id": (None, ""), "template_id": ("",)}
"""Values of an id field that mean "no id", so that the name field is used."""

Path = tuple[str | int, ...]

_HINTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NameIndex:
    """Ids by name.

    Attributes:
        templates: template name → id.
        ids: id as written in a document of the set → id.
        numbers: E.164 → number id; None: unknown.
        others: further names that may be suggested for an unknown one.
        is_complete: whether ``templates`` contains all templates of the account.
        hints_left: one item per suggestion that may still be computed: a set can have many unknown names.
    """

    templates: Mapping[str, str]
    ids: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] | None = None
    others: Collection[str] = ()
    is_complete: bool = False
    hints_left: Iterator[bool] = field(default_factory=lambda: repeat(True, _HINTS))


@dataclass(slots=True)
class ResolvedDocument:
    """A document whose names have been replaced by ids.

    Attributes:
        document: the document with ids.
        problems: problems because of which the document cannot be saved, even as a draft.
        unknown: problems for names that do not exist.
    """

    document: Any
    problems: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    _written: dict[str, str] = field(default_factory=dict)
    """Pointer to an id → pointer to the name that the author wrote instead."""

    def record_name(self, path: Path, name: str) -> None:
        """Record that the author wrote the field ``name`` in place of the id at ``path``."""
        self._written[pointer(*path)] = pointer(*path[:-1], name)

    def original_pointer(self, inside: str) -> str:
        """Translate a pointer into ``document`` to the document as the author wrote it."""
        return self._written.get(inside, inside)

    def places(self) -> set[str]:
        """The pointers of all problems."""
        return {each.pointer for each in (*self.problems, *self.unknown)}


def without_server_fields(document: Any) -> Any:
    """Copy of a document without ``SERVER_FIELDS``."""
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name not in SERVER_FIELDS}


def members(document: Any) -> list[tuple[str, Any]]:
    """The templates in a document with their pointers: the document itself, or the list ``templates``."""
    listed = document.get("templates") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return [("", document)]
    return [(pointer("templates", index), each) for index, each in enumerate(listed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReferences:
    """Names and ids that occur in documents: their own, those of route targets, and those of numbers."""

    names: frozenset[str]
    own_ids: frozenset[str]
    targets: frozenset[str]
    ids: frozenset[str]
    numbers: frozenset[str]


def find_references(documents: Sequence[Any]) -> SetReferences:
    """Collect the names and ids in documents, which may be any JSON."""
    routes = [route for document in documents for route in _routes(document)]
    objects = [document for document in documents if isinstance(document, dict)]
    return SetReferences(
        names=_texts(objects, "name"),
        own_ids=_texts(objects, "id"),
        targets=_texts(routes, "template"),
        ids=_texts(routes, "template_id"),
        numbers=_texts(objects, "number", "number_id"),
    )


def name_of(document: Any) -> str:
    """The ``name`` of a document without spaces around it; "" if it has none."""
    name = document.get("name") if isinstance(document, dict) else None
    return name.strip() if isinstance(name, str) else ""


def resolve_names(document: Any, directory: NameIndex) -> ResolvedDocument:
    """Replace the names in a document by ids, and report names that do not exist."""
    found = ResolvedDocument(document)
    if not isinstance(document, dict):
        return found
    found.document = dict(document)
    _number(found, directory)
    if isinstance(document.get("routes"), list):
        routes = list(document["routes"])
        for index, route in enumerate(routes):
            if isinstance(route, dict):
                routes[index] = dict(route)
                _target(found, routes[index], ("routes", index), directory)
        found.document["routes"] = routes
    return found


def with_names(
    document: Mapping[str, Any], templates: Mapping[str, str], numbers: Mapping[str, str]
) -> dict[str, Any]:
    """Copy of a template document with names in place of ids, as in a file.

    Args:
        document: a complete template with ids.
        templates: template id → name.
        numbers: number id → E.164.
    """
    named = dict(document)
    number = named.get("number_id")
    if isinstance(number, str) and (number in numbers or E164.matches(number)):
        named.update(number_id=None, number=numbers.get(number, number))
    named["routes"] = [_route_in_names(route, templates) for route in named.get("routes", ())]
    return named


def _route_in_names(route: Mapping[str, Any], templates: Mapping[str, str]) -> dict[str, Any]:
    target = route.get("template_id", "")
    if target in templates or (target and not _is_id(target)):
        return {**route, "template_id": "", "template": templates.get(target, target)}
    return dict(route)


def _number(found: ResolvedDocument, directory: NameIndex) -> None:
    written = _taken(found, found.document, (), "number_id")
    if written is None:
        return
    numbers = directory.numbers
    found.document["number_id"] = written if numbers is None else numbers.get(written, written)
    if not E164.matches(written):
        message, remedy = f"'{written}' is not an E.164 number.", "Write `+`, country code and number."
    elif numbers is not None and written not in numbers:
        message = f"This account has no number {written}."
        remedy = "Add the number first (POST /api/v1/numbers), or correct its digits."
    else:
        return
    problem = Problem(pointer=pointer("number"), code="number_unknown", message=message, remedy=remedy)
    found.unknown.append(problem)


def _target(found: ResolvedDocument, route: dict[str, Any], where: Path, directory: NameIndex) -> None:
    written = _taken(found, route, where, "template_id")
    if written is None:
        target = route.get("template_id")
        if isinstance(target, str) and target in directory.ids:
            route["template_id"] = directory.ids[target]
        return
    route["template_id"] = directory.templates.get(written, written)
    if written not in directory.templates:
        found.unknown.append(_unknown_target(written, (*where, "template"), directory))


def _unknown_target(name: str, where: Path, directory: NameIndex) -> Problem:
    known = {*directory.templates, *directory.others} if next(directory.hints_left, False) else ()
    set_index = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{set_index[0]}'?" if set_index else ""
    scope = "of this set or of the account" if directory.is_complete else "of this set"
    return Problem(
        pointer=pointer(*where),
        code="target_missing",
        message=f"No template {scope} has the name '{name}'.{hint}",
        remedy="Correct the name, or add a template with this name.",
    )


def _taken(found: ResolvedDocument, container: dict[str, Any], where: Path, member: str) -> str | None:
    """Remove the name field that replaces an id and return its value; None if there is no usable name."""
    name = {"number_id": "number", "template_id": "template"}[member]
    if name not in container:
        return None
    value = container.pop(name)
    place = pointer(*where, name)
    if value is None or value == "":
        return None
    if container.get(member, "") not in _EMPTY_IDS[member]:
        message = f"Both '{name}' and '{member}' are set."
        found.problems.append(Problem(pointer=place, code="reference_twice", message=message,
                                    remedy=f"Keep '{name}' and remove '{member}'."))  # fmt: skip
        return None
    found.record_name((*where, member), name)
    if not isinstance(value, str):
        message = f"'{name}' must be a string."
        found.problems.append(Problem(pointer=place, code="wrong_type", message=message,
                                    remedy="Write a value of the type that the message names."))  # fmt: skip
        return None
    return value


def _routes(document: Any) -> Iterator[dict[str, Any]]:
    routes = document.get("routes") if isinstance(document, dict) else None
    yield from (route for route in (routes if isinstance(routes, list) else ()) if isinstance(route, dict))


def _texts(containers: Sequence[Mapping[str, Any]], *names: str) -> frozenset[str]:
    found = (container.get(name) for container in containers for name in names)
    return frozenset(value for value in found if isinstance(value, str) and value)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
