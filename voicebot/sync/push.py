"""From the folder to the account: all templates in one go, or none, and nobody's work overwritten unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from templates.sets import without_server_fields
from voicebot.authoring.files import Fault, SourceFile
from voicebot.sync.account import Account, Refused, SaveResult, StoredTemplate
from voicebot.sync.pull import remember
from voicebot.sync.secrets import Secrets, with_secrets
from voicebot.sync.state_file import SyncedTemplate, digest, keep, load
from voicebot.sync.working_folder import WorkingFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """How to push."""

    force: bool = False
    """Overwrite what was saved on the server since."""
    prune: bool = False
    """Delete on the server what was pulled or pushed once and is no longer here."""
    dry_run: bool = False
    """Change nothing."""
    secrets: Secrets = field(default_factory=dict)
    """What goes where a template says ``***``; else the account keeps what it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What was done."""

    done: Sequence[SaveResult]
    deleted: Sequence[str] = ()
    left: Sequence[str] = ()
    """Templates that are no longer here and still on the server."""


async def push(folder: WorkingFolder, account: Account, wish: Push) -> Pushed:
    """Have the account hold what the folder holds.

    Raises:
        BadFiles: files cannot be read.
        Refused: the account does not take it; nothing was saved.
    """
    records = load(folder.path)
    known = records.of(account.place)
    held = {each.name: each for each in await account.templates()}
    documents = with_secrets([without_server_fields(each.document) for each in folder.written], wish.secrets)
    expect = {} if wish.force else _expected(folder, known, held)
    gone = [held[name] for name in known if name in held and name not in folder.documents]
    _refuse_changed(gone, known, wish)
    done = await account.save(documents, expect, dry_run=wish.dry_run)
    deleted = [each.name for each in sorted(gone, key=_orchestrators_first)] if wish.prune else []
    left = [each.name for each in gone if not wish.prune]
    if not wish.dry_run:
        try:
            for name in deleted:
                await account.delete(name, held[name].revision)
                del known[name]
        finally:
            _remember(known, done, {each.name: each for each in await account.templates()}, folder)
            keep(folder.path, records)
    return Pushed(done=done, deleted=deleted, left=left)


def faults_of(refused: Refused, written: Sequence[SourceFile]) -> list[Fault | str]:
    """What the account has against it, where it stands in the files."""
    told: list[Fault | str] = []
    for problem in refused.problems:
        first, _, rest = problem.pointer.removeprefix("/templates/").partition("/")
        if problem.pointer.startswith("/templates/") and first.isdigit() and int(first) < len(written):
            place = f"/{rest}" if rest else ""
            told.append(written[int(first)].fault(replace(problem, pointer=place)))
        else:
            told.append(f"{problem.message} {problem.remedy}".strip())
    return told


def _expected(
    folder: WorkingFolder, known: Mapping[str, SyncedTemplate], held: Mapping[str, StoredTemplate]
) -> dict[str, int | None]:
    """The revisions that nobody may have gone beyond: those whose content is known here."""
    expected: dict[str, int | None] = {}
    for name, document in folder.documents.items():
        kept, there = known.get(name), held.get(name)
        if there is not None and digest(there.document) in (digest(document), kept.digest if kept else ""):
            expected[name] = there.revision
        else:
            # Where this is not what the account has, it is the account that says so, and who has saved.
            expected[name] = kept.revision if kept and there else None
    return expected


def _refuse_changed(gone: Sequence[StoredTemplate], known: Mapping[str, SyncedTemplate], wish: Push) -> None:
    moved = [each.name for each in gone if digest(each.document) != known[each.name].digest]
    if moved and wish.prune and not wish.force:
        names = ", ".join(f"'{name}'" for name in moved)
        raise Refused(
            f"Not here any more, but changed on the server since: {names}. Pull it, or use --force."
        )


def _remember(
    known: dict[str, SyncedTemplate],
    done: Sequence[SaveResult],
    held: Mapping[str, StoredTemplate],
    folder: WorkingFolder,
) -> None:
    for each in done:
        there = held.get(each.name)
        if there is not None and there.revision == each.revision:
            remember(known, there, folder)
        else:  # somebody was faster than we could look: what they saved is not known here
            path = folder.file_of(each.name)
            known[each.name] = SyncedTemplate(
                file=path.name if path else "-", revision=each.revision, digest=""
            )


def _orchestrators_first(held: StoredTemplate) -> tuple[bool, str]:
    return held.document.get("kind") != "orchestrator", held.name
