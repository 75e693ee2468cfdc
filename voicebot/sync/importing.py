"""The command `voicebot import pipecat-flows`: a template file from a flow of pipecat-flows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from templates.pipecat_flows import NoFlow, import_flow
from templates.sets import dump_text
from voicebot.authoring.files import BadFiles, read_file

UNUSABLE = 2
"""Exit status: the file cannot be read, or is no flow."""


def pipecat_flows(
    file: Annotated[Path, typer.Argument(help="A flow of pipecat-flows, as JSON or YAML.")],
    name: Annotated[str, typer.Option(help="Name of the template; by default that of the file.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where to write the template; by default printed.")] = None,
) -> None:
    """Make a template file of a flow of pipecat-flows; notes say what has no counterpart."""
    try:
        imported = import_flow(read_file(file).document, name or file.stem.replace("_", " ").capitalize())
    except (BadFiles, NoFlow) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNUSABLE) from None
    text = dump_text(imported.template)
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
