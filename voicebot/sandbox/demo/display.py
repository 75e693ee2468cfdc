"""Prints the demo in a terminal of any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voicebot.sandbox.audio.analysis import Analysis
from voicebot.sandbox.demo.call_log import Line

_COLOURS = ("cyan", "magenta", "green")
_NARROW = 60
_DIM = "bright_black"
_EVENTS = {
    "call.started": "answers the call",
    "agent.ready": "is ready to take over",
    "function.called": "calls {name}({arguments})",
    "function.returned": "{name}: {status}, {duration_ms} ms",
    "route.requested": "calls route_to_agent({agent})",
    "route.done": "[bold]takes over, {gap_ms} ms after the last word[/]",
    "barge_in": "is interrupted",
    "idle.prompted": "asks whether the caller is there",
    "call.ended": "the call is over: {ended_by}, {reason}",
}
_FAILURES = ("agent.unavailable", "route.refused", "route.failed", "provider.failed")


class Display:
    """Prints the lines of a call: time, speaker and node, words."""

    def __init__(self, console: Console, agents: Mapping[str, str]) -> None:
        """`agents` maps template ids to names."""
        self._console = console
        self._agents = agents
        self._colours = dict(zip(agents, _COLOURS, strict=False))

    def note(self, text: str) -> None:
        """Print a note on what the demo does."""
        self._console.print(f"[{_DIM}]{escape(text)}[/]")

    def line(self, line: Line) -> None:
        """Print a line of the call, unless another line says the same."""
        words = self._words(line)
        if words:
            self._row(f"{line.at_ms / 1000:5.1f}", self._who(line), words)

    def lead(self, lead: Mapping[str, Any], before: str, after: str) -> None:
        """Print the lead of the call."""
        self._console.print(f"\n[bold]Lead[/] {lead['id']}")
        rows = (
            ("template", f"{before} → [bold]{after}[/]"),
            ("outcome", escape(str(lead["outcome"]))),
            ("variables", escape(", ".join(f"{key}: {value}" for key, value in lead["variables"].items()))),
        )
        for name, value in rows:
            self._console.print(f"  {name:<10} {value}", soft_wrap=False)

    def recording(self, path: Path, heard: Analysis) -> None:
        """Print where the recording is, and what was measured in it."""
        gaps = sorted(gap.ms for gap in heard.gaps)
        self._console.print(f"\n[bold]Hear it[/] {path}")
        self._console.print("  left the caller, right what the carrier received", style=_DIM)
        middle = f"{gaps[len(gaps) // 2]:.0f} ms" if gaps else "none"
        worst = f"{gaps[-1]:.0f} ms" if gaps else "none"
        self._console.print(
            f"  voices heard: {len(heard.voices)} · two at once: {len(heard.overlaps)} · "
            f"caller's wait for an answer: median {middle}, longest {worst}"
        )

    def kept(self, data_dir: Path, call_id: str, key: str) -> None:
        """Print how to see the call that was kept."""
        self._console.print(f"\n[bold]See it[/] the call is kept in {data_dir}; `voicebot serve` shows it:")
        see = f"http://127.0.0.1:8000/api/v1/calls/{call_id}/transcript"
        self._console.print(f'  curl -H "Authorization: Bearer {key}" {see}', soft_wrap=True, style=_DIM)

    def result(self, faults: Sequence[str], seconds: float) -> None:
        """Print whether the call was as expected."""
        if not faults:
            self._console.print(f"\n[bold green]The call went as expected[/] ({seconds:.0f} s).")
            return
        self._console.print("\n[bold red]The call did not go as expected:[/]")
        for fault in faults:
            self._console.print(f"  - {escape(fault)}")

    def _row(self, when: str, who: str, words: str) -> None:
        table = Table.grid(padding=(0, 1), expand=False)
        if self._console.width < _NARROW:
            table.add_column(no_wrap=True)
            table.add_column()
            table.add_row(f"[{_DIM}]{when}[/]", f"{who} {words}")
        else:
            table.add_column(width=6, no_wrap=True)
            table.add_column(width=22)
            table.add_column()
            table.add_row(f"[{_DIM}]{when}[/]", who, words)
        self._console.print(table)

    def _who(self, line: Line) -> str:
        if line.kind == "said" and line.record["speaker"] == "caller":
            return "[bold yellow]caller[/]"
        agent = self._agents.get(line.template_id or "", "")
        place = f" [{_DIM}]{escape(line.node)}[/]" if line.node else ""
        return f"[{self._colours.get(line.template_id or '', 'white')}]{escape(agent)}[/]{place}"

    def _words(self, line: Line) -> str:
        if line.kind == "said":
            cut = f" [{_DIM}](interrupted)[/]" if line.record["interrupted"] else ""
            return escape(line.record["heard_text"] or line.record["text"]) + cut
        words = _event(line.kind, line.record["data"])
        return f"[{_DIM}]{words}[/]" if words else ""


def _event(kind: str, data: Mapping[str, Any]) -> str:
    """Return an event in words; empty if another line says the same."""
    if kind in _FAILURES:
        return f"[red]{kind} {escape(str(dict(data)))}[/]"
    arguments = ", ".join(f"{name}: {value}" for name, value in data.get("arguments", {}).items())
    values = {name: escape(str(value)) for name, value in data.items()} | {"arguments": escape(arguments)}
    return _EVENTS.get(kind, "").format_map(values)
