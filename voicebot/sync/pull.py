"""From the account into the folder, without losing what somebody has written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from voicebot.sync.account import Account, StoredTemplate
from voicebot.sync.state_file import SyncedTemplate, digest, keep, load
from voicebot.sync.working_folder import WorkingFolder

Step = Literal["written", "kept", "clash", "missing", "gone", "removed"]

TOLD: Mapping[Step, str] = {
    "written": "written",
    "kept": "changed here, not on the server: kept",
    "clash": "changed here and on the server: not overwritten (--force takes the server's)",
    "missing": "deleted here: not written again (--force brings it back, push --prune deletes it there)",
    "gone": "no longer on the server (--prune removes it)",
    "removed": "no longer on the server: removed",
}


@dataclass(slots=True)
class Pulled:
    """What was done, by the template's name; what needed nothing is left out."""

    steps: list[tuple[str, Step]] = field(default_factory=list)

    @property
    def clashed(self) -> bool:
        """Whether something was left for somebody to decide."""
        return any(step == "clash" for _, step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """How to pull."""

    force: bool = False
    """Take the server's, whatever was changed here."""
    prune: bool = False
    """Remove templates that the server has no longer."""


async def pull(folder: WorkingFolder, account: Account, wish: Pull, schema: Mapping[str, Any]) -> Pulled:
    """Have the folder hold what the account holds.

    Raises:
        BadFiles: files cannot be read.
        Refused: the account cannot be.
    """
    records = load(folder.path)
    known = records.of(account.place)
    held = await account.templates()
    done = Pulled()
    folder.put_schema(schema)
    for each in held:
        step = _step(each, folder, known.get(each.name), wish)
        if step == "written":
            kept = known.get(each.name)
            folder.put(each.name, each.document, kept.file if kept else None)
        if step is not None:
            done.steps.append((each.name, step))
        if step in (None, "written"):
            remember(known, each, folder)
    _drop(folder, known, held, wish, done)
    keep(folder.path, records)
    return done


def remember(known: dict[str, SyncedTemplate], held: StoredTemplate, folder: WorkingFolder) -> None:
    """Note that folder and account have the same."""
    path = folder.file_of(held.name)
    if path is not None:
        known[held.name] = SyncedTemplate(
            file=path.name, revision=held.revision, digest=digest(held.document)
        )


def _step(
    held: StoredTemplate, folder: WorkingFolder, kept: SyncedTemplate | None, wish: Pull
) -> Step | None:
    """What to do about a template of the account; None: nothing, both are the same."""
    here = folder.documents.get(held.name)
    theirs = digest(held.document)
    if here is None:
        return "written" if kept is None or wish.force else "missing"
    ours = digest(here)
    if ours == theirs:
        return None
    if wish.force or (kept is not None and kept.digest == ours):
        return "written"
    return "kept" if kept is not None and kept.digest == theirs else "clash"


def _drop(
    folder: WorkingFolder,
    known: dict[str, SyncedTemplate],
    held: Sequence[StoredTemplate],
    wish: Pull,
    done: Pulled,
) -> None:
    """See to what was pulled once, and is no longer on the server."""
    here = folder.documents
    for name in known.keys() - {each.name for each in held}:
        if name not in here:
            del known[name]
        elif not wish.prune:
            done.steps.append((name, "gone"))
        elif wish.force or digest(here[name]) == known[name].digest:
            folder.take_out(name)
            del known[name]
            done.steps.append((name, "removed"))
        else:
            done.steps.append((name, "clash"))
