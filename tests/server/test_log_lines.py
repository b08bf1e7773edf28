"""One event, one line: nothing that a client sends begins another one or moves a cursor."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.server.log_lines import Event, json_line, printable, text_line

ANY_TEXT = st.text(st.characters(), max_size=20)


TIME = "2026-11-25T14:49:42.229Z"


def event(message: str = "said", traceback: str | None = None, **fields: object) -> Event:
    return Event(1_795_618_182.229_5, "info", "hexgrid.x", message, fields, traceback)


def test_text_has_the_message_first_and_then_what_is_known() -> None:
    line = text_line(event(status=200, tokens=5, key=None, model="a/b", inputs=1))

    assert line == f"{TIME} INFO    hexgrid.x: said tokens=5 model=a/b inputs=1"


def test_json_has_the_message_first_and_then_what_is_known() -> None:
    line = json_line(event(status=200, key=None, model="a/b"))

    assert line == (
        f'{{"time":"{TIME}","level":"info","logger":"hexgrid.x","message":"said",'
        '"status":200,"model":"a/b"}'
    )


@pytest.mark.parametrize("value", ["two words", 'a"b', "a=b", "\N{ROCKET}", ""])
def test_text_quotes_values_that_could_be_taken_for_something_else(value: str) -> None:
    assert json.loads(text_line(event(key=value)).partition("key=")[2]) == value


def test_a_traceback_is_one_string_in_json_and_indented_in_text() -> None:
    traceback = "Traceback:\nValueError: a\nT INFO    hexgrid.x: forged"

    assert json.loads(json_line(event(traceback=traceback)))["exception"] == traceback
    assert text_line(event(traceback=traceback)).split("\n")[1:] == [
        "    Traceback:",
        "    ValueError: a",
        "    T INFO    hexgrid.x: forged",
    ]


@given(ANY_TEXT)
def test_whatever_is_said_is_one_line_that_prints(text: str) -> None:
    for said in (event(text), event(key=text)):
        both = json_line(said) + text_line(said)
        assert both.isprintable()
        assert both.encode()


@given(ANY_TEXT)
def test_whatever_an_exception_says_cannot_begin_a_line_or_move_a_cursor(text: str) -> None:
    in_json = json_line(event(traceback=text))
    in_text = text_line(event(traceback=text))

    assert in_json.isprintable()
    assert all(line.startswith("    ") for line in in_text.split("\n")[1:])
    assert in_text.replace("\n", "").isprintable()
    assert (in_json + in_text).encode()


@given(ANY_TEXT)
def test_what_prints_stays_as_it_is(text: str) -> None:
    assert (printable(text) == text) == text.isprintable()
    assert printable(text).isprintable()
