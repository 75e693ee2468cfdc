"""The stand-in model follows the rules of docs/guides/sandbox.md, whatever agents and functions are named."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from voicebot.sandbox.model import Reply, reply
from voicebot.sandbox.model.words import alike, stem, stems

Message = dict[str, Any]


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def developer(text: str) -> Message:
    return {"role": "developer", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def called(name: str, arguments: dict[str, Any], result: Any, call_id: str = "c1") -> list[Message]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return [
        {"role": "assistant", "tool_calls": [{"id": call_id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)},
    ]


def tool(name: str, description: str = "", required: Sequence[str] = (), /, **properties: Any) -> Message:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def routes(table: dict[str, str], description: str = "Hand the caller over. Do not say goodbye.") -> Message:
    lines = "\n".join(f"{name}: {when}" for name, when in table.items())
    agent = {"type": "string", "enum": list(table)}
    return tool(
        "route_to_agent",
        f"{description}\nAgents:\n{lines}",
        ["agent"],
        agent=agent,
        reason={"type": "string"},
    )


END = tool("end_call", "End the call. Say goodbye in the same answer.", reason={"type": "string"})
TEXT = {"type": "string"}


def only_call(answer: Reply) -> tuple[str, dict[str, Any]]:
    [call] = answer.calls
    return call.name, dict(call.arguments)


# --- words nobody has ever used, so that nothing can be known of them ---------------------------------------

_syllable = st.sampled_from([consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aiou"])
invented = st.lists(_syllable, min_size=3, max_size=4).map("".join)


def _apart(words: Sequence[str]) -> bool:
    found = [stem(word) for word in words]
    return all(stems(word) for word in words) and not any(
        alike(one, other) for index, one in enumerate(found) for other in found[index + 1 :]
    )


def distinct(count: int) -> st.SearchStrategy[list[str]]:
    return st.lists(invented, min_size=count, max_size=count, unique=True).filter(_apart)


@given(words=distinct(6), wanted=st.integers(0, 2), opening=st.sampled_from(["I need help with {}", "{}?"]))
def test_a_caller_is_routed_by_the_table_whatever_its_names(
    words: list[str], wanted: int, opening: str
) -> None:
    """Of three agents with invented names and topics, the one whose topic is spoken of is called."""
    names, topics = words[:3], words[3:]
    table = {name: f"The caller asks about {topic}." for name, topic in zip(names, topics, strict=True)}
    said = opening.format(topics[wanted])
    name, arguments = only_call(reply([system("You are the desk."), user(said)], [routes(table), END]))
    assert name == "route_to_agent"
    assert arguments == {"agent": names[wanted], "reason": said}


@given(words=distinct(3))
def test_an_agent_may_be_asked_for_by_name(words: list[str]) -> None:
    """The name of an agent is as good as its topic."""
    table = {words[0]: "Things of one kind.", words[1]: f"Anything about {words[2]}."}
    name, arguments = only_call(reply([user(f"Put me through to {words[0]}, please")], [routes(table)]))
    assert (name, arguments["agent"]) == ("route_to_agent", words[0])


@given(words=distinct(3))
def test_what_no_table_mentions_routes_nowhere(words: list[str]) -> None:
    """A topic without a route gets words, not a tool call."""
    answer = reply([user(f"I have a {words[2]}")], [routes({words[0]: f"About {words[1]}."}), END])
    assert answer.calls == ()
    assert answer.text


@pytest.mark.parametrize(
    "words",
    [
        "Please take me back.",
        "Can I go back to the front desk?",
        "Put me back to the lady I had before, please",
    ],
)
def test_going_back_is_understood(words: str) -> None:
    """A caller who asks to go back is routed back."""
    table = {"back": "The caller wants something else, or wants to go back."}
    assert only_call(reply([user(words)], [routes(table), END]))[1]["agent"] == "back"


@pytest.mark.parametrize("words", ["I want my money back", "My back hurts", "Call me back tomorrow"])
def test_not_every_back_is_a_way_back(words: str) -> None:
    """The word "back" alone does not route the caller back."""
    table = {"back": "The caller wants something else, or wants to go back."}
    assert reply([user(words)], [routes(table), END]).calls == ()


@given(words=distinct(3), digits=st.text("0123456789", min_size=4, max_size=8), spoken=st.booleans())
def test_a_tool_is_called_by_its_name_and_filled_with_figures(
    words: list[str], digits: str, spoken: bool
) -> None:
    """A tool with an invented name gets the number that was said, digit by digit or in figures."""
    said = " ".join(_DIGITS[int(digit)] for digit in digits) if spoken else digits
    offered = [
        tool(f"find_{words[0]}", "", [f"{words[0]}_number"], **{f"{words[0]}_number": TEXT}),
        tool(f"drop_{words[1]}", "", [f"{words[1]}_number"], **{f"{words[1]}_number": TEXT}),
    ]
    name, arguments = only_call(reply([user(f"It is about {words[0]} {said}, please")], offered))
    assert (name, arguments) == (f"find_{words[0]}", {f"{words[0]}_number": digits})


_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@given(words=distinct(2), digits=st.text("0123456789", min_size=4, max_size=8))
def test_what_is_missing_is_asked_for_and_the_answer_is_enough(words: list[str], digits: str) -> None:
    """A tool whose number was not said asks for it by name; the bare number then calls it."""
    offered = [tool(f"find_{words[0]}", "", [f"{words[1]}_number"], **{f"{words[1]}_number": TEXT})]
    messages = [user(f"I lost my {words[0]}")]
    question = reply(messages, offered)
    assert question.calls == ()
    assert f"{words[1]} number" in question.text
    messages += [assistant(question.text), user(digits)]
    assert only_call(reply(messages, offered))[1] == {f"{words[1]}_number": digits}


def test_a_form_is_filled_over_several_turns() -> None:
    """What was said in an earlier turn of the same request is not asked again."""
    book = tool(
        "book_table",
        "Reserve a table.",
        ["guests", "day", "time", "name"],
        guests={"type": "integer", "description": "How many people come."},
        day=TEXT,
        time=TEXT,
        name=TEXT,
    )
    messages: list[Message] = [user("I would like to book a table for four")]
    for answer, wanted in (("On Friday", "day"), ("At seven", "time"), ("Sarah Jones", "name")):
        question = reply(messages, [book])
        assert wanted in question.text
        messages += [assistant(question.text), user(answer)]
    assert only_call(reply(messages, [book]))[1] == {
        "guests": 4,
        "day": "Friday",
        "time": "seven",
        "name": "Sarah Jones",
    }


@pytest.mark.parametrize(
    ("schema", "words", "value"),
    [
        ({"type": "integer"}, "I need twenty five plates", 25),
        ({"type": "number"}, "make it 12.50 plates", 12.5),
        ({"type": "integer", "minimum": 10}, "not three plates but twelve", 12),
        ({"type": "string", "enum": ["small", "very_large"]}, "a very large plate", "very_large"),
        ({"type": "string", "format": "date"}, "plates on 2027-03-01", "2027-03-01"),
        ({"type": "string", "format": "time"}, "plates at half past seven", "half past seven"),
    ],
)
def test_arguments_are_filled_by_their_type(schema: Message, words: str, value: Any) -> None:
    """Numbers, choices, dates and times are found in what was said."""
    assert only_call(reply([user(words)], [tool("order_plates", "", ["wish"], wish=schema)]))[1] == {
        "wish": value
    }


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("customer_name", "Register me, my name is ada lovelace", "Ada Lovelace"),
        ("delivery_day", "Register me for next Tuesday", "next Tuesday"),
        ("start_time", "Register me at 7:30", "7:30"),
        ("reason", "Register me because I moved", "Register me because I moved"),
        ("card_number", "Register me, my card is four four two one", "4421"),
    ],
)
def test_arguments_are_filled_by_their_name(name: str, words: str, value: str) -> None:
    """The name of a string parameter says which words fill it."""
    assert only_call(reply([user(words)], [tool("register", "", [name], **{name: TEXT})]))[1] == {name: value}


@given(words=distinct(2), result=st.dictionaries(invented, invented, min_size=1, max_size=3))
def test_a_tool_is_called_once_a_turn_and_its_result_is_told(words: list[str], result: Message) -> None:
    """After its result a tool is not called again; what it answered is said."""
    offered = [tool(f"find_{words[0]}", f"Finds {words[1]}.")]
    messages = [user(f"Find my {words[0]}, please")]
    name, arguments = only_call(reply(messages, offered))
    answer = reply([*messages, *called(name, arguments, {"status": "ok", **result})], offered)
    assert answer.calls == ()
    assert all(key in answer.text and value in answer.text for key, value in result.items())


def test_a_function_may_be_called_again_in_a_later_turn() -> None:
    """A function that has answered is called in a later turn for another number."""
    find = tool("find_order", "", ["order_number"], order_number=TEXT)
    messages = [user("Find order 1111"), *called("find_order", {"order_number": "1111"}, {"state": "sent"})]
    messages.append(assistant("The state is sent."))
    assert only_call(reply([*messages, user("And order 2222?")], [find]))[1] == {"order_number": "2222"}


@pytest.mark.parametrize(
    "result",
    [
        {"status": "refused", "code": "not_ready", "message": "try later"},
        {"status": "error", "message": "no such thing"},
        {"error": "it broke"},
    ],
)
def test_a_refusal_is_admitted_and_not_repeated(result: Message) -> None:
    """A result that refuses is followed by an apology; nothing is called again in the same turn."""
    table = {"garden": "Plants and trees."}
    messages = [
        user("I have a question about plants"),
        *called("route_to_agent", {"agent": "garden"}, result),
    ]
    answer = reply(messages, [routes(table), END])
    assert answer.calls == ()
    assert "sorry" in answer.text


def test_a_refused_agent_is_left_out_when_it_is_offered_no_more() -> None:
    """In the next turn only agents that are offered then are called."""
    messages = [
        user("Plants, please"),
        *called("route_to_agent", {"agent": "garden"}, {"status": "refused", "code": "not_ready"}),
        assistant("I am sorry."),
        user("Then the kitchen, please"),
    ]
    offered = [routes({"kitchen": "Food."})]
    assert only_call(reply(messages, offered))[1]["agent"] == "kitchen"


@pytest.mark.parametrize("name", ["end_call", "hang_up", "finish_the_call", "endConversation"])
@pytest.mark.parametrize("words", ["Thank you, goodbye!", "That's all, bye", "Please hang up now"])
def test_a_farewell_ends_the_call_with_words(name: str, words: str) -> None:
    """The answer to a goodbye is a goodbye, and the tool that ends the call is called in the same answer."""
    answer = reply([user(words)], [tool(name, "End it.", ["reason"], reason=TEXT)])
    assert only_call(answer)[0] == name
    assert "oodbye" in answer.text


def test_no_to_anything_else_is_a_farewell() -> None:
    """A short no ends the call only when it answers whether there is anything else."""
    asked = assistant("Is there anything else I can do for you?")
    assert only_call(reply([user("Hm"), asked, user("No, thanks")], [END]))[0] == "end_call"
    assert reply([user("Hm"), assistant("Do you like it?"), user("No, thanks")], [END]).calls == ()


def test_the_end_of_a_line_is_no_reason_to_end_the_call() -> None:
    """The tool that ends the call is never chosen by likeness."""
    assert reply([user("When does the call of the wild end?")], [END]).calls == ()


# --- instructions -------------------------------------------------------------------------------------------

sentence = st.lists(invented, min_size=2, max_size=5).map(lambda words: " ".join(words).capitalize() + ".")


@given(text=sentence, frame=st.sampled_from(['Greet with "{}"', 'Always say: "{}"', "Begin by saying “{}”."]))
def test_what_it_is_told_to_say_is_said_word_for_word_and_once(text: str, frame: str) -> None:
    """Words in quotation marks are the answer; said once, they are not said again."""
    instructions = system(frame.format(text))
    assert reply([instructions]).text == text
    assert reply([instructions, user("hello")]).text == text
    assert text not in reply([instructions, assistant(text), user("hello")]).text


@given(text=sentence, words=distinct(2))
def test_a_condition_holds_for_its_own_case_only(text: str, words: list[str]) -> None:
    """ "If …, say …" is said when the caller speaks of it and not otherwise."""
    assume(not any(alike(stem(word), other) for word in words for other in stems(text)))
    instructions = system(f'You are kind. If the caller asks about {words[0]}, say "{text}"')
    assert reply([instructions, user(f"What about the {words[0]}?")]).text == text
    assert text not in reply([instructions, user(f"What about the {words[1]}?")]).text


def test_it_never_says_what_it_must_not() -> None:
    """Words that are quoted to be avoided are not said."""
    assert (
        "Never mind" not in reply([system('Never say "Never mind". Do not answer with "Never mind".')]).text
    )


@pytest.mark.parametrize(
    ("instruction", "question"),
    [
        ("Ask for the order number.", "Could you tell me the order number, please?"),
        ("Ask for the customer number.", "Could you tell me the customer number, please?"),
        ("Ask the caller for their name.", "Could you tell me your name, please?"),
        ("Ask what they would like to eat.", "May I ask what you would like to eat?"),
        ("Ask which day suits the caller.", "May I ask which day suits you?"),
        ("Find out what the caller needs, and route them.", "May I ask what you need?"),
        ("1. Ask the caller's age", "Could you tell me your age, please?"),
    ],
)
def test_it_speaks_to_the_caller_not_about_them(instruction: str, question: str) -> None:
    """Instructions to ask and to tell are turned into what a person would say."""
    assert reply([system(instruction)]).text == question


def test_steps_are_taken_one_question_at_a_time() -> None:
    """Everything up to the first question is said together; the next question waits for an answer."""
    instructions = developer('Say "It is late." Ask for their name. Then ask what they want. Say "Fine."')
    messages = [system("You are Ada."), instructions]
    first = reply(messages).text
    assert first == "It is late. Could you tell me your name, please?"
    messages += [assistant(first), user("It is Bo")]
    assert reply(messages).text == "May I ask what you want?"


def test_the_step_that_is_on_counts_and_earlier_ones_are_over() -> None:
    """After a transition only the new step's and the role's instructions are followed."""
    messages = [
        system("You are Ada."),
        developer("Ask for their name."),
        user("I do not say"),
        *called("go_on", {}, {"status": "acknowledged"}),
        developer("Ask for their town."),
    ]
    assert reply(messages).text == "Could you tell me your town, please?"
    messages += [assistant("Could you tell me your town, please?"), user("Utrecht")]
    assert "your name" not in reply(messages).text


def test_a_step_may_order_a_call() -> None:
    """A tool that a step orders is called with what the step dictates; then the step continues."""
    record = tool("note_result", "Note it.", ["result"], result=TEXT)
    step = developer('Call note_result with the result "paid". Then say "All is paid."')
    messages = [user("There you are"), *called("pay", {}, {"status": "done"}), step]
    name, arguments = only_call(reply(messages, [record]))
    assert (name, arguments) == ("note_result", {"result": "paid"})
    messages += called(name, arguments, {"status": "recorded", "result": "paid"}, "c2")
    assert reply(messages, [record]) == Reply(text="All is paid.")


def test_a_step_may_end_the_call() -> None:
    """When a step says its last words and orders the end, both are in one answer."""
    step = developer('Say "Farewell, friend." and call end_call.')
    answer = reply([user("yes"), *called("go_on", {}, {"status": "done"}), step], [END])
    assert answer.text == "Farewell, friend."
    assert only_call(answer)[0] == "end_call"


def test_a_yes_stands_for_what_was_offered() -> None:
    """Agreeing to an offer calls the tool that the offer was about; declining it does not."""
    send = tool("send_brochure", "The caller wants the brochure.")
    asked = assistant("That is that. May I send you the brochure?")
    assert only_call(reply([user("Hm"), asked, user("Yes, please")], [send]))[0] == "send_brochure"
    assert reply([user("Hm"), asked, user("No")], [send]).calls == ()


def test_facts_answer_questions() -> None:
    """A statement of the instructions that is about the question is the answer."""
    instructions = system("You are Ada. The museum is closed on Mondays. Parking costs two euros.")
    assert reply([instructions, user("How much is parking?")]).text == "Parking costs two euros."


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("What are your office hours?", "Office hours are Monday to Friday, 8am to 5pm."),
        ("Where are you located?", "We are located at 12 Main Street."),
        ("I am in pain", "I am so sorry to hear that."),
        ("What do I do?", "Could you tell me your full name, please?"),
    ],
)
def test_a_prompt_with_headings_and_lists_is_read_like_any_other(said: str, answer: str) -> None:
    """Headings, bullets, labels and steps in one long prompt each keep their meaning."""
    instructions = system(
        """# Role
