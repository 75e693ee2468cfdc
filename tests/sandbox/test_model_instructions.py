"""The sandbox's model does what instructions say together, names what they name, and reads wrapped lines."""

from __future__ import annotations

import pytest

from tests.sandbox.test_model import (
    END,
    TEXT,
    Message,
    assistant,
    called,
    developer,
    only_call,
    routes,
    system,
    tool,
    user,
)
from voicebot.sandbox.model import reply

NUMBER = {"type": "integer", "description": "How many glasses are wanted."}
ORDER = tool("order_glasses", "", ["day", "time", "glasses"], day=TEXT, time=TEXT, glasses=NUMBER)
ASK = tool("ask_a_person", "", ["reason"], reason=TEXT, priority=TEXT)


def desk(**table: str) -> Message:
    """A routing table whose tool hands over values of any name."""
    offered = routes(table)
    offered["function"]["parameters"]["properties"]["variables"] = {"type": "object"}
    return offered


HANDING_OVER = system(
    "When you route to the kitchen, hand over `guest_name` and `table_number` in `variables`. "
    "Ask for what is missing."
)


def test_what_instructions_name_is_handed_over() -> None:
    """Names in backticks beside an argument are filled into it from what was said."""
    said = user("My name is Ada Lovelace, and I want soup at table 12")
    _, arguments = only_call(reply([HANDING_OVER, said], [desk(kitchen="Soup.", cellar="Wine.")]))
    assert arguments["variables"] == {"guest_name": "Ada Lovelace", "table_number": "12"}


def test_what_is_to_be_handed_over_is_asked_for() -> None:
    """A route is taken once its required argument is known."""
    offered = [desk(kitchen="Soup.", cellar="Wine.")]
    messages = [HANDING_OVER, user("I want soup")]
    for wanted, answer in (("guest name", "Ada Lovelace"), ("table number", "12")):
        asked = reply(messages, offered)
        assert asked.calls == ()
        assert wanted in asked.text
        messages += [assistant(asked.text), user(answer)]
    _, arguments = only_call(reply(messages, offered))
    assert arguments["agent"] == "kitchen"
    assert arguments["variables"] == {"guest_name": "Ada Lovelace", "table_number": "12"}


def test_another_route_needs_nothing_of_it() -> None:
    """A route does not require variables that only another route hands over."""
    _, arguments = only_call(reply([HANDING_OVER, user("Wine")], [desk(kitchen="Soup.", cellar="Wine.")]))
    assert arguments["agent"] == "cellar"
    assert "variables" not in arguments


def test_words_and_the_end_on_one_condition_are_one_answer() -> None:
    """Words next to the order to end the call end it, in any language."""
    instructions = system('When the caller says goodbye (zbogom), say "Do viđenja." and call end_call.')
    answer = reply([instructions, user("Zbogom")], [END])
    assert answer.text == "Do viđenja."
    assert only_call(answer)[0] == "end_call"


PERSONS = system(
    'If there is a fire, call ask_a_person with the priority "urgent" and say "Leave the house." '
    'If there is a leak, call ask_a_person with the priority "normal" and say "Turn the water off."'
)


@pytest.mark.parametrize(
    ("words", "priority", "said"),
    [("A fire!", "urgent", "Leave the house."), ("A leak!", "normal", "Turn the water off.")],
)
def test_words_beside_an_order_follow_it(words: str, priority: str, said: str) -> None:
    """Of two cases for one tool, the one that is there gives its arguments and the words after it."""
    messages = [PERSONS, user(words)]
    name, arguments = only_call(reply(messages, [ASK]))
    assert (name, arguments["priority"]) == ("ask_a_person", priority)
    answer = reply([*messages, *called(name, arguments, {"status": "queued"})], [ASK])
    assert said in answer.text


def test_what_is_not_said_anew_stays() -> None:
    """A tool called again keeps the arguments of its last call but for those that changed."""
    first = {"day": "Friday", "time": "seven", "glasses": 4}
    messages = [
        user("Order four glasses for Friday at seven"),
        *called("order_glasses", first, {"state": "none left"}),
        assistant("There are none left."),
        user("Then order them for Saturday"),
    ]
    assert only_call(reply(messages, [ORDER]))[1] == {**first, "day": "Saturday"}


