"""Authoring: what an author's document goes through before it is a row.

Shape first, then the whole check against the account's other templates and numbers, then secrets are
sealed, then one transaction writes template, revision and audit. A draft may have any fault of the check; it
is stored with them as its `problems`. What must hold when several people save at once is held by the database
alone.
"""

from voicebot.authoring.account_lookup import BUILTINS, check_around
from voicebot.authoring.documents import InvalidTemplate, content_of, shown, shown_content
from voicebot.authoring.editor import Editor
from voicebot.authoring.import_entries import Imported
from voicebot.authoring.prechecks import PRECHECKS, Precheck
from voicebot.authoring.saving import Authoring
from voicebot.authoring.set_export import Exported, export
from voicebot.authoring.set_import import ExpectedRevision, ImportOptions, SetMoved, SetRefused

__all__ = [
    "BUILTINS",
    "PRECHECKS",
    "Authoring",
    "Editor",
    "ExpectedRevision",
    "Exported",
    "ImportOptions",
    "Imported",
    "InvalidTemplate",
    "Precheck",
    "SetMoved",
    "SetRefused",
    "check_around",
    "content_of",
    "export",
    "shown",
    "shown_content",
]
