"""Templates made into flows, run by a real FlowManager."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pipecat.flows import ContextStrategy, Flow
from pipecat.frames.frames import InterruptionFrame

from templates import values
from templates.compile import (
    Function,
    FunctionResult,
    UnknownFunction,
    compile_template,
    entry_node,
)
from templates.model import TemplateContent
from tests.templates.flow_harness import RecordingResolver, running_flow


def template(**fields: Any) -> TemplateContent:
    return TemplateContent.model_validate({"name": "Shop", **fields})


def ordering(**find_order: Any) -> TemplateContent:
    """Two nodes: `find_order` leads from the first to the second."""
    return template(
        functions=[{"type": "http", "name": "find_order"}, {"type": "builtin", "name": "end_call"}],
        flow={
            "initial_node": "ask",
            "nodes": {
                "ask": {
                    "role_message": "You are the shop's agent.",
                    "task_messages": [{"role": "developer", "content": "Ask {{ name }} for the order."}],
                    "functions": [{"name": "find_order", **find_order}],
                },
                "tell": {"task_messages": [{"role": "developer", "content": "Tell {{ name }} the status."}]},
                "sorry": {"task_messages": [{"role": "developer", "content": "Say sorry."}]},
            },
        },
    )


def names(flow: Flow, node: str) -> list[str]:
    return [function.name for function in flow.node(node)["functions"]]  # type: ignore[union-attr]


def test_prompt_is_one_node() -> None:
    """A prompt becomes the role of a single node that offers the template's functions and the extra ones."""
    flow = compile_template(
        template(prompt="You are a clerk."), RecordingResolver(), extra=["route_to_agent"]
    )
    assert flow.initial_node["role_message"] == "You are a clerk."
    assert names(flow, "prompt") == ["end_call", "route_to_agent"]
    assert list(flow.config.nodes) == ["prompt"]


def test_every_node_offers_every_function_once() -> None:
    """The template's, the extra and the flow's global functions are offered at each node, none twice."""
    content = ordering(transition_to="tell")
    assert content.flow is not None
    everywhere = content.flow.model_copy(update={"global_functions": content.flow.nodes["ask"].functions})
    bare = everywhere.nodes["ask"].model_copy(update={"functions": ()})
    everywhere = everywhere.model_copy(update={"nodes": {**everywhere.nodes, "ask": bare}})
    for flow_document in (content.flow, everywhere):
        flow = compile_template(
            content.model_copy(update={"flow": flow_document}), RecordingResolver(), extra=["route_to_agent"]
        )
        assert flow.global_functions == []
        for node in flow.config.nodes:
            assert sorted(names(flow, node)) == ["end_call", "find_order", "route_to_agent"]


def test_function_keeps_its_call_options() -> None:
    """What a function says of interruption and time reaches pipecat, with and without a transition."""

    def resolve(name: str) -> Function:
        found = RecordingResolver()(name)
        return Function(
            name=name,
            description=found.description,
            properties={},
            required=[],
            run=found.run,
            cancel_on_interruption=False,
            timeout_secs=7.5,
        )

    flow = compile_template(ordering(transition_to="tell"), resolve)
    for function in flow.node("ask")["functions"]:
        assert (function.cancel_on_interruption, function.timeout_secs) == (False, 7.5)  # type: ignore[union-attr]


def test_unknown_function_is_named() -> None:
    """A function that the resolver does not know stops the compilation with the resolver's own error."""

    def resolve(name: str) -> Function:
        raise UnknownFunction(name)

    with pytest.raises(UnknownFunction, match="end_call"):
        compile_template(template(prompt="x"), resolve)


def test_template_without_conversation_is_refused() -> None:
    """A template with neither prompt nor flow cannot be compiled."""
    with pytest.raises(ValueError, match="neither a prompt nor a flow"):
        compile_template(template(), RecordingResolver())


def test_node_that_needs_end_call_gets_it() -> None:
    """`end_conversation` finds `end_call` even where the template does not offer it to the model."""
    content = template(
        functions=[],
        flow={
            "initial_node": "bye",
            "nodes": {"bye": {"role_message": "r", "post_actions": [{"type": "end_conversation"}]}},
        },
    )
    flow = compile_template(content, RecordingResolver())
    assert flow.initial_node["functions"] == []
    assert [action["type"] for action in flow.initial_node["post_actions"]] == ["end_call"]


def test_entry_is_a_copy_that_starts_anew() -> None:
    """Entering resets the model's memory to the given messages and leaves the flow's own node as it was."""
    flow = compile_template(ordering(transition_to="tell"), RecordingResolver())
    node = entry_node(flow, messages=[{"role": "user", "content": "Hello"}], respond_immediately=False)
    assert node["context_strategy"].strategy is ContextStrategy.RESET
    assert [message["content"] for message in node["task_messages"]] == [
        "Hello",
        "Ask {{ name }} for the order.",
    ]
    assert node["respond_immediately"] is False
    assert len(flow.initial_node["task_messages"]) == 1
    assert flow.initial_node["respond_immediately"] is True
    assert "context_strategy" not in flow.initial_node


