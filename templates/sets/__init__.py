"""Sets of templates in files, with names in place of ids.

``documents`` reads and writes YAML and JSON, ``file_model`` is the model of a template in a file, ``names``
replaces names by ids, ``checking`` checks a whole set.
"""

from templates.sets.checking import CheckedTemplate, SetContext, check_set
from templates.sets.documents import MAX_BYTES, ParsedText, UnreadableText, dump_text, read_text
from templates.sets.file_model import FileTemplate, canonical
from templates.sets.names import (
    SetReferences,
    find_references,
    members,
    name_of,
    with_names,
    without_server_fields,
)

__all__ = [
    "MAX_BYTES",
    "CheckedTemplate",
    "FileTemplate",
    "ParsedText",
    "SetContext",
    "SetReferences",
    "UnreadableText",
    "canonical",
    "check_set",
    "dump_text",
    "find_references",
    "members",
    "name_of",
    "read_text",
    "with_names",
    "without_server_fields",
]
