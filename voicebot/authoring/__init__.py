"""Authoring: checking and saving templates.

A document is read and checked against the account's other templates and numbers, its secrets are encrypted,
and one transaction writes template, revision and audit entry. A draft may have any error but one of shape or
of its name; it is stored with them as its `problems`. The database enforces what must hold when several
people save at once.
"""

from voicebot.authoring.account_lookup import AccountLookup
from voicebot.authoring.check_pool import CheckPool, Checks, TooManyChecks
from voicebot.authoring.documents import (
    Difference,
    InvalidTemplate,
    answer_of,
    content_of,
    differences,
    public_content,
)
from voicebot.authoring.history import duplicate, restore
from voicebot.authoring.import_entries import Imported
from voicebot.authoring.saving import Authoring, Editor, SavedTemplate
from voicebot.authoring.set_export import Exported, export, find_exported, to_json, to_yaml_item
from voicebot.authoring.set_import import (
    ExpectedRevision,
    ImportOptions,
    RevisionsMoved,
    SetRefused,
    import_set,
)
from voicebot.authoring.set_text import MAX_TEMPLATES, InvalidSet, read_set
from voicebot.authoring.sources import InvalidJson, JsonText, MergePatch, json_fault, merged

__all__ = [
    "MAX_TEMPLATES",
    "AccountLookup",
    "Authoring",
    "CheckPool",
    "Checks",
    "Difference",
    "Editor",
    "ExpectedRevision",
    "Exported",
    "ImportOptions",
    "Imported",
    "InvalidJson",
    "InvalidSet",
    "InvalidTemplate",
    "JsonText",
    "MergePatch",
    "RevisionsMoved",
    "SavedTemplate",
    "SetRefused",
    "TooManyChecks",
    "answer_of",
    "content_of",
    "differences",
    "duplicate",
    "export",
    "find_exported",
    "import_set",
    "json_fault",
    "merged",
    "public_content",
    "read_set",
    "restore",
    "to_json",
    "to_yaml_item",
]
