"""The process that renders chat templates: jinja2's sandbox, in a process that may do next to nothing.

A template is a program of the checkpoint's author. The sandbox keeps it from Python's insides, but not from
running for ever or taking all memory, which no thread can be kept from. So it runs here: memory is limited,
no file can be opened any more, and the parent ends the process when it takes too long.

Run as a file, by itself: nothing of hexgrid is imported. It reads jobs from stdin and writes answers to
stdout, each as 4 bytes of length (big-endian) and JSON, until stdin ends.
"""

import json
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2.ext
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 512 * 2**20
MAX_TEXT_CHARS = 2**23
_MESSAGE_CHARS = 200
# Stands behind the final message where that is to be continued, to find its end in the text.
_MARK = "CONTINUE_HERE_7f3a9c "
# Two templates that bring in all that others need, an error's rendering too, before no file can be opened.
_WARM_UP = (
    "{% for m in messages %}{{ m.content | trim | tojson }}{{ strftime_now('%Y') }}{% endfor %}",
    "{{ messages.a.b }}",
)


class TooLongError(Exception):
    """The text has more than MAX_TEXT_CHARS characters."""


def render(template: str, variables: dict[str, Any], *, continue_final_message: bool) -> str:
    """The text of a conversation, as transformers' `apply_chat_template` makes it.

    Raises:
        TooLongError: see there.
        TemplateError, ValueError: the template, or what it says of this conversation.
    """
    messages = variables["messages"]
    if continue_final_message:
        final = {**messages[-1], "content": messages[-1]["content"] + _MARK}
        variables = {**variables, "messages": [*messages[:-1], final]}
    parts = []
    num_chars = 0
    for part in _compiled(template).generate(variables):
        parts.append(part)
        num_chars += len(part)
        if num_chars > MAX_TEXT_CHARS:
            raise TooLongError
    text = "".join(parts)
    return _up_to_mark(text) if continue_final_message else text


def _up_to_mark(text: str) -> str:
    end = text.rfind(_MARK.strip())
    if end < 0:
        raise ValueError("the template leaves out the final message, which is to be continued")
    # A template that trims the message has trimmed the mark's own space, too.
    kept = text[:end]
    return kept if text[end : end + len(_MARK)] == _MARK else kept.rstrip()


@lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment.from_string(template)


def _to_json(value: Any, *, ensure_ascii: bool = False, **options: Any) -> str:
    """Not jinja2's own, which escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _answer(job: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(**job)}
    except TooLongError:
        return {"error": f"makes more than {MAX_TEXT_CHARS} characters"}
    except MemoryError:
        sys.exit(1)  # what is left of the process is not to be trusted
    except Exception as error:  # noqa: BLE001 (whatever a template makes happen)
        return {"error": f"fails: {type(error).__name__}: {str(error)[:_MESSAGE_CHARS]}"}


def _limit(kind: int, most: int) -> None:
    with suppress(OSError, ValueError):  # not every system can
        resource.setrlimit(kind, (most, most))


def main() -> None:
    source, target = sys.stdin.buffer, sys.stdout.buffer
    variables = {"messages": [{"content": "a"}]}
    for template in _WARM_UP:
        _answer({"template": template, "variables": variables, "continue_final_message": False})
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 3)  # stdin, stdout, stderr
    read: Callable[[int], bytes] = source.read
    while length := read(4):
        answer = json.dumps(_answer(json.loads(read(int.from_bytes(length))))).encode()
        target.write(len(answer).to_bytes(4) + answer)
        target.flush()


if __name__ == "__main__":
    main()
