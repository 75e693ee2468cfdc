"""Sample accounts with valid templates of any structure; ``rule_violations`` breaks one rule at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from templates.check import CheckContext, KnownNumber
from templates.model import TemplateContent
from voicebot.config import Settings
from voicebot.providers.registry import Providers

Item = TypeVar("Item")
Document = dict[str, Any]

ORCHESTRATOR_ID = "0190a000-0000-7000-8000-0000000000f0"
NUMBER_ID = "0190a000-0000-7000-8000-0000000000a1"
NUMBER = "+14155550101"
INACTIVE_NUMBER_ID = "0190a000-0000-7000-8000-0000000000a2"

TOPICS = (
    "invoices payments",
    "parcels couriers",
    "broken devices",
    "lost passwords",
    "medical appointments",
    "job applications",
    "table reservations",
    "press enquiries",
)


class ShapeChooser(Protocol):
    """Chooses the structure of a sample account."""

    def choose(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        ...

    def count(self, minimum: int, maximum: int) -> int:
        """A number from ``minimum`` to ``maximum``."""
        ...


class FirstChoice:
    """Always chooses the first item and the smallest number."""

    def choose(self, items: Sequence[Item]) -> Item:
        """The first."""
        return items[0]

    def count(self, minimum: int, maximum: int) -> int:
        """The smallest."""
        return minimum


@dataclass
class HypothesisChoice:
    """Choices drawn by hypothesis."""

    draw: Callable[[st.SearchStrategy[Any]], Any]

    def choose(self, items: Sequence[Item]) -> Item:
        """Any."""
        return self.draw(st.sampled_from(list(items)))  # type: ignore[no-any-return]

    def count(self, minimum: int, maximum: int) -> int:
        """Any."""
        return self.draw(st.integers(minimum, maximum))  # type: ignore[no-any-return]


PROVIDERS = Providers(
    Settings(
        _env_file=None,
        DEEPGRAM_API_KEY="a key",
        ELEVENLABS_API_KEY="a key",
        OPENAI_API_KEY="a key",
        VOICEBOT_LLM_ENDPOINTS={
            "unset": {"base_url": "https://example.com/v1", "model": "any", "api_key_env": "NO_SUCH_VARIABLE"}
        },
    )
).rules()
"""Provider rules of a server with all API keys except one."""


@dataclass
class SampleAccount:
    """The templates and numbers of an account; ``checked`` is the id of the checked template."""

    documents: dict[str, Document]
    numbers: dict[str, KnownNumber]
    checked: str = ORCHESTRATOR_ID
    chooser: ShapeChooser = field(default_factory=FirstChoice)

    @property
    def document(self) -> Document:
        """The template that is checked."""
        return self.documents[self.checked]

    def agent(self, *, with_flow: bool = False) -> Document:
        """Select an agent as the checked template and return its document."""
        agents = [key for key, each in self.documents.items() if each["kind"] == "agent"]
        self.checked = self.chooser.choose(agents)
        if with_flow and self.document["flow"] is None:
            self.document.update(prompt=None, flow=make_flow(self.chooser, []))
        return self.document

    def check_context(self) -> CheckContext:
        """The context for the check of the checked template."""
        others = {
            key: TemplateContent.model_validate(each)
            for key, each in self.documents.items()
            if key != self.checked
        }
        return CheckContext(
            template_id=self.checked,
            templates=others,
            numbers=self.numbers,
            providers=PROVIDERS,
        )


def make_account(chooser: ShapeChooser | None = None) -> SampleAccount:
    """An orchestrator with at least two agents, all valid."""
    chooser = chooser or FirstChoice()
    topics = list(TOPICS[: chooser.count(2, len(TOPICS))])
    agents = {f"0190a000-0000-7000-8000-{index:012d}": topic for index, topic in enumerate(topics)}
    documents = {key: make_agent(chooser, topic) for key, topic in agents.items()}
    documents[ORCHESTRATOR_ID] = make_orchestrator(chooser, agents)
    return SampleAccount(
        documents,
        {
            NUMBER_ID: KnownNumber(active=True, carrier="twilio", e164=NUMBER),
            INACTIVE_NUMBER_ID: KnownNumber(active=False, carrier="twilio"),
        },
        chooser=chooser,
    )


def make_agent(chooser: ShapeChooser, topic: str) -> Document:
    """An agent with a prompt or a flow."""
    has_flow = chooser.choose([False, True])
    return {
        "name": f"Agent for {topic}",
        "description": f"Knows about {topic}.",
        "kind": "agent",
        "status": "active",
        "number_id": None,
        "language": chooser.choose(["en-US", "en-GB", "en"]),
        "prompt": None if has_flow else f"You know about {topic}. The caller is {{{{ customer }}}}.",
        "flow": make_flow(chooser, []) if has_flow else None,
        "variables": [
            {"name": "customer", "type": "string"},
            {
                "name": "reason",
                "description": "What the caller needs",
                "source": "call",
                "required": chooser.choose([True, False]),
            },
        ],
        "greeting": {"text": "Hello {{ customer }}, you called about {{ reason }}?"},
        "tts": {"voice_id": f"voice-{topic.split()[0]}"},
        "functions": [{"type": "builtin", "name": "end_call"}],
        "routes": [],
        "destinations": [],
    }


def make_orchestrator(chooser: ShapeChooser, agents: dict[str, str]) -> Document:
    """An orchestrator that uses every field of a template."""
    lookups = [make_http(chooser, f"find_{index}", index) for index in range(chooser.count(1, 3))]
    return {
        "name": "Front desk",
        "description": "",
        "kind": "orchestrator",
        "status": "active",
        "number_id": NUMBER_ID,
        "language": "en-US",
        "prompt": None,
        "flow": make_flow(chooser, [lookup["name"] for lookup in lookups]),
        "variables": [
            {"name": "customer", "default": chooser.choose(["nobody", None])},
            {"name": "order", "type": "object"},
            *({"name": f"status_{index}", "source": "call"} for index in range(len(lookups))),
            {"name": "visits", "type": "integer", "default": 3},
        ],
        "greeting": {"text": "Hello {{ customer }}.", "interruptible": chooser.choose([True, False])},
        "tts": {"provider": "elevenlabs", "voice_id": "front", "settings": {"speed": 1.1}},
        "stt": {"provider": "deepgram", "model": chooser.choose([None, "nova-3"])},
        "llm": {"provider": "openai", "settings": {"temperature": 0.2}},
        "turns": {
            "strategy": chooser.choose(["stt", "silero", "smart_turn"]),
            "end_silence_ms": chooser.count(100, 5000),
        },
        "idle": {"after_ms": 5000, "prompts": ["Are you there?", "{{ customer }}?"], "goodbye": "Goodbye."},
        "functions": [
            {"type": "builtin", "name": "end_call"},
            {"type": "builtin", "name": "transfer_to_number"},
            *lookups,
        ],
        "routes": [
            {
                "name": f"route-{topic.split()[0]}",
                "template_id": key,
                "when": f"The caller asks about {topic}.",
                "context": chooser.choose(["full", "summary", "variables"]),
                "announce": chooser.choose(["One moment, {{ customer }}.", None]),
                "can_return": chooser.choose([True, False]),
            }
            for key, topic in agents.items()
        ],
        "destinations": [{"name": "office", "number": "+14155550123"}],
        "limits": {"max_hops": chooser.count(2, 50), "max_duration_ms": 600_000},
    }


def make_http(chooser: ShapeChooser, name: str, index: int) -> Document:
    """An HTTP function that uses every field."""
    return {
        "type": "http",
        "name": name,
        "description": f"Looks up {TOPICS[-1 - index]}.",
        "method": chooser.choose(["POST", "PUT"]),
        "url": f"https://api.example.com/{name}/{{{{ number }}}}?customer={{{{ customer }}}}",
        "query": {"size": "{{ order.size }}"},
        "headers": {"Accept-Language": "en"},
        "secret_headers": {"Authorization": "Bearer x"},
        "body": {"number": "{{ number }}", "list": ["{{ visits }}"]},
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string", "description": "As the caller says it."}},
            "required": ["number"],
        },
        "timeout_ms": 3000,
        "wait_text": chooser.choose(["One moment, I look up {{ number }}.", None]),
        "keep": {f"status_{index}": "/status"},
    }


def make_flow(chooser: ShapeChooser, functions: Sequence[str]) -> Document:
    """A chain of nodes with optional transitions back, and with branches on the functions."""
    names = [f"node {index}" for index in range(chooser.count(2, 6))]
    nodes: dict[str, Document] = {}
    for index, name in enumerate(names):
        ways = [("next", names[index + 1])] if index + 1 < len(names) else []
        ways += [("again", chooser.choose(names))] if chooser.choose([False, True]) else []
        nodes[name] = {
            "task_messages": [{"role": "developer", "content": f"Do {name} with {{{{ customer }}}}."}],
            "functions": [
                {
                    "name": f"go_{way}",
                    "transition_only": True,
                    "description": f"Go {way}.",
                    "transition_to": target,
                }
                for way, target in ways
            ],
        }
    nodes[names[0]]["role_message"] = "You are an agent. You speak with {{ customer }}."
    nodes[names[-1]]["post_actions"] = [{"type": "end_conversation"}]
    for function in functions:
        branch = {
            "field": "status",
            "cases": {"ok": chooser.choose(names), "no": names[0]},
            "default": names[-1],
        }
        node = nodes[chooser.choose(names)]
        node["functions"].append(
            {"name": function, "transition_to": chooser.choose([branch, names[-1], None])}
        )
    return {"initial_node": names[0], "nodes": nodes, "global_functions": []}


@st.composite
def sample_accounts(draw: Callable[[st.SearchStrategy[Any]], Any]) -> SampleAccount:
    """Valid sample accounts of any structure."""
    return make_account(HypothesisChoice(draw))
