"""What a chat template makes of a conversation: the text that transformers makes of it."""

import json
from typing import Any

import pytest
from jinja2.exceptions import SecurityError, UndefinedError

from hexgrid.chat.child import MAX_TEXT_CHARS, TooLongError, render
from tests.chat.templates import CHATML, HELLO, PUBLISHED

LONGER = [
    {"role": "system", "content": "Answer in German."},
    {"role": "user", "content": "What is gravity? <b>&\n"},
    {"role": "assistant", "content": " Eine Kraft. "},
    {"role": "user", "content": "重力 \N{ROCKET}"},
]
TOOLS = "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}{% set ns = namespace(n=0) %}{{ ns.n }}"
LOOPS = "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% endfor %}"
# No dashes: lines of blocks alone leave nothing behind.
BLOCKS = (
    "{% for m in messages %}\n    {% if m.role %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\nend"
)
TRIMMED = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"


def by_transformers(template: str, messages: list[dict[str, str]], **options: Any) -> str:
    """What the official library makes of it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    (text,), _ = render_jinja_template([messages], chat_template=template, **options)
    assert isinstance(text, str)
    return text


def ours(
    template: str,
    messages: list[dict[str, str]],
    *,
    continue_final_message: bool = False,
    **more: Any,
) -> str:
    variables = {"messages": messages, "add_generation_prompt": False} | more
    return render(template, variables, continue_final_message=continue_final_message)


@pytest.mark.parametrize("template", [*PUBLISHED.values(), CHATML, TOOLS, LOOPS, BLOCKS, TRIMMED])
@pytest.mark.parametrize("messages", [HELLO, LONGER], ids=["short", "longer"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_generation_prompt": True},
        {"enable_thinking": False, "add_generation_prompt": True},
    ],
    ids=str,
)
def test_a_conversation_becomes_the_text_that_transformers_makes(
    template: str, messages: list[dict[str, str]], options: dict[str, Any]
) -> None:
    assert ours(template, messages, **options) == by_transformers(template, messages, **options)


@pytest.mark.parametrize("template", [*PUBLISHED.values(), CHATML, TRIMMED])
@pytest.mark.parametrize("messages", [HELLO, LONGER[:3]], ids=["short", "spaces at its end"])
def test_the_final_message_stays_open_as_with_transformers(
    template: str, messages: list[dict[str, str]]
) -> None:
    expected = by_transformers(template, messages, continue_final_message=True)

    assert ours(template, messages, continue_final_message=True) == expected
    assert expected.rstrip().endswith(messages[-1]["content"].strip())


def test_a_template_that_drops_the_final_message_cannot_leave_it_open() -> None:
    with pytest.raises(ValueError, match="leaves out the final message"):
        ours("{{ messages[0].role }}", HELLO, continue_final_message=True)


def test_a_template_may_refuse_a_conversation() -> None:
    with pytest.raises(Exception, match="roles must alternate"):
        ours("{{ raise_exception('roles must alternate') }}", HELLO)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.x }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include 'x' %}",
        "{{ range(1000000) }}",
        "{{ ''.join.__self__.x }}",
    ],
)
def test_the_sandbox_keeps_a_template_from_everything_but_its_data(template: str) -> None:
    with pytest.raises((SecurityError, UndefinedError, TypeError, OverflowError)):
        ours(template, HELLO)


def test_a_text_has_an_end() -> None:
    with pytest.raises(TooLongError):
        ours("{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", HELLO)
    assert len(ours("{{ 'a' * n }}", HELLO, n=MAX_TEXT_CHARS)) == MAX_TEXT_CHARS


def test_what_a_template_writes_as_json_is_json() -> None:
    assert json.loads(ours("{{ messages | tojson }}", HELLO)) == HELLO
