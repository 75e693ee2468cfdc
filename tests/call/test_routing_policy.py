"""The rules of routing: voicebot.call.routing.policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from pipecat.flows import Flow, FlowConfig

from handlers.context import Refused
from templates.model import TemplateContent
from voicebot.call.agents import BACK, Agent, AgentPool, ServiceKeys
from voicebot.call.routing.policy import RoutingPolicy

NODE: dict[str, Any] = {"task_messages": []}


def ready(agent: Agent) -> Agent:
    """The agent with services and a flow."""
    agent.keys = ServiceKeys(stt="stt", llm="llm", tts=agent.name)
    agent.flow = Flow(FlowConfig.model_validate({"initial_node": "a", "nodes": {"a": NODE}}), handlers={})
    return agent


def orchestrator(routes: list[dict[str, Any]], **limits: int) -> Agent:
    """The agent who answers, with these routes."""
    content = TemplateContent.model_validate(
        {"name": "front", "kind": "orchestrator", "routes": routes, "limits": limits}
    )
    return ready(Agent(name="orchestrator", route=None, template_id=uuid4(), revision=1, content=content))


def agent_pool(*names: str, can_return: bool = True, max_hops: int = 6) -> AgentPool:
    """A pool whose targets are all ready."""
    routes = [
        {"name": name, "template_id": str(uuid4()), "when": f"for {name}", "can_return": can_return}
        for name in names
    ]
    front = orchestrator(routes, max_hops=max_hops)
    pool = AgentPool(front)
    for route in front.content.routes:
        variables = [{"name": "order", "type": "integer", "source": "call", "required": True}]
        content = TemplateContent.model_validate({"name": route.name, "variables": variables})
        pool.targets[route.name] = ready(
            Agent(
                name=route.name,
                route=route,
                template_id=UUID(route.template_id),
                revision=1,
                content=content,
            )
        )
    return pool


def decide(policy: RoutingPolicy, name: str, **variables: Any) -> Mapping[str, Any] | Refused:
    """Ask for a route while none is under way."""
    return policy.decide(name, variables, is_routing=False)


def hand_over(pool: AgentPool, policy: RoutingPolicy, name: str) -> None:
    """Do a route."""
    path = pool.path_to(name)
    assert path is not None
    policy.routed(pool.current, name)
    pool.hand_over(path)


def code(answer: Mapping[str, Any] | Refused) -> str:
    """The code of a refusal."""
    assert isinstance(answer, Refused)
    return answer.code


def test_a_ready_agent_can_be_routed_to_with_its_variables() -> None:
    """A route to a ready agent is accepted, its variables coerced to their declared types."""
    assert decide(RoutingPolicy(agent_pool("billing")), "billing", order="17") == {"order": 17}


def test_an_unknown_agent_is_refused_with_those_that_can_be_chosen() -> None:
    """A name that is no route is refused, and the refusal names the agents that can be chosen."""
    answer = decide(RoutingPolicy(agent_pool("billing", "visits")), "sales")
    assert code(answer) == "unknown_agent"
    assert "billing, visits" in cast(Refused, answer).message


def test_an_agent_that_is_not_ready_is_refused() -> None:
    """An agent whose services are not connected is not offered, and refused when it is asked for."""
    pool = agent_pool("billing", "visits")
    pool.targets["billing"].keys = None
    policy = RoutingPolicy(pool)
    assert [d.name for d in pool.destinations()] == ["visits"]
    assert code(decide(policy, "billing", order=1)) == "not_ready"


def test_missing_variables_are_named() -> None:
    """A route without a variable that its target requires is refused with the variable's name."""
    answer = decide(RoutingPolicy(agent_pool("billing")), "billing")
    assert code(answer) == "invalid_variables"
    assert "order" in cast(Refused, answer).message


def test_back_leads_to_the_orchestrator_where_the_author_allows_it() -> None:
    """Only an agent whose route can return may route back."""
    for allowed in (True, False):
        pool = agent_pool("billing", can_return=allowed)
        policy = RoutingPolicy(pool)
        hand_over(pool, policy, "billing")
        policy.caller_spoke()
        assert isinstance(decide(policy, BACK), Refused) != allowed
        assert pool.find(BACK) is pool.answering


def test_the_orchestrator_cannot_go_back() -> None:
    """The agent who answered the call cannot route back."""
    assert code(decide(RoutingPolicy(agent_pool("billing")), BACK)) == "unknown_agent"


def test_going_back_before_the_caller_spoke_is_ping_pong() -> None:
    """An agent cannot give the caller straight back before the caller has said anything to it."""
    pool = agent_pool("billing")
    policy = RoutingPolicy(pool)
    hand_over(pool, policy, "billing")
    assert code(decide(policy, BACK)) == "ping_pong"
    policy.caller_spoke()
    assert not isinstance(decide(policy, BACK), Refused)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_hops_are_limited(limit: int) -> None:
    """After max_hops routes every further route is refused, routes back included."""
    pool = agent_pool("billing", max_hops=limit)
    policy = RoutingPolicy(pool)
    for hop in range(limit):
        hand_over(pool, policy, "billing" if hop % 2 == 0 else BACK)
        policy.caller_spoke()
    name = BACK if limit % 2 else "billing"
    assert code(decide(policy, name, order=1)) == "hop_limit"


def test_only_one_route_at_a_time() -> None:
    """While the call is changing agent a second route is refused."""
    answer = RoutingPolicy(agent_pool("billing")).decide("billing", {"order": 1}, is_routing=True)
    assert code(answer) == "already_routing"
