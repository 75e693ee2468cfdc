"""Authoring: what an author's document goes through before it is a row.

Shape first, then the whole check against the account's other templates and numbers, then secrets are
sealed, then one transaction writes template, revision and audit. A draft may have any fault of the check; it
is stored with them as its `problems`. What must hold when several people save at once is held by the database
alone.
"""

from voicebot.authoring.documents import InvalidTemplate, content_of, shown, shown_content
from voicebot.authoring.editor import Editor
from voicebot.authoring.entries import Imported
from voicebot.authoring.exporting import Exported, export
from voicebot.authoring.prechecks import PRECHECKS, Precheck
from voicebot.authoring.saving import Authoring
from voicebot.authoring.sets import Move, SetMoved, SetRefused, Wish
from voicebot.authoring.survey import BUILTINS, check_around

__all__ = [
    "BUILTINS",
    "PRECHECKS",
    "Authoring",
    "Editor",
    "Exported",
    "Imported",
    "InvalidTemplate",
    "Move",
    "Precheck",
    "SetMoved",
    "SetRefused",
    "Wish",
    "check_around",
    "content_of",
    "export",
    "shown",
    "shown_content",
]
