"""Makes a template of a flow of pipecat-flows, with notes on what has no counterpart.

Both forms are read: that of pipecat's ``FlowConfig``, and the older one with ``role_messages`` and functions
as OpenAI writes them (``{"type": "function", "function": {…}}``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TYPES = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
}
_STRATEGIES = {"append", "reset", "reset_with_summary"}


class NoFlow(ValueError):
    """The document is no flow of pipecat-flows."""


@dataclass(slots=True)
class ImportedFlow:
    """A template in the form of a file, and what its author has to look at."""

    template: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def import_flow(document: Any, name: str) -> ImportedFlow:
    """Make a template of a flow.

    Args:
        document: any JSON.
        name: the name of the template.

    Raises:
        NoFlow: it has no nodes.
    """
    nodes = document.get("nodes") if isinstance(document, Mapping) else None
    if not isinstance(nodes, Mapping) or not nodes:
        raise NoFlow(
            "This is no flow of pipecat-flows: an object with `initial_node` and `nodes` is expected."
        )
    reader = _Reader()
    flow = {
        "initial_node": document.get("initial_node") or next(iter(nodes)),
        "nodes": {str(key): reader.node(str(key), node) for key, node in nodes.items()},
    }
    if shared := document.get("global_functions"):
        flow["global_functions"] = [each for item in shared if (each := reader.function("global", item))]
    template = {
        "name": name,
        "description": "",
        "status": "draft",
        "variables": list(reader.variables.values()),
        "functions": [{"type": "builtin", "name": "end_call"}],
        "flow": flow,
    }
    return ImportedFlow(template, reader.notes)


class _Reader:
    """Collects the variables and the notes of a flow."""

    def __init__(self) -> None:
        self.variables: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []

    def node(self, name: str, node: Any) -> dict[str, Any]:
        """A node as templates have it."""
        node = node if isinstance(node, Mapping) else {}
        role = node.get("role_message") or "\n".join(
            str(each.get("content", "")) for each in node.get("role_messages") or ()
        )
        result: dict[str, Any] = {"role_message": role} if role else {}
        result["task_messages"] = [
            {"role": _role(each.get("role")), "content": str(each.get("content", ""))}
            for each in node.get("task_messages") or ()
        ]
        functions = [self.function(name, each) for each in node.get("functions") or ()]
        result["functions"] = [each for each in functions if each]
        said = [str(a.get("text", "")) for a in node.get("pre_actions") or () if a.get("type") == "tts_say"]
        if said:
            result["say"] = " ".join(said)
        result["post_actions"] = [
            {"type": "end_conversation"}
            for each in node.get("post_actions") or ()
            if each.get("type") == "end_conversation"
        ]
        self._note_actions(name, node)
        strategy = node.get("context_strategy")
        strategy = strategy.get("strategy") if isinstance(strategy, Mapping) else strategy
        if strategy in _STRATEGIES:
            result["context_strategy"] = strategy
        if node.get("respond_immediately") is False:
            result["respond_immediately"] = False
        return result

    def function(self, node: str, item: Any) -> dict[str, Any]:
        """A transition with the parameters of a function; {} for one that cannot be read."""
        item = item if isinstance(item, Mapping) else {"name": str(item)}
        function = item.get("function") if isinstance(item.get("function"), Mapping) else item
        assert isinstance(function, Mapping)  # noqa: S101 - narrowed for the type check
        name, target = str(function.get("name", "")), function.get("transition_to")
        if not name or not isinstance(target, str):
            self.notes.append(
                f"{node}: the function '{name}' leads to no single node. Declare it as an HTTP "
                "function in `functions`, with its branch in the node."
            )
            return {}
        if function.get("handler") not in (None, "", "__function__:none"):
            self.notes.append(
                f"{node}: '{name}' has a handler, which is program code. If it reads or writes data, use an "
                "HTTP function; what the caller says is kept."
            )
        parameters = function.get("parameters") or {"properties": function.get("properties") or {}}
        names = [self._variable(key, schema) for key, schema in (parameters.get("properties") or {}).items()]
        description = str(function.get("description") or f"Go on to {target}.")
        transition = {
            "name": name,
            "transition_only": True,
            "description": description,
            "transition_to": target,
        }
        return {**transition, **({"parameters": names} if names else {})}

    def _variable(self, name: str, schema: Any) -> str:
        schema = schema if isinstance(schema, Mapping) else {}
        kind = "date" if schema.get("format") == "date" else _TYPES.get(str(schema.get("type")), "string")
        allowed = f"One of: {', '.join(map(str, schema['enum']))}." if schema.get("enum") else ""
        description = " ".join(part for part in (str(schema.get("description") or ""), allowed) if part)
        self.variables.setdefault(
            name, {"name": name, "type": kind, "source": "call", "description": description}
        )
        return name

    def _note_actions(self, name: str, node: Mapping[str, Any]) -> None:
        for each in [*(node.get("pre_actions") or ()), *(node.get("post_actions") or ())]:
            if each.get("type") not in ("tts_say", "end_conversation"):
                self.notes.append(
                    f"{name}: the action '{each.get('type')}' runs program code and is left out."
                )


def _role(role: Any) -> str:
    return "developer" if role in (None, "system") else str(role)
