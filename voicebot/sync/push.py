"""Push: save a directory's templates in an account, all or none, without losing changes made there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from templates.sets import without_server_fields
from voicebot.authoring.files import Fault, SourceFile
from voicebot.sync.account import Account, Refused, SaveResult, StoredTemplate
from voicebot.sync.pull import mark_synced
from voicebot.sync.secrets import Secrets, with_secrets
from voicebot.sync.state_file import SyncedTemplate, digest, load, store
from voicebot.sync.template_directory import TemplateDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """How to push."""

    force: bool = False
    """Overwrite what was saved on the server since the last pull."""
    prune: bool = False
    """Delete templates on the server that were synchronised before and deleted here."""
    dry_run: bool = False
    """Compute the result without changing anything."""
    secrets: Secrets = field(default_factory=dict)
    """Secrets for ``***`` in templates; without one, the account keeps its secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What was done."""

    saved: Sequence[SaveResult]
    deleted: Sequence[str] = ()
    missing: Sequence[str] = ()
    """Templates on the server that were deleted here."""


async def push(local: TemplateDirectory, remote: Account, options: PushOptions) -> PushResult:
    """Save the directory's templates in the remote.

    Raises:
        BadFiles: files cannot be read.
        Refused: the account refuses them; nothing was saved.
    """
    state = load(local.path)
    known = state.of(remote.place)
    stored = {each.name: each for each in await remote.templates()}
    documents = with_secrets(
        [without_server_fields(each.document) for each in local.sources], options.secrets
    )
    expect = {} if options.force else _expected(local, known, stored)
    gone = [stored[name] for name in known if name in stored and name not in local.documents]
    _refuse_changed(gone, known, options)
    saved = await remote.save(documents, expect, dry_run=options.dry_run)
    deleted = [each.name for each in _users_first(gone)] if options.prune else []
    missing = [each.name for each in gone if not options.prune]
    if not options.dry_run:
        try:
            for name in deleted:
                await remote.delete(name, stored[name].revision)
                del known[name]
        finally:
            _mark_saved(known, saved, {each.name: each for each in await remote.templates()}, local)
            store(local.path, state)
    return PushResult(saved=saved, deleted=deleted, missing=missing)


def faults_of(refused: Refused, sources: Sequence[SourceFile]) -> list[Fault | str]:
    """The account's reasons for a refusal, with places in the files."""
    faults: list[Fault | str] = []
    for problem in refused.problems:
        first, _, rest = problem.pointer.removeprefix("/templates/").partition("/")
        if problem.pointer.startswith("/templates/") and first.isdigit() and int(first) < len(sources):
            place = f"/{rest}" if rest else ""
            faults.append(sources[int(first)].fault(replace(problem, pointer=place)))
        else:
            faults.append(f"{problem.message} {problem.remedy}".strip())
    return faults


def _expected(
    local: TemplateDirectory, known: Mapping[str, SyncedTemplate], stored: Mapping[str, StoredTemplate]
) -> dict[str, int | None]:
    """The revisions that the account must have: those whose content is known here."""
    expected: dict[str, int | None] = {}
    for name, document in local.documents.items():
        synced, remote = known.get(name), stored.get(name)
        known_digests = (digest(document), synced.digest if synced else "")
        if remote is not None and digest(remote.document) in known_digests:
            expected[name] = remote.revision
        else:
            # If the account has another revision, its refusal names who has saved it.
            expected[name] = synced.revision if synced and remote else None
    return expected


def _refuse_changed(
    gone: Sequence[StoredTemplate], known: Mapping[str, SyncedTemplate], options: PushOptions
) -> None:
    changed = [each.name for each in gone if digest(each.document) != known[each.name].digest]
    if changed and options.prune and not options.force:
        names = ", ".join(f"'{name}'" for name in changed)
        raise Refused(f"Deleted here, but changed on the server since: {names}. Pull first, or use --force.")


def _mark_saved(
    known: dict[str, SyncedTemplate],
    saved: Sequence[SaveResult],
    stored: Mapping[str, StoredTemplate],
    local: TemplateDirectory,
) -> None:
    for each in saved:
        template = stored.get(each.name)
        if template is not None and template.revision == each.revision:
            mark_synced(known, template, local)
        else:  # Another client has saved since: the content of its revision is not known here.
            path = local.file_of(each.name)
            known[each.name] = SyncedTemplate(
                file=path.name if path else "-", revision=each.revision, digest=""
            )


def _users_first(gone: Sequence[StoredTemplate]) -> list[StoredTemplate]:
    """Templates in an order in which they can be deleted: those that route to others before these."""
    left = {each.name: each for each in sorted(gone, key=lambda each: each.name)}
    ordered: list[StoredTemplate] = []
    while left:
        used = {
            route.get("template")
            for each in left.values()
            for route in each.document.get("routes") or ()
            if route.get("template") != each.name
        }
        free = [name for name in left if name not in used] or list(left)  # the rest route to each other
        ordered += [left.pop(name) for name in free]
    return ordered
