"""Every rule a template is held to, with the remedy that its author reads.

Codes are stable: clients may depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from templates.problem import Problem, Severity, pointer

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its code, whether breaking it refuses activation, and how to mend it."""

    code: str
    severity: Severity
    remedy: str


_TABLE = (
    # The shape of the document
    Rule("unknown_field", ERROR, "Remove it, or correct its name."),
    Rule("missing_field", ERROR, "Add it."),
    Rule("wrong_type", ERROR, "Write a value of the kind named."),
    Rule("invalid_value", ERROR, "Use one of the values named."),
    Rule("unstorable", ERROR, "Remove or correct it; such a value cannot be kept."),
    # What the template is
    Rule("name_missing", ERROR, "Give the template a name that you will recognise in lists and records."),
    Rule("name_too_long", ERROR, "Shorten the name to 120 characters."),
    Rule(
        "description_missing",
        WARNING,
        "Say in a sentence what the agent does: the orchestrator's model reads it.",
    ),
    Rule("conversation_missing", ERROR, "Write a `prompt` (one step) or a `flow` (several steps)."),
    Rule("conversation_ambiguous", ERROR, "Keep either `prompt` or `flow`; set the other to null."),
    Rule("prompt_empty", ERROR, "Say who the agent is and what it should do."),
    Rule(
        "prompt_long",
        WARNING,
        "Every turn sends the whole text to the model: shorten it, or split it into nodes.",
    ),
    Rule("language_invalid", ERROR, "Use a BCP 47 tag such as `en-US`, `de-DE` or `es-MX`."),
    Rule(
        "language_mismatch",
        WARNING,
        "Route to an agent that speaks the caller's language, or name the agent's language in `when`.",
    ),
    Rule("idle_language", WARNING, "Write `idle.prompts` and `idle.goodbye` in the agent's language."),
    # Numbers
    Rule("number_unknown", ERROR, "Use the id of one of your numbers (GET /api/v1/numbers), or null."),
    Rule("number_inactive", WARNING, "Activate the number, or choose another."),
    Rule("number_missing", WARNING, "Set `number_id` if callers should reach this orchestrator."),
    Rule(
        "number_on_agent",
        WARNING,
        "Remove `number_id`, or make the template an orchestrator: only it answers calls.",
    ),
    # Variables and the texts that insert them
    Rule("variable_name_invalid", ERROR, "Use letters, digits and `_`, not beginning with a digit."),
    Rule("variable_duplicate", ERROR, "Remove one of the two, or rename it."),
    Rule("variable_default_type", ERROR, "Write a default of the variable's own type, or change the type."),
    Rule(
        "variable_required_default",
        WARNING,
        "Remove `required` or `default`: with both, it is never missing.",
    ),
    Rule("variable_unused", WARNING, "Insert it with `{{ name }}`, keep something in it, or remove it."),
    Rule(
        "variable_unprovided",
        ERROR,
        "Give it a default, make it optional, or fill it with an HTTP function's `keep`.",
    ),
    Rule("payload_on_inbound", WARNING, "Callers bring no payload: give it a default, or make it optional."),
    Rule("placeholder_undeclared", ERROR, "Declare it in `variables`, or correct its name."),
    Rule(
        "placeholder_path",
        ERROR,
        "Only variables of type `object` have parts: change its type, or drop the part.",
    ),
    Rule(
        "placeholder_malformed",
        WARNING,
        "Write `{{ name }}` or `{{ name.part }}` with letters, digits and `_` only.",
    ),
    Rule("placeholder_not_rendered", WARNING, "Nothing is inserted here: write it without `{{ }}`."),
    # What is spoken
    Rule(
        "greeting_empty",
        ERROR,
        "Write the first words, or set `greeting` to null so that the model finds them.",
    ),
    Rule("greeting_too_long", ERROR, "Shorten it to 1000 characters: nobody listens to more."),
    Rule("greeting_long", WARNING, "Shorten it to 300 characters (about 20 seconds)."),
    Rule("idle_prompt_empty", ERROR, "Write what should be said, or remove the prompt."),
    Rule("idle_prompts_many", WARNING, "Keep five or fewer: a silent caller has gone."),
    Rule("idle_goodbye_empty", WARNING, "Write a goodbye, or the call ends without a word."),
    Rule("out_of_range", ERROR, "Choose a value within the bounds."),
    Rule("min_words_unused", WARNING, "Set `barge_in` to true or `min_words` to 0."),
    Rule("voice_missing", ERROR, "Set `tts.voice_id` to a voice of the provider."),
    Rule("voice_default", WARNING, "Set `tts.voice_id`: agents that leave it out all sound the same."),
    Rule("provider_unknown", ERROR, "Use one of the providers named."),
    # Functions
    Rule("function_unknown", ERROR, "Declare it in `functions`, or use a built-in one."),
    Rule("function_duplicate", ERROR, "Remove one of the two, or rename it."),
    Rule("function_name_invalid", ERROR, "Use 1 to 64 letters, digits, `_` or `-`."),
    Rule("function_name_reserved", ERROR, "Rename it: built-in functions keep their names."),
    Rule(
        "function_undescribed",
        WARNING,
        "Say what it does and when to call it: the model decides by this text.",
    ),
    Rule("functions_alike", WARNING, "Say in each what sets it apart from the other."),
    Rule(
        "route_function_automatic",
        WARNING,
        "Remove it: `route_to_agent` is offered by itself where there is a way.",
    ),
    Rule("destinations_missing", ERROR, "Add the numbers it may dial to `destinations`."),
    Rule(
        "destinations_unused",
        WARNING,
        "{better}",
    ),
    Rule("destination_name_invalid", ERROR, "Use 1 to 64 letters, digits, `_` or `-`."),
    Rule("destination_duplicate", ERROR, "Remove one of the two, or rename it."),
    Rule(
        "destination_number_invalid",
        ERROR,
        "Write it in E.164: `+`, country code and number, e.g. `+14155550123`.",
    ),
    # HTTP functions
    Rule("url_missing", ERROR, "Write the https address to call."),
    Rule("url_invalid", ERROR, "Write a whole address such as `https://api.example.com/orders`."),
    Rule("url_insecure", WARNING, "Use https: what callers say would travel in the clear."),
    Rule("url_credentials", ERROR, "Take user and password out of the URL; put them into `secret_headers`."),
    Rule("url_host_templated", ERROR, "Write the host out; `{{ }}` may stand in path and query only."),
    Rule(
        "url_private_address",
        ERROR,
        "Use a public address, or have the operator allow it in VOICEBOT_HTTP_ALLOW.",
    ),
    Rule("parameters_invalid", ERROR, "Correct the JSON Schema there."),
    Rule(
        "parameters_not_object", ERROR, 'Write a schema of an object: {"type": "object", "properties": {…}}.'
    ),
    Rule("parameters_remote", ERROR, "Write the schema out, or refer to a part of it with `#/$defs/…`."),
    Rule("parameters_reference_unknown", ERROR, "Correct the reference, or add that part under `$defs`."),
    Rule(
        "parameters_endless",
        ERROR,
        "Write out as many levels as you need: a model is shown a schema in full.",
    ),
    Rule(
        "parameters_pattern_unsupported", ERROR, "Write it in RE2's syntax: no lookaround, no backreferences."
    ),
    Rule("parameters_names_unsupported", ERROR, "Name each property under `properties`."),
    Rule("parameter_name_invalid", ERROR, "Use 1 to 64 letters, digits, `_` or `-`."),
    Rule("parameter_undefined", ERROR, "Add it to `properties`, or take it out of `required`."),
    Rule("parameter_undescribed", WARNING, "Give it a `description`: the model fills it in by this text."),
    Rule("parameter_shadows_variable", WARNING, "Rename one of the two: here `{{ }}` inserts the parameter."),
    Rule(
        "keep_pointer_invalid",
        ERROR,
        "Write a JSON pointer such as `/order/status` (or an empty one for all).",
    ),
    Rule("keep_variable_undeclared", ERROR, "Declare it in `variables` with source `call`."),
    Rule(
        "keep_variable_source",
        ERROR,
        "Give the variable the source `call`: the payload's values stay as given.",
    ),
    Rule("header_invalid", ERROR, "Header names are letters, digits and `-`; values have no line breaks."),
    Rule("header_reserved", ERROR, "Remove it: it is set by the request itself."),
    Rule("header_duplicate", ERROR, "Keep it in one of `headers` and `secret_headers`."),
    Rule(
        "header_secret",
        WARNING,
        "Move it to `secret_headers`: everyone who may read the template reads this one.",
    ),
    Rule("body_unsent", WARNING, "GET and HEAD send no body: use `query`, or another method."),
    Rule("wait_text_empty", ERROR, "Write what to say while waiting, or set it to null."),
    # The flow
    Rule("flow_empty", ERROR, "Add at least one node."),
    Rule("initial_node_unknown", ERROR, "Name one of the flow's nodes."),
    Rule("node_name_empty", ERROR, "Give the node a name."),
    Rule("node_unreachable", ERROR, "Lead to it from another node with `transition_to`, or remove it."),
    Rule("node_silent", WARNING, "Add a task message: the model is not told what to do at this node."),
    Rule("role_message_missing", ERROR, "Say in `role_message` of the first node who the agent is."),
    Rule("message_role_invalid", ERROR, "Use `developer`, `system`, `user` or `assistant`."),
    Rule("transition_unknown_node", ERROR, "Name one of the flow's nodes, or add the node."),
    Rule("transition_never_taken", WARNING, "Remove `transition_to`: the call has left the flow by then."),
    Rule("transition_only_undescribed", ERROR, "Say in `description` when the model should take this way."),
    Rule("transition_only_target", ERROR, "Set `transition_to` to the name of one node."),
    Rule(
        "function_description_refused",
        ERROR,
        "Describe the function in `functions`; here only its name is written.",
    ),
    Rule("function_shadowed", ERROR, "Rename it: the template's function of this name would be hidden."),
    Rule("branch_empty", ERROR, "Add at least one case, or write the node's name in place of the branch."),
    Rule("action_refused", ERROR, "Remove it. {better}"),
    Rule("action_end_early", ERROR, "Move it to `post_actions`, so that the agent's words are heard first."),
    Rule(
        "action_option_refused", ERROR, "Remove it; let the model say goodbye by the node's `task_messages`."
    ),
    Rule(
        "no_exit",
        WARNING,
        "Offer `end_call`, or end with a node that has `end_conversation` in `post_actions`.",
    ),
    # Routes, and the graph of templates
    Rule("routes_missing", ERROR, "Add a route to an agent, or make the template an agent."),
    Rule("routes_on_agent", ERROR, "Remove the routes, or make the template an orchestrator."),
    Rule("route_name_invalid", ERROR, "Use 1 to 64 letters, digits, `_` or `-`."),
    Rule("route_name_reserved", ERROR, "Rename it: `back` is the way back to the orchestrator."),
    Rule("route_duplicate", ERROR, "Remove one of the two, or rename it."),
    Rule("route_to_itself", ERROR, "Route to another template."),
    Rule("target_missing", ERROR, "Use the id of one of your templates (GET /api/v1/templates)."),
    Rule("target_inactive", ERROR, "Activate that template first."),
    Rule("target_not_agent", ERROR, "Route to a template of kind `agent`: orchestrators are not routed to."),
    Rule("target_duplicate", WARNING, "Keep one of the routes and say in its `when` what both were for."),
    Rule("route_when_missing", WARNING, "Say when the model should route there."),
    Rule("routes_alike", WARNING, "Say in each `when` what sets it apart from the other."),
    Rule(
        "context_without_variables",
        WARNING,
        "Declare variables in the target, or hand over more of the conversation.",
    ),
    Rule("announce_empty", ERROR, "Write what to say before the change, or set it to null for a silent one."),
    Rule("target_variable_unprovided", ERROR, "{better}"),
    Rule("hop_limit_zero", ERROR, "Raise `limits.max_hops`: no route could ever be taken."),
    Rule("hop_limit_low", WARNING, "Raise `limits.max_hops` to 2 or more, or set `can_return` to false."),
    Rule(
        "no_way_out",
        WARNING,
        "Allow `can_return`, or give the agent `end_call`, `transfer_to_number` or the like.",
    ),
    Rule("agent_unreached", WARNING, "Add a route to it in an active orchestrator."),
)

RULES: Mapping[str, Rule] = {rule.code: rule for rule in _TABLE}
"""Rule by code."""


def broken(code: str, where: tuple[str | int, ...], message: str, *, better: str = "") -> Problem:
    """A rule that a document breaks.

    Args:
        code: of ``RULES``.
        where: keys and indexes that lead to the place.
        message: what is wrong there, naming the parts.
        better: the part of the remedy that depends on the case, for rules whose remedy has ``{better}``.
    """
    rule = RULES[code]
    return Problem(
        pointer=pointer(*where),
        code=code,
        message=message,
        remedy=rule.remedy.replace("{better}", better).strip(),
        severity=rule.severity,
    )