@pytest.mark.parametrize(
    ("words", "day", "time"),
    [
        ("Order two glasses for May the third at seven", "May the third", "seven"),
        ("Order two glasses for 3 May at half past six", "3 May", "half past six"),
        ("Order, for the tenth of June at noon, two glasses", "the tenth of June", "noon"),
    ],
)
def test_figures_of_a_day_and_a_time_are_no_other_number(words: str, day: str, time: str) -> None:
    """A figure that belongs to a date or a time is not taken for a count."""
    assert only_call(reply([user(words)], [ORDER]))[1] == {"day": day, "time": time, "glasses": 2}


def test_a_date_behind_other_words_is_found() -> None:
    """The word before a month is part of the date only if it numbers the day."""
    register = tool("register", "", ["date_of_birth"], date_of_birth=TEXT)
    said = user("Register me, born on June 23 1982")
    assert only_call(reply([said], [register]))[1] == {"date_of_birth": "June 23 1982"}


def test_a_sentence_is_no_name() -> None:
    """An answer that is not a name does not fill a name."""
    register = tool("register_guest", "", ["name"], name=TEXT)
    messages = [user("Hm"), assistant("What is your name?"), user("Wait, make that five of us instead")]
    assert reply(messages, [register]).calls == ()


def test_a_line_that_goes_on_is_one_sentence() -> None:
    """Lines that were wrapped are read as if they were not, and are spoken in one line."""
    instructions = system(
        'You are kind.\nIf the caller asks about\nparking, say "Parking is\n  behind the house."\n'
    )
    assert reply([instructions, user("And parking?")]).text == "Parking is behind the house."


def test_a_step_that_is_come_to_again_is_said_again() -> None:
    """A step's text is said each time it is entered, without the text of earlier steps."""
    step = developer('Say "Which colour?"')
    choose = tool("choose_size", "", ["size"], size=TEXT)
    messages = [user("size small"), *called("choose_size", {"size": "small"}, {"left": "nine"}), step]
    assert reply(messages, [choose]).text == "Which colour?"
    messages += [assistant("Which colour?"), user("size large")]
    again = [*messages, *called("choose_size", {"size": "large"}, {"left": "ten"}, "c2"), step]
    assert reply(again, [choose]).text == "Which colour?"


def test_what_to_say_when_a_tool_fails_is_said_then_alone() -> None:
    """Words for a failing tool are said each time it fails, and not when it answers."""
    instructions = system('You look plants up. If find_plant fails, say "Which plant was it, please?"')
    find = tool("find_plant", "", ["plant"], plant=TEXT)
    messages = [instructions, user("Find my plant Basil")]
    found = reply([*messages, *called("find_plant", {"plant": "Basil"}, {"place": "the kitchen"})], [find])
    assert "the kitchen" in found.text
    assert "Which plant" not in found.text
    for call_id in ("c1", "c2"):
        result = {"status": "failed", "code": "http_404"}
        messages += called("find_plant", {"plant": "Basil"}, result, call_id)
        assert reply(messages, [find]).text == "Which plant was it, please?"
        messages += [assistant("Which plant was it, please?"), user("Find my plant Thyme")]


def test_a_step_may_order_several_calls() -> None:
    """Calls that a step orders one after the other are all made before it says what it says."""
    note = tool("note_result", "", ["result"], result=TEXT)
    step = developer('Call note_result with the result "gone". Then call ask_a_person. Then say "Wait here."')
    messages = [user("It is gone"), *called("go_on", {}, {"status": "done"}), step]
    for number, wanted in enumerate(("note_result", "ask_a_person")):
        name, arguments = only_call(reply(messages, [ASK, note]))
        assert name == wanted
        messages += called(name, arguments, {"status": "done"}, f"order-{number}")
    assert reply(messages, [ASK, note]).text == "Wait here."
