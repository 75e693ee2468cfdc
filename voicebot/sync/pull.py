"""Pull: write an account's templates into a directory without losing local changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from voicebot.sync.account import Account, StoredTemplate
from voicebot.sync.state_file import SyncedTemplate, digest, load, store
from voicebot.sync.template_directory import TemplateDirectory

Step = Literal["written", "kept", "conflict", "missing", "gone", "removed"]

STEP_MESSAGES: Mapping[Step, str] = {
    "written": "written",
    "kept": "changed here and not on the server: kept",
    "conflict": "changed here and on the server: not overwritten (--force takes the server's)",
    "missing": "deleted here: not written (--force writes it, push --prune deletes it on the server)",
    "gone": "no longer on the server: kept (--prune removes it)",
    "removed": "no longer on the server: removed",
}


@dataclass(slots=True)
class PullResult:
    """What was done, by the template's name; templates that are equal on both sides are left out."""

    steps: list[tuple[str, Step]] = field(default_factory=list)

    @property
    def has_conflicts(self) -> bool:
        """Whether a template was changed on both sides."""
        return any(step == "conflict" for _, step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How to pull."""

    force: bool = False
    """Overwrite local changes."""
    prune: bool = False
    """Remove templates that are no longer on the server."""


async def pull(
    local: TemplateDirectory, remote: Account, options: PullOptions, schema: Mapping[str, Any]
) -> PullResult:
    """Write the account's templates into the directory.

    Raises:
        BadFiles: files cannot be read.
        Refused: the account cannot be read.
    """
    state = load(local.path)
    known = state.of(remote.place)
    templates = await remote.templates()
    result = PullResult()
    local.put_schema(schema)
    for each in templates:
        step = _step(each, local, known.get(each.name), options)
        if step == "written":
            kept = known.get(each.name)
            local.put(each.name, each.document, kept.file if kept else None)
        if step is not None:
            result.steps.append((each.name, step))
        if step in (None, "written"):
            mark_synced(known, each, local)
    _handle_deleted(local, known, templates, options, result)
    store(local.path, state)
    return result


def mark_synced(known: dict[str, SyncedTemplate], template: StoredTemplate, local: TemplateDirectory) -> None:
    """Record that directory and account have the same template."""
    path = local.file_of(template.name)
    if path is not None:
        known[template.name] = SyncedTemplate(
            file=path.name, revision=template.revision, digest=digest(template.document)
        )


def _step(
    template: StoredTemplate, local: TemplateDirectory, kept: SyncedTemplate | None, options: PullOptions
) -> Step | None:
    """What to do with a template of the account; None: both sides are equal."""
    here = local.documents.get(template.name)
    theirs = digest(template.document)
    if here is None:
        return "written" if kept is None or options.force else "missing"
    ours = digest(here)
    if ours == theirs:
        return None
    if options.force or (kept is not None and kept.digest == ours):
        return "written"
    return "kept" if kept is not None and kept.digest == theirs else "conflict"


def _handle_deleted(
    local: TemplateDirectory,
    known: dict[str, SyncedTemplate],
    templates: Sequence[StoredTemplate],
    options: PullOptions,
    result: PullResult,
) -> None:
    """Handle the templates that were synchronised before and are no longer on the server."""
    here = local.documents
    for name in known.keys() - {each.name for each in templates}:
        if name not in here:
            del known[name]
        elif not options.prune:
            result.steps.append((name, "gone"))
        elif options.force or digest(here[name]) == known[name].digest:
            local.remove(name)
            del known[name]
            result.steps.append((name, "removed"))
        else:
            result.steps.append((name, "conflict"))
