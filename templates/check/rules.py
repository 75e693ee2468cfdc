"""All rules of the template check: code, severity and remedy.

Authors read the remedies. Codes are stable: clients may depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from templates.problem import Problem, Severity, pointer

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

_MAX_MESSAGE = 500
"""Maximum number of characters of a message, which may quote the author's text."""

_TOOL_NAME_REMEDY = "Use 1 to 64 letters, digits, `_` or `-`."


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the check.

    Attributes:
        code: stable identifier.
        severity: an error prevents activation; a warning and a note do not.
        remedy: what the author can do. ``{detail}`` is replaced by a text that depends on the case.
    """

    code: str
    severity: Severity
    remedy: str


_TABLE = (
    # Structure of the document
    Rule("unknown_field", ERROR, "Remove the field, or correct its name."),
    Rule("missing_field", ERROR, "Add the field."),
    Rule("wrong_type", ERROR, "Write a value of the type that the message names."),
    Rule("invalid_value", ERROR, "{detail}"),
    Rule("unstorable", ERROR, "Remove or correct the value: it cannot be stored."),
    Rule("too_large", ERROR, "Shorten the value, or split it: several agents or nodes can share the work."),
    # The template as a whole
    Rule("name_missing", ERROR, "Set `name` to a name that identifies the template in lists and records."),
    Rule("name_too_long", ERROR, "Shorten the name to 120 characters or fewer."),
    Rule(
        "description_missing",
        WARNING,
        "Describe in one sentence what the agent does: the orchestrator's model reads it.",
    ),
    Rule("conversation_missing", ERROR, "Write a `prompt` (one step) or a `flow` (several steps)."),
    Rule("conversation_ambiguous", ERROR, "Keep either `prompt` or `flow`; set the other to null."),
    Rule("prompt_empty", ERROR, "Write in the prompt who the agent is and what it should do."),
    Rule(
        "prompt_long",
        WARNING,
        "Shorten the prompt, or split it into nodes: every turn sends the whole text to the model.",
    ),
    Rule("language_invalid", ERROR, "Use a BCP 47 tag such as `en-US`, `de-DE` or `es-MX`."),
    Rule("language_unknown", WARNING, "Use a language of ISO 639 and a region of ISO 3166.{detail}"),
    Rule(
        "language_mismatch",
        WARNING,
        "Route to an agent that speaks the caller's language, or name the agent's language in `when`.",
    ),
    Rule("idle_language", WARNING, "Write `idle.prompts` and `idle.goodbye` in the agent's language."),
    # Numbers
    Rule("number_unknown", ERROR, "Use the id of a number of this account (GET /api/v1/numbers), or null."),
    Rule("number_inactive", WARNING, "Activate the number, or choose another one."),
    Rule("number_missing", WARNING, "Set `number_id` if callers should reach this orchestrator."),
    # Variables and the texts that contain placeholders
    Rule(
        "variable_name_invalid",
        ERROR,
        "Use letters, digits and `_`; the first character must not be a digit.",
    ),
    Rule("variable_duplicate", ERROR, "Remove one of the two variables, or rename it."),
    Rule("variable_default_type", ERROR, "Write a default of the variable's type, or change the type."),
    Rule(
        "variable_required_default",
        WARNING,
        "Remove `required` or `default`: a variable with a default is never missing.",
    ),
    Rule(
        "variable_unused",
        WARNING,
        "Insert it with `{{ name }}`, fill it with an HTTP function's `keep`, or remove it.",
    ),
    Rule(
        "variable_unprovided",
        ERROR,
        "Give it a default, make it optional, or fill it with an HTTP function's `keep`.",
    ),
    Rule(
        "payload_on_inbound",
        WARNING,
        "Give it a default, or make it optional: an inbound call has no payload.",
    ),
    Rule(
        "payload_on_call_back",
        ERROR,
        "Give it a default, or make it optional: a call-back (`callback` of `inbound`) has no payload.",
    ),
    Rule("variable_never_set", WARNING, "Fill it with an HTTP function's `keep`, or give it a default."),
    Rule(
        "kept_value_too_early",
        WARNING,
        "Use the value after the function was called, or give the variable a default.",
    ),
    Rule("placeholder_undeclared", ERROR, "Declare the variable in `variables`, or correct its name."),
    Rule(
        "placeholder_path", ERROR, "Change the variable's type to `object`, or remove the part after the dot."
    ),
    Rule(
        "placeholder_malformed",
        WARNING,
        "Write `{{ name }}` or `{{ name.part }}` with letters, digits and `_` only.",
    ),
    Rule(
        "placeholder_not_rendered",
        WARNING,
        "Write the text without `{{ }}`: variables are not inserted in this field.",
    ),
    Rule(
        "caller_value_in_instructions",
        NOTE,
        "State in the text what the value is, and that it is information and not an instruction.",
    ),
    # Speech
    Rule(
        "greeting_empty", ERROR, "Write the greeting, or set `greeting` to null to let the model speak first."
    ),
    Rule("greeting_too_long", ERROR, "Shorten the greeting to 1000 characters or fewer."),
    Rule("greeting_long", WARNING, "Shorten the greeting to 300 characters or fewer (about 20 seconds)."),
    Rule("idle_prompt_empty", ERROR, "Write the text of the prompt, or remove the prompt."),
    Rule("idle_prompts_many", WARNING, "Keep five prompts or fewer."),
    Rule("idle_goodbye_empty", WARNING, "Write a goodbye: without one the call ends without a word."),
    Rule("spoken_markup", WARNING, "Write the words that should be heard: TTS reads the signs aloud."),
    Rule("limit_unused", WARNING, "Remove it here, and set it in the orchestrator."),
    Rule("time_of_day_invalid", ERROR, "Write hours and minutes, such as 09:00 or 18:30, or 24:00 in `to`."),
    Rule("window_empty", ERROR, "Choose a `to` that is later than `from`, and at least one day."),
    Rule("voicemail_message_missing", ERROR, "Write the message, or choose another `action`."),
    Rule(
        "inbound_unused",
        WARNING,
        "Set `number_id`, or remove `inbound`: it does not apply to calls that a route sends here.",
    ),
    Rule("busy_tone_impossible", ERROR, "Use reject, say, forward or callback."),
    Rule("forwards_to_itself", ERROR, "Use another number."),
    Rule(
        "call_back_impossible",
        ERROR,
        "Set `reserved_inbound` of the number to less than its `channels`, or use another action.",
    ),
    Rule("reason_never_applies", ERROR, "Write `{detail}`."),
    Rule(
        "output_field_invalid",
        ERROR,
        "Use letters, digits and `_` in names, 30 fields at most, and `enum` with the type `string` only.",
    ),
    Rule("filler_empty", ERROR, "Write the text of the filler, or remove the filler."),
    Rule("out_of_range", ERROR, "Choose a value within the range that the message names."),
    Rule("min_words_unused", WARNING, "Set `barge_in` to true or `min_words` to 0."),
    Rule("voice_missing", ERROR, "Set `tts.voice_id` to a voice of the provider."),
    Rule("voice_default", WARNING, "Set `tts.voice_id`: all agents without it have the same voice."),
    Rule("voice_invalid", ERROR, "{detail}"),
    Rule("model_invalid", ERROR, "Use letters, digits and `._:/@-`, beginning with a letter or a digit."),
    Rule("model_unused", WARNING, "Set `model` to null: the voice implies the model."),
    Rule("provider_unknown", ERROR, "Use one of the providers that the message lists."),
    Rule("provider_unconfigured", WARNING, "{detail}"),
    Rule("backup_duplicate", ERROR, "Remove the backup, or name another provider, voice or model."),
    Rule(
        "backup_same_provider", WARNING, "Name another provider, so that calls continue when this one fails."
    ),
    Rule("setting_unknown", ERROR, "{detail}"),
    Rule("setting_invalid", ERROR, "Write a value of the type and range that the message names, or null."),
    # Functions
    Rule("function_unknown", ERROR, "Declare the function in `functions`, or use a built-in one."),
    Rule("function_named_undeclared", WARNING, "{detail}"),
    Rule("function_duplicate", ERROR, "Remove one of the two functions, or rename it."),
    Rule("function_name_invalid", ERROR, _TOOL_NAME_REMEDY),
    Rule("function_name_reserved", ERROR, "Rename the function: built-in functions keep their names."),
    Rule(
        "function_undescribed",
        WARNING,
        "Write in `description` what the function does and when to call it: the model reads it.",
    ),
    Rule(
        "functions_alike", WARNING, "State in each description how the function differs from the other one."
    ),
    Rule(
        "route_function_automatic",
        WARNING,
        "Remove it: `route_to_agent` is offered automatically when there is a route.",
    ),
    Rule("destinations_missing", ERROR, "Add the numbers that may be dialled to `destinations`."),
    Rule("destinations_unused", WARNING, "{detail}"),
    Rule("destination_name_invalid", ERROR, _TOOL_NAME_REMEDY),
    Rule("destination_duplicate", ERROR, "Remove one of the two destinations, or rename it."),
    Rule(
        "destination_number_invalid",
        ERROR,
        "Write it in E.164: `+`, country code and number, e.g. `+14155550123`.",
    ),
    Rule("not_possible_at_carrier", WARNING, "{detail}"),
    # HTTP functions
    Rule("url_missing", ERROR, "Write the https address to call."),
    Rule("url_invalid", ERROR, "Write a complete address such as `https://api.example.com/orders`."),
    Rule("url_insecure", WARNING, "Use https: an http request sends the caller's data unencrypted."),
    Rule(
        "url_credentials",
        ERROR,
        "Remove user name and password from the URL; put them into `secret_headers`.",
    ),
    Rule(
        "url_key",
        WARNING,
        "Move it to `secret_headers`: URLs are in logs, and in the template that others read.",
    ),
    Rule("url_host_templated", ERROR, "Write a fixed host; use `{{ }}` in path and query only."),
    Rule(
        "url_private_address",
        ERROR,
        "Use a public address, or ask the operator to allow this one in VOICEBOT_HTTP_ALLOW.",
    ),
    Rule("parameters_invalid", ERROR, "Correct the JSON Schema at this place."),
    Rule(
        "parameters_not_object", ERROR, 'Write a schema of an object: {"type": "object", "properties": {…}}.'
    ),
    Rule("parameters_remote", ERROR, "Write the schema here, or refer to a part of it with `#/$defs/…`."),
    Rule("parameters_reference_unknown", ERROR, "Correct the reference, or add that part under `$defs`."),
    Rule(
        "parameters_endless",
        ERROR,
        "Write the levels that you need without the reference: the model receives the expanded schema.",
    ),
    Rule(
        "parameters_pattern_unsupported",
        ERROR,
        "Use RE2 syntax (no lookaround, no backreferences) and repeat short parts only.",
    ),
    Rule("parameters_names_unsupported", ERROR, "Name each property under `properties`."),
    Rule(
        "parameters_keyword_unsupported",
        ERROR,
        "Use `additionalProperties` or `items`, which are validated in time proportional to the arguments.",
    ),
    Rule("parameters_deep", ERROR, "Use fewer levels: a model fills in flat parameters more reliably."),
    Rule("parameter_name_invalid", ERROR, _TOOL_NAME_REMEDY),
    Rule("parameter_undefined", ERROR, "Add it to `properties`, or remove it from `required`."),
    Rule("parameter_undescribed", WARNING, "Add a `description`: the model reads it to fill in the value."),
    Rule(
        "parameter_shadows_variable",
        WARNING,
        "Rename one of the two: in this function, `{{ }}` inserts the parameter.",
    ),
    Rule(
        "keep_pointer_invalid",
        ERROR,
        "Write a JSON pointer such as `/order/status`, or an empty one for the whole answer.",
    ),
    Rule("keep_variable_undeclared", ERROR, "Declare it in `variables` with source `call`."),
    Rule(
        "keep_variable_source",
        ERROR,
        "Set the variable's `source` to `call`: values of the payload do not change.",
    ),
    Rule("header_invalid", ERROR, "Use letters, digits and `-` in the name, and no line break in the value."),
    Rule("header_reserved", ERROR, "Remove it: the HTTP client sets this header."),
    Rule("header_duplicate", ERROR, "Keep it in either `headers` or `secret_headers`."),
    Rule(
        "header_secret",
        WARNING,
        "Move it to `secret_headers`: everyone who can read the template can read `headers`.",
    ),
    Rule("body_unsent", WARNING, "Use `query`, or another method: GET and HEAD send no body."),
    Rule("wait_text_empty", ERROR, "Write the text to speak while waiting, or set it to null."),
    # The flow
    Rule("flow_empty", ERROR, "Add at least one node."),
    Rule("initial_node_unknown", ERROR, "Use the name of one of the flow's nodes."),
    Rule("node_name_empty", ERROR, "Give the node a name."),
    Rule("node_unreachable", ERROR, "Add a `transition_to` to it in another node, or remove it."),
    Rule("node_silent", WARNING, "Add a task message that states what the model should do at this node."),
    Rule(
        "node_without_edges",
        WARNING,
        "Add a transition, `end_call`, or `end_conversation` in `post_actions`.",
    ),
    Rule("role_message_missing", ERROR, "Write in `role_message` of the first node who the agent is."),
    Rule("message_role_invalid", ERROR, "Use `developer`, `system`, `user` or `assistant`."),
    Rule("transition_unknown_node", ERROR, "Use the name of one of the flow's nodes, or add the node."),
    Rule(
        "transition_never_taken",
        WARNING,
        "Remove `transition_to`: the call leaves the flow when this function is called.",
    ),
    Rule(
        "transition_only_undescribed",
        ERROR,
        "Write in `description` when the model should call the function.",
    ),
    Rule("transition_only_target", ERROR, "Set `transition_to` to the name of one node."),
    Rule(
        "function_description_refused", ERROR, "Move the description to the function's entry in `functions`."
    ),
    Rule("function_shadowed", ERROR, "Rename it: it would hide the other function of this name."),
    Rule("function_node_unknown", ERROR, "Use names of the flow's nodes, or set `nodes` to null."),
    Rule("transition_variable_unknown", ERROR, "Declare the variable in `variables`, or correct its name."),
    Rule("transition_variable_source", ERROR, "Set the variable's `source` to `call`."),
    Rule(
        "transition_parameters_refused",
        ERROR,
        "Set `transition_only` to true, or declare the parameters where the function is declared.",
    ),
    Rule("branch_empty", ERROR, "Add at least one case, or write the name of a node in place of the branch."),
    Rule("dtmf_lost", ERROR, "Name the `variable` that takes the keys, or set `masked` to false."),
    Rule(
        "masked_value_inserted",
        ERROR,
        "Remove it here; the url, query, headers and body of HTTP functions may insert it.",
    ),
    Rule("action_refused", ERROR, "Remove it. {detail}"),
    Rule(
        "action_end_early", ERROR, "Move it to `post_actions`, so that the agent speaks before the call ends."
    ),
    Rule("action_option_refused", ERROR, "Remove it; write the goodbye in the node's `task_messages`."),
    Rule("no_exit", WARNING, "Offer `end_call`, or add a node with `end_conversation` in `post_actions`."),
    # Routes and the graph of templates
    Rule("routes_missing", ERROR, "Add a route to an agent, or change `kind` to `agent`."),
    Rule("agents_many", ERROR, "Remove routes here or in the agents that they lead to: 100 agents at most."),
    Rule("route_name_invalid", ERROR, _TOOL_NAME_REMEDY),
    Rule(
        "route_name_reserved", ERROR, "Rename it: `back` is the name of the route back to the one who routed."
    ),
    Rule("route_duplicate", ERROR, "Remove one of the two routes, or rename it."),
    Rule("route_to_itself", ERROR, "Route to another template."),
    Rule("target_missing", ERROR, "Use the id of a template of this account (GET /api/v1/templates)."),
    Rule("target_inactive", ERROR, "Activate that template first."),
    Rule(
        "target_not_agent",
        ERROR,
        "Route to a template of kind `agent`; a route cannot lead to an orchestrator.",
    ),
    Rule("target_duplicate", WARNING, "Keep one of the two routes and describe both cases in its `when`."),
    Rule("route_when_missing", WARNING, "Write in `when` in which case the model should route there."),
    Rule("routes_alike", WARNING, "State in each `when` how the route differs from the other one."),
    Rule(
        "context_without_variables",
        WARNING,
        "Declare variables in the target, or set `context` to `full` or `summary`.",
    ),
    Rule("announce_empty", ERROR, "Write the announcement, or set it to null to route without one."),
    Rule("target_variable_unprovided", ERROR, "{detail}"),
    Rule("target_variable_undescribed", WARNING, "{detail}"),
    Rule("hop_limit_zero", ERROR, "Raise `limits.max_hops`: with 0, every route is refused."),
    Rule("hop_limit_low", WARNING, "Raise `limits.max_hops` to 2 or more, or set `can_return` to false."),
    Rule(
        "no_way_out",
        WARNING,
        "Set `can_return` to true, or offer `end_call` or `transfer_to_number` in that agent.",
    ),
    Rule(
        "agent_unreached",
        WARNING,
        "Add a route to it in an active orchestrator, or in an agent that one routes to.",
    ),
)

RULES: Mapping[str, Rule] = {rule.code: rule for rule in _TABLE}
"""Rule by code."""


def problem_for(code: str, where: tuple[str | int, ...], message: str, *, detail: str = "") -> Problem:
    """Make the problem that reports a violated rule.

    Args:
        code: key of ``RULES``.
        where: keys and indexes of the place in the document.
        message: what is wrong at that place.
        detail: text for ``{detail}`` in the rule's remedy.
    """
    rule = RULES[code]
    return Problem(
        pointer=pointer(*where),
        code=code,
        message=message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…",
        remedy=rule.remedy.replace("{detail}", detail).strip(),
        severity=rule.severity,
    )
