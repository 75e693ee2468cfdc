"""Names and ids: a route's target by its name, an orchestrator's number by its digits.

``with_ids`` looks at any JSON at all, as the check does: what is no route or no name is left for it to find.
Names that stand for nothing stay where an id would be, so that a draft keeps them until they do.
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

KNOWN_BY_SERVER = frozenset(Template.model_fields) - frozenset(TemplateContent.model_fields)
"""Members that the server answers and an author may send back unchanged; they are left aside."""

_ABSENT: Mapping[str, Sequence[Any]] = {"number_id": (None, ""), "template_id": ("",)}
"""What may stand in the place of an id beside a name: what the template's own schema allows there."""

Path = tuple[str | int, ...]

_HINTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What names stand for.

    Attributes:
        templates: ids by name.
        ids: ids by what a document of the set says its id is.
        numbers: ids by E.164; None: not known.
        others: names that a misspelt one may have meant besides.
        whole: whether these are all templates there are.
        hints: how often it may still be guessed what was meant: a set can have very many unknown names.
    """

    templates: Mapping[str, str]
    ids: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] | None = None
    others: Collection[str] = ()
    whole: bool = False
    hints: Iterator[bool] = field(default_factory=lambda: repeat(True, _HINTS))


@dataclass(slots=True)
class WithIds:
    """A document in the form of the API.

    Attributes:
        document: any JSON, as given, with ids for names.
        faults: what could not be read even as a draft.
        unknown: names that stand for nothing.
    """

    document: Any
    faults: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    _written: dict[str, str] = field(default_factory=dict)
    """Pointers to ids → pointers to the names that the author wrote there."""

    def note(self, path: Path, name: str) -> None:
        """Remember that the id at ``path`` was written as the member ``name`` beside it."""
        self._written[pointer(*path)] = pointer(*path[:-1], name)

    def place(self, inside: str) -> str:
        """A place in the document with ids, as the author wrote it."""
        return self._written.get(inside, inside)

    def told(self, problem: Problem) -> bool:
        """Whether something is known to be wrong there: what the check says of it would be no news."""
        places = {each.pointer for each in (*self.faults, *self.unknown)}
        return problem.pointer in places


def own_part(document: Any) -> Any:
    """A document without what only the server says of it."""
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name not in KNOWN_BY_SERVER}


def members(document: Any) -> list[tuple[str, Any]]:
    """The templates in a document, each with its pointer: one, or a list of them under ``templates``."""
    listed = document.get("templates") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return [("", document)]
    return [(pointer("templates", index), each) for index, each in enumerate(listed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mentioned:
    """What documents speak of: their own names and ids, names and ids of targets, numbers (or their ids)."""

    names: frozenset[str]
    own_ids: frozenset[str]
    targets: frozenset[str]
    ids: frozenset[str]
    numbers: frozenset[str]


def mentioned(documents: Sequence[Any]) -> Mentioned:
    """What documents speak of, whatever JSON they are."""
    routes = [route for document in documents for route in _routes(document)]
    objects = [document for document in documents if isinstance(document, dict)]
    return Mentioned(
        names=_texts(objects, "name"),
        own_ids=_texts(objects, "id"),
        targets=_texts(routes, "template"),
        ids=_texts(routes, "template_id"),
        numbers=_texts(objects, "number", "number_id"),
    )


def name_of(document: Any) -> str:
    """The name in any JSON, "" where there is none."""
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""


def with_ids(document: Any, directory: Directory) -> WithIds:
    """A document with ids in place of names, and what is wrong with these."""
    found = WithIds(document)
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


def in_names(
    document: Mapping[str, Any], templates: Mapping[str, str], numbers: Mapping[str, str]
) -> dict[str, Any]:
    """A template's document as a file has it.

    Args:
        document: a whole template with ids.
        templates: names by id.
        numbers: E.164 by id.
    """
    named = dict(document)
    number = named.get("number_id")
    if isinstance(number, str) and (number in numbers or E164.fits(number)):
        named.update(number_id=None, number=numbers.get(number, number))
    named["routes"] = [_route_in_names(route, templates) for route in named.get("routes", ())]
    return named


def _route_in_names(route: Mapping[str, Any], templates: Mapping[str, str]) -> dict[str, Any]:
    target = route.get("template_id", "")
    if target in templates or (target and not _is_id(target)):
        return {**route, "template_id": "", "template": templates.get(target, target)}
    return dict(route)


def _number(found: WithIds, directory: Directory) -> None:
    written = _taken(found, found.document, (), "number_id")
    if written is None:
        return
    numbers = directory.numbers
    found.document["number_id"] = written if numbers is None else numbers.get(written, written)
    if not E164.fits(written):
        message, remedy = f"'{written}' is not a number in E.164.", "Write `+`, country code and number."
    elif numbers is not None and written not in numbers:
        message = f"There is no number {written} in this account."
        remedy = "Add the number first (POST /api/v1/numbers), or correct its digits."
    else:
        return
    problem = Problem(pointer=pointer("number"), code="number_unknown", message=message, remedy=remedy)
    found.unknown.append(problem)


def _target(found: WithIds, route: dict[str, Any], where: Path, directory: Directory) -> None:
    written = _taken(found, route, where, "template_id")
    if written is None:
        target = route.get("template_id")
        if isinstance(target, str) and target in directory.ids:
            route["template_id"] = directory.ids[target]
        return
    route["template_id"] = directory.templates.get(written, written)
    if written not in directory.templates:
        found.unknown.append(_unknown_target(written, (*where, "template"), directory))


def _unknown_target(name: str, where: Path, directory: Directory) -> Problem:
    known = {*directory.templates, *directory.others} if next(directory.hints, False) else ()
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    scope = "of this set or of the account" if directory.whole else "of this set"
    return Problem(
        pointer=pointer(*where),
        code="target_missing",
        message=f"No template {scope} has the name '{name}'.{hint}",
        remedy="Write the name of a template as that template has it, or add the template.",
    )


def _taken(found: WithIds, container: dict[str, Any], where: Path, member: str) -> str | None:
    """Take the name beside an id out of a document; None where there is none to go by."""
    name = {"number_id": "number", "template_id": "template"}[member]
    if name not in container:
        return None
    value = container.pop(name)
    place = pointer(*where, name)
    if value is None or value == "":
        return None
    if container.get(member, "") not in _ABSENT[member]:
        message = f"'{name}' and '{member}' are both written."
        found.faults.append(Problem(pointer=place, code="reference_twice", message=message,
                                    remedy=f"Keep '{name}' and remove '{member}'."))  # fmt: skip
        return None
    found.note((*where, member), name)
    if not isinstance(value, str):
        message = f"'{name}' should be a text."
        found.faults.append(Problem(pointer=place, code="wrong_type", message=message,
                                    remedy="Write a value of the kind named."))  # fmt: skip
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
