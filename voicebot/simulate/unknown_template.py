"""The error for a template's name that no template has, with the names that were possibly meant."""

from __future__ import annotations

from collections.abc import Collection

from db.errors import NotFound
from templates.model_fields import suggestion

_LISTED = 20


class UnknownTemplate(NotFound):
    """There is no template with this name; the message names similar ones, or all if they are few."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        super().__init__("template", name)
        self._hint = suggestion(name, known)
        if not self._hint and 0 < len(known) <= _LISTED:
            self._hint = " Templates: " + ", ".join(f"'{each}'" for each in sorted(known)) + "."
        elif not known:
            self._hint = " There are no templates: name files with --templates, or save some."

    def __str__(self) -> str:
        return f"There is no template '{self.id}'.{self._hint}"