def test_entry_goes_on_in_the_role_that_was_in_force() -> None:
    """A node without a role of its own is entered in that of the last node before it that had one."""
    nodes = {
        "a": {"role_message": "You are Ada."},
        "b": {"role_message": "You are Bob.", "task_messages": [{"content": "b"}]},
        "c": {"task_messages": [{"content": "c"}]},
    }
    flow = compile_template(template(flow={"initial_node": "a", "nodes": nodes}), RecordingResolver())
    node = entry_node(flow, visited=["a", "b", "gone", "c"])
    assert (node["role_message"], node["task_messages"][0]["content"]) == ("You are Bob.", "c")
    assert entry_node(flow, visited=["gone"])["name"] == "a"
    assert "role_message" not in flow.node("c")


async def test_model_sees_declared_description_and_parameters() -> None:
    """The model is offered exactly the declared name, description and parameters of each function."""
    flow = compile_template(ordering(transition_to="tell"), RecordingResolver())
    async with running_flow("Hello.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 1)
        heard = harness.model.heard[0]
    expected = {
        "type": "object",
        "properties": {"reason": {"type": "string", "description": "Why."}},
        "required": ["reason"],
    }
    assert heard.tools == {
        name: {"name": name, "description": f"Does {name}.", "parameters": expected}
        for name in ("find_order", "end_call")
    }
    assert heard.role == "You are the shop's agent."


@pytest.mark.parametrize(
    ("transition", "result", "arrives"),
    [
        ("tell", FunctionResult(result={}), "Tell Ada the status."),
        ("tell", FunctionResult(result={"error": "x"}, failed=True), None),
        (
            {"field": "found", "cases": {"true": "tell", "false": "sorry"}},
            {"found": True},
            "Tell Ada the status.",
        ),
        ({"field": "found", "cases": {"true": "tell", "false": "sorry"}}, {"found": False}, "Say sorry."),
        ({"field": "found", "cases": {"true": "tell"}, "default": "sorry"}, {"found": "?"}, "Say sorry."),
        ({"field": "found", "cases": {"true": "tell"}, "default": "sorry"}, {}, "Say sorry."),
        ({"field": "found", "cases": {"true": "tell"}}, {}, None),
        (
            {"field": "s", "cases": {"e": "sorry"}},
            FunctionResult(result={"s": "e"}, failed=True),
            "Say sorry.",
        ),
    ],
)
async def test_transition_follows_the_result(transition: Any, result: Any, arrives: str | None) -> None:
    """A transition is taken, a branch by its field; a failed plain one is not; the model continues."""
    outcome = result if isinstance(result, FunctionResult) else FunctionResult(result=result)
    tools = RecordingResolver({"find_order": outcome})
    flow = compile_template(ordering(transition_to=transition), tools)
    async with running_flow(("find_order", {"reason": "asked"}), "Well.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 2)
        last = harness.model.heard[1].messages
        assert harness.manager.current_node == (
            "ask" if arrives is None else flow.config.nodes and harness.manager.current_node
        )
    assert tools.calls == [("find_order", {"reason": "asked"})]
    assert (last[-1]["role"] == "tool") if arrives is None else (last[-1]["content"] == arrives)


async def test_empty_result_lets_the_model_go_on() -> None:
    """A function that has nothing to tell does not leave the caller in silence."""
    flow = compile_template(template(prompt="x"), RecordingResolver({"end_call": FunctionResult(result={})}))
    async with running_flow(("end_call", {}), "Anything else?") as harness:
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 2)
        last = harness.model.heard[1].messages[-1]
    assert last["role"] == "tool"
    assert json.loads(last["content"]) == {"status": "done"}


async def test_function_that_takes_over_keeps_the_model_silent() -> None:
    """A function that answers with `respond=False` leaves node and model alone, transition or not."""
    tools = RecordingResolver({"find_order": FunctionResult(result={"status": "routed"}, respond=False)})
    flow = compile_template(ordering(transition_to="tell"), tools)
    async with running_flow(("find_order", {"reason": "x"}), "Never said.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(tools.calls) == 1)
        await harness.manager.worker.flush_pipeline()
        assert len(harness.model.heard) == 1
        assert harness.manager.current_node == "ask"


async def test_exception_of_a_function_is_reported_to_the_model() -> None:
    """What a function raises reaches the model as an error, and no transition is taken."""

    def resolve(name: str) -> Function:
        async def run(_arguments: Any) -> FunctionResult:
            raise RuntimeError("the shop is closed")

        return Function(name=name, description="", properties={}, required=[], run=run)

    flow = compile_template(ordering(transition_to="tell"), resolve)
    async with running_flow(("find_order", {}), "Sorry.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 2)
        assert "the shop is closed" in harness.model.heard[1].messages[-1]["content"]
        assert harness.manager.current_node == "ask"


PAYLOADS = [
    "{{ name }}",
    "{{ nobody }}",
    r"\{{ name }}",
    "{{ a.b }} }} {{",
    "{{{ name }}}",
    "\\\\{{x}}",
    "{% raw %}",
]


@pytest.mark.parametrize("text", PAYLOADS)
async def test_braces_of_a_payload_stay_what_they_are(text: str) -> None:
    """A value that looks like a placeholder is inserted once, unchanged, and kills nothing."""
    flow = compile_template(ordering(transition_to="tell"), RecordingResolver())
    async with running_flow("Hello.") as harness:
        harness.manager.state.update(values.state({"name": text}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 1)
        assert harness.model.heard[0].messages == [
            {"role": "developer", "content": f"Ask {text} for the order."}
        ]


@pytest.mark.parametrize("text", PAYLOADS)
async def test_conversation_so_far_is_given_back_unchanged(text: str) -> None:
    """Earlier utterances, escaped by `literal`, reach the model unchanged."""
    flow = compile_template(ordering(transition_to="tell"), RecordingResolver())
    async with running_flow("Hello.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        said = [{"role": "user", "content": values.literal(text)}]
        await harness.manager.initialize(entry_node(flow, messages=said))
        await harness.until(lambda: len(harness.model.heard) == 1)
        assert harness.model.heard[0].messages[0] == {"role": "user", "content": text}


async def test_missing_values_render_as_nothing() -> None:
    """An optional value that is missing, at any depth, is inserted as nothing rather than ending the call."""
    content = template(
        prompt="Name: [{{ name }}] Size: [{{ order.item.size }}] Item: [{{ order.item }}]",
        variables=[{"name": "name"}, {"name": "order", "type": "object"}],
    )
    flow = compile_template(content, RecordingResolver())
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "Name: [] Size: [] Item: []"),
        ({"order": {"item": "pizza"}}, "Name: [] Size: [] Item: [pizza]"),
        ({"order": {"item": None}}, "Name: [] Size: [] Item: []"),
        ({"order": {"item": {"size": 3.0}}}, 'Name: [] Size: [3] Item: [{"size": 3.0}]'),
    ]
    for payload, expected in cases:
        async with running_flow("Hello.") as harness:
            resolved = values.resolve(content.variables, payload, source="payload")
            harness.manager.state.update(values.state(resolved))
            await harness.manager.initialize(entry_node(flow))
            await harness.until(lambda: len(harness.model.heard) == 1)
            assert harness.model.heard[0].role == expected


def ending() -> TemplateContent:
    """Two nodes, the second of which ends the call."""
    way = {"name": "finish", "transition_only": True, "description": "Done.", "transition_to": "bye"}
    return template(
        flow={
            "initial_node": "start",
            "nodes": {
                "start": {"role_message": "r", "functions": [way]},
                "bye": {
                    "task_messages": [{"role": "developer", "content": "Say goodbye."}],
                    "post_actions": [{"type": "end_conversation"}],
                },
            },
        }
    )


@pytest.mark.parametrize("interrupted", [False, True])
async def test_last_node_ends_the_call_after_its_words(interrupted: bool) -> None:
    """`end_conversation` calls `end_call` once, after the answer, even if the caller interrupts that."""
    answers_before_end: list[int] = []

    async with running_flow(("finish", {}), "Goodbye.") as harness:

        def resolve(name: str) -> Function:
            async def run(arguments: Any) -> FunctionResult:
                assert arguments == {"reason": "flow_finished"}
                answers_before_end.append(len(harness.model.heard))
                return FunctionResult(result={}, respond=False)

            return Function(name=name, description="", properties={}, required=[], run=run)

        await harness.manager.initialize(entry_node(compile_template(ending(), resolve)))
        harness.model.latency_s = 0.2
        await harness.until(lambda: len(harness.model.heard) == 2)
        assert answers_before_end == []
        if interrupted:
            await harness.manager.worker.queue_frame(InterruptionFrame())
        await harness.until(lambda: bool(answers_before_end))
        await harness.manager.worker.flush_pipeline()
    assert answers_before_end == [2]


async def test_node_with_reset_can_be_entered_again() -> None:
    """A node that resets the context keeps its role and its functions when it is entered again."""
    content = ordering(transition_to="tell")
    assert content.flow is not None
    reset = content.flow.nodes["tell"].model_copy(update={"context_strategy": "reset"})
    content = content.model_copy(
        update={"flow": content.flow.model_copy(update={"nodes": {**content.flow.nodes, "tell": reset}})}
    )
    flow = compile_template(content, RecordingResolver())
    async with running_flow(("find_order", {"reason": "x"}), "Well.") as harness:
        harness.manager.state.update(values.state({"name": "Ada"}))
        await harness.manager.initialize(entry_node(flow))
        await harness.until(lambda: len(harness.model.heard) == 2)
        await harness.manager.set_node_from_config(flow.node("tell"))
        await harness.until(lambda: len(harness.model.heard) == 3)
        for heard in harness.model.heard[1:]:
            assert heard.messages == [{"role": "developer", "content": "Tell Ada the status."}]
            assert heard.role == "You are the shop's agent."
            assert sorted(heard.tools) == ["end_call", "find_order"]
