"""What differs between an account and a folder, as a unified diff of canonical YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from templates.sets import dump_text
from voicebot.sync.account import Account
from voicebot.sync.working_folder import WorkingFolder


async def compare(folder: WorkingFolder, account: Account) -> list[str]:
    """The lines of the difference: `-` is on the server, `+` is in the folder. None: both are the same.

    Raises:
        Refused: the account cannot be read.
    """
    theirs = {each.name: each.document for each in await account.templates()}
    ours = folder.documents
    found: list[str] = []
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) == ours.get(name):
            continue  # or in another order
        path = folder.file_of(name)
        here = str(path) if path else "/dev/null"
        found += _lines(theirs.get(name), ours.get(name), f"server: {name}", here)
    return found


def _lines(
    theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None, there: str, here: str
) -> Iterator[str]:
    before, after = (dump_text(each).splitlines() if each is not None else [] for each in (theirs, ours))
    yield from difflib.unified_diff(
        before, after, there if theirs is not None else "/dev/null", here, lineterm=""
    )
