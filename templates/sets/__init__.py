"""Sets of templates in files: names in place of ids, and everything that is wrong with them at once.

``texts`` is YAML and JSON, ``form`` the shape of a template in a file, ``names`` how names become ids,
``checking`` the check of a whole set, in which each template sees the others.
"""

from templates.sets.checking import Checked, Outside, check_set
from templates.sets.documents import MAX_BYTES, Text, Unreadable, as_text, read_text
from templates.sets.file_model import FileTemplate, canonical
from templates.sets.names import Mentioned, in_names, members, mentioned, name_of, own_part

__all__ = [
    "MAX_BYTES",
    "Checked",
    "FileTemplate",
    "Mentioned",
    "Outside",
    "Text",
    "Unreadable",
    "as_text",
    "canonical",
    "check_set",
    "in_names",
    "members",
    "mentioned",
    "name_of",
    "own_part",
    "read_text",
]