You are Mia, a scheduling assistant for BrightSmile Dental.

## Rules
- Keep answers under two sentences.
- Never give medical advice.
- If the caller is in pain, offer the earliest appointment and say "I am so sorry to hear that."
- Ask for their full name, and then ask for the reason for the visit.
- Once you have all the details, call `book_appointment`.

Office hours are Monday to Friday, 8am to 5pm. We are located at 12 Main Street.
"""
    )
    assert reply([instructions, user(said)]).text == answer


@pytest.mark.parametrize("words", ["Let me talk to a person", "I want a real person"])
def test_whoever_wants_a_person_gets_the_tool_for_it(words: str) -> None:
    """A function named after a person is called when the caller asks for a person."""
    ask = tool("ask_a_person", "Ask somebody to take over.", ["reason"], reason=TEXT)
    later = tool("note_a_call", "A person calls later.")
    assert only_call(reply([user(words)], [later, ask, END])) == ("ask_a_person", {"reason": words})


# --- requests -----------------------------------------------------------------------------------------------


def test_a_summary_repeats_what_was_said() -> None:
    """Asked to summarise a quoted conversation, it tells the caller's words and the agent's last."""
    lines = [
        {"speaker": "caller", "said": "My hedgehog is ill."},
        {"speaker": "agent", "said": "Which hedgehog?"},
    ]
    quoted = "\n".join(json.dumps(line) for line in lines)
    answer = reply([system("Summarise the conversation."), user(f"Conversation:\n<<<\n{quoted}\n>>>")])
    assert "My hedgehog is ill" in answer.text
    assert "Which hedgehog" in answer.text


def test_a_form_is_filled_from_what_is_quoted() -> None:
    """Asked for JSON of a schema, it answers with it: every field there, of its type, about the case."""
    case = {"reason": "unknown", "transcript": [{"speaker": "caller", "text": "My hedgehog is ill."}]}
    schema = {
        "type": "object",
        "required": ["likely_cause", "next_steps", "confidence"],
        "properties": {
            "likely_cause": {"type": "string"},
            "next_steps": {"type": "array", "items": {"type": "string"}},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
    }
    form = {"type": "json_schema", "json_schema": {"name": "assessment", "schema": schema}}
    answer = json.loads(reply([system("Assess."), user(json.dumps(case))], response_format=form).text)
    assert "My hedgehog is ill" in answer["likely_cause"]
    assert "My hedgehog is ill" in answer["next_steps"][0]
    assert answer["confidence"] == 0.5


def test_material_is_not_taken_for_speech() -> None:
    """A quotation that a program put into the conversation calls nothing."""
    material = user('Material, quoted:\n{"summary": "the caller wants plants"}')
    assert reply([system("You are Ada."), material], [routes({"garden": "Plants."})]).calls == ()


def test_parts_are_read_like_a_string() -> None:
    """Content as a list of parts means what the same text means."""
    parts = [{"type": "text", "text": "I need"}, {"type": "text", "text": "plants"}]
    offered = [routes({"garden": "Plants."})]
    assert reply([{"role": "user", "content": parts}], offered) == reply([user("I need plants")], offered)


def test_tool_choice_none_calls_nothing() -> None:
    """With the tool choice `none` the answer has words alone."""
    offered = [tool("find_plant", "", ["plant"], plant=TEXT)]
    assert reply([user("Find my plant Basil")], offered, "none").calls == ()


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9999) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_said = st.text(max_size=40) | st.lists(invented, max_size=6).map(" ".join)
_message = st.one_of(
    st.builds(system, _said),
    st.builds(developer, _said),
    st.builds(user, _said),
    st.builds(assistant, _said),
    st.builds(lambda text: {"role": "user", "content": [{"type": "text", "text": text}]}, _said),
)
_turn = st.one_of(
    _message.map(lambda message: [message]),
    st.builds(lambda result: called("find_it", {"it": "x"}, result), _json),
)
_property = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "number", "boolean", "array", "object"])},
    optional={"description": st.text(max_size=20), "enum": st.lists(invented, min_size=1, max_size=3)},
)
_tool = st.builds(
    lambda name, about, properties: tool(name, about, list(properties), **properties),
    invented | st.sampled_from(["end_call", "find_it", "record_outcome"]),
    st.text(max_size=40),
    st.dictionaries(st.text("abcdefg_", min_size=1, max_size=8), _property, max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(_turn, max_size=6),
    tools=st.lists(_tool, max_size=3, unique_by=lambda t: t["function"]["name"]),
)
def test_any_conversation_has_an_answer_and_always_the_same(
    turns: list[list[Message]], tools: list[Message]
) -> None:
    """Whatever was said and is offered, there are words or calls of tools that exist, twice the same."""
    messages = [message for turn in turns for message in turn] or [user("Hm")]
    answer = reply(messages, tools)
    assert answer == reply(messages, tools)
    assert answer.text or answer.calls
    assert {call.name for call in answer.calls} <= {t["function"]["name"] for t in tools}
    for call in answer.calls:
        offered = next(t["function"] for t in tools if t["function"]["name"] == call.name)
        assert set(offered["parameters"]["required"]) <= set(call.arguments)
        json.dumps(call.arguments)
