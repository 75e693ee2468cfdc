"""Reports of conversations, as lines of text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from voicebot.call.text.exchange import (
    Ended,
    Exchange,
    FunctionCall,
    NodeEntered,
    OutcomeRecorded,
    ProviderFailure,
    Reply,
    RouteTaken,
    Step,
)
from voicebot.simulate.runner import ConversationResult, TurnResult


def lines(exchange: Exchange) -> Iterator[str]:
    """The steps of a turn, one line (with rich's markup) each."""
    for step in exchange.steps:
        yield _line(step)


def requests(exchange: Exchange) -> Iterator[str]:
    """What the model was shown in a turn, and what it answered, line by line (with rich's markup)."""
    for each in exchange.requests:
        request = each.request
        where = f"{each.at.agent}, {each.at.node}" if each.at.node else each.at.agent
        took = "" if request.first_token_ms is None else f", first token {request.first_token_ms} ms"
        used = "" if request.tokens is None else f", {request.tokens.get('total')} tokens"
        cost = "" if request.cost_usd is None else f", {request.cost_usd:.6f} USD"
        yield f"[blue]┌ request {request.seq} ({escape(where)})[/]"
        for message in request.messages:
            yield from _block(_message(message))
        for tool in request.tools or ():
            yield from _block(f"tool {json.dumps(tool.get('function', tool), ensure_ascii=False)}")
        yield from _block(f"settings {json.dumps(dict(request.settings), ensure_ascii=False, default=str)}")
        answer = [request.text] if request.text else []
        answer += [
            f"calls {call['name']}({_plain_arguments(call['arguments'])})" for call in request.function_calls
        ]
        if request.error:
            answer.append(f"error {json.dumps(dict(request.error), ensure_ascii=False, default=str)}")
        yield from _block(f"answer ({request.status}) {' '.join(answer)}")
        yield f"[blue]└ total {request.total_ms} ms{took}{used}{cost}[/]"


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    calls = message.get("tool_calls")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
    return f"{message.get('role')}  {json.dumps(calls, ensure_ascii=False, default=str) if calls else text}"


def _block(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield f"[blue]│[/] [dim]{escape(line)}[/]"


def requests_as_json(exchange: Exchange) -> list[dict[str, Any]]:
    """The requests to the model in a turn, as JSON values."""
    shown = ("seq", "messages", "tools", "settings", "text", "function_calls", "status", "error",
             "first_token_ms", "total_ms", "tokens", "cost_usd")  # fmt: skip
    plain = [
        {"agent": each.at.agent, "node": each.at.node} | {name: getattr(each.request, name) for name in shown}
        for each in exchange.requests
    ]
    read: list[dict[str, Any]] = json.loads(json.dumps(plain, default=str))
    return read


def report(results: Sequence[ConversationResult], *, verbose: bool = False) -> Iterator[str]:
    """The results of conversations, with the turns of those that failed, or (``verbose``) of all."""
    for each in results:
        mark = "[green]✓[/]" if each.passed else "[red]✗[/]"
        count = sum(turn.turn.caller is not None for turn in each.turns)
        took = f"{_counted(count, 'turn')}, {each.duration_ms / 1000:.1f} s"
        yield f"{mark} {escape(each.name)} [dim]({took})[/]"
        if each.fault is not None:
            yield f"    [red]{escape(each.fault)}[/]"
        elif verbose or not each.passed:
            for turn in each.turns:
                yield from _turn_lines(turn)
    failed = sum(not each.passed for each in results)
    verdict = f"[red]{failed} failed[/]" if failed else "[green]all as expected[/]"
    yield f"{_counted(len(results), 'conversation')}, {verdict}"


def report_as_json(results: Sequence[ConversationResult]) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "ok": all(each.passed for each in results),
        "conversations": [
            {
                "name": each.name,
                "begin": each.begin,
                "passed": each.passed,
                "fault": each.fault,
                "duration_ms": each.duration_ms,
                "turns": [
                    {
                        "caller": turn.turn.caller,
                        "played": turn.exchange is not None,
                        "misses": [asdict(unmet) for unmet in turn.unmet],
                        "steps": steps(turn.exchange) if turn.exchange else [],
                    }
                    for turn in each.turns
                ],
            }
            for each in results
        ],
    }


def steps(exchange: Exchange) -> list[dict[str, Any]]:
    """The steps of a turn as JSON values, each with its ``type``."""
    plain = [{"type": _TYPES[type(step)], **asdict(step)} for step in exchange.steps]
    read: list[dict[str, Any]] = json.loads(json.dumps(plain, default=str))
    return read


def _turn_lines(turn: TurnResult) -> Iterator[str]:
    if turn.exchange is None and not turn.unmet:
        yield f"    [dim]caller  {escape(turn.turn.caller or '')}  (not run)[/]"
        return
    if turn.turn.caller is not None:
        yield f"    caller  {escape(turn.turn.caller)}"
    for line in lines(turn.exchange) if turn.exchange else ():
        yield f"    {line}"
    for unmet in turn.unmet:
        yield f"    [red]expected {escape(unmet.expected)}[/]"
        yield f"    [red]     got {escape(unmet.got)}[/]"


def _line(step: Step) -> str:
    match step:
        case Reply():
            return f"[bold]{escape(step.at.agent)}[/]  {escape(step.text)}"
        case FunctionCall():
            given = _arguments(step.arguments)
            took = "" if step.duration_ms is None else f" in {step.duration_ms} ms"
            why = f", {escape(step.failure)}" if step.failure else ""
            status = step.status or "not returned yet"
            return f"[cyan]  calls {escape(step.name)}({given}): {status}{took}{why}[/]"
        case NodeEntered():
            return f"[dim]  node {escape(step.at.node or '')}[/]"
        case RouteTaken():
            return _route(step)
        case OutcomeRecorded():
            return f"[cyan]  outcome {escape(step.outcome)} {_arguments(step.fields)}[/]"
        case ProviderFailure():
            return f"[red]  {_PARTS.get(step.part, step.part)} failed: {escape(step.reason)}[/]"
        case Ended():
            return f"[dim]  the call ended, by the {escape(step.ended_by)}: {escape(step.reason)}[/]"


def _route(step: RouteTaken) -> str:
    to = f" to {step.to.agent}" if step.to else ""
    if step.status == "done":
        return f"[magenta]  routed{escape(to)} ({escape(step.name)}): {escape(step.reason)}[/]"
    return f"[yellow]  route {escape(step.name)} {step.status}: {escape(step.code or '')}[/]"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _arguments(arguments: Mapping[str, Any]) -> str:
    return escape(_plain_arguments(arguments))


def _plain_arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in arguments.items()
    )


_PARTS = {
    "llm": "the language model",
    "mind": "the language model",
    "http": "an HTTP function",
    "agent": "an agent",
}
_TYPES = {
    Reply: "reply",
    FunctionCall: "function",
    NodeEntered: "node",
    RouteTaken: "route",
    OutcomeRecorded: "outcome",
    ProviderFailure: "trouble",
    Ended: "ended",
}
