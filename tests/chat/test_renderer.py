"""The process that renders templates: what it gives, what it may cost, and that it comes back."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hexgrid.chat.child import MEMORY_BYTES
from hexgrid.chat.renderer import Job, TemplateRenderer
from hexgrid.errors import RequestError
from tests.chat.templates import CHATML, HELLO, job
from tests.server.running import DEADLINE

ENDLESS = "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}"
# Template, and what is said of it.
HOSTILE = {
    "memory": ("{{ 'a' * 10**10 }}", "512 MiB of memory"),
    "doubling": (
        "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "512 MiB of memory",
    ),
    "output": ("{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}", "more than 8388608 char"),
    "insides": ("{{ messages.__class__.__mro__.__x__ }}", "SecurityError"),
    "syntax": ("{% if %}", "TemplateSyntaxError"),
    "nesting": ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "RecursionError"),
    "refusal": ("{{ raise_exception('no ' * 1000) }}", "no no no"),
}


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer(DEADLINE)  # a busy machine is no fault of a template's
    yield renderer
    renderer.close()


def test_conversations_are_rendered_in_order(renderer: TemplateRenderer) -> None:
    jobs = [job(CHATML, [{"role": "user", "content": f"text {i} \N{ROCKET}"}]) for i in range(50)]

    texts = renderer.render(jobs)

    assert texts == [f"<|im_start|>user\ntext {i} \N{ROCKET}<|im_end|>\n" for i in range(50)]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_hostile_template_does_is_told_and_the_next_one_works(
    renderer: TemplateRenderer, name: str
) -> None:
    template, told = HOSTILE[name]

    with pytest.raises(RequestError) as caught:
        renderer.render([job(CHATML), job(template)])

    assert told in caught.value.message
    assert "(conversation 1)" in caught.value.message
    assert len(caught.value.message) < 400
    assert (caught.value.param, caught.value.index) == ("messages", 1)
    assert renderer.render([job(CHATML)]) == ["<|im_start|>user\nhello<|im_end|>\n"]


def test_one_that_never_ends_is_ended() -> None:
    renderer = TemplateRenderer(seconds=0.5)

    with pytest.raises(RequestError, match=r"longer than 0\.5 seconds"):
        renderer.render([job(ENDLESS)])
    assert renderer._process is None
    with pytest.raises(RequestError, match=r"longer than 0\.5 seconds"):
        renderer.render([job("{{ 9 ** 99999999 }}")])  # a single step of the interpreter's
    renderer.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells")
def test_the_process_opens_no_file_and_has_none_of_our_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEXGRID_API_KEY", "secret")
    renderer = TemplateRenderer()
    renderer.render([job(CHATML)])
    process = renderer._process
    assert process is not None
    seen = Path("/proc", str(process.pid))
    environment = (seen / "environ").read_text()
    limits = (seen / "limits").read_text()
    renderer.close()

    assert "HEXGRID" not in environment
    assert re.search(r"Max open files +3 +3 ", limits)
    assert re.search(rf"Max address space +{MEMORY_BYTES} +{MEMORY_BYTES} ", limits)


def test_a_conversation_that_is_too_large_is_not_even_sent(renderer: TemplateRenderer) -> None:
    huge = [{"role": "user", "content": "a" * 2**23}]

    with pytest.raises(RequestError, match="at most 8388608 are taken"):
        renderer.render([job(CHATML, huge)])


def test_a_process_that_died_meanwhile_is_started_again(renderer: TemplateRenderer) -> None:
    renderer.render([job(CHATML)])
    process = renderer._process
    assert process is not None
    process.kill()
    process.wait()

    assert renderer.render([job(CHATML)]) == ["<|im_start|>user\nhello<|im_end|>\n"]
    assert renderer._process is not process


def test_nothing_is_rendered_for_nobody(renderer: TemplateRenderer) -> None:
    rendered: list[Job] = []

    def jobs() -> Iterator[Job]:
        for number in range(3):
            rendered.append(job(CHATML))
            yield rendered[number]

    class GoneError(Exception):
        pass

    def check() -> None:
        if len(rendered) == 2:
            raise GoneError

    with pytest.raises(GoneError):
        renderer.render(jobs(), check)
    assert len(rendered) == 2


def test_threads_get_their_own_answers(renderer: TemplateRenderer) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> list[str]:
        start.wait()
        return renderer.render([job("{{ n }}", HELLO, n=number)] * 20)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))

    assert answers == [[str(number)] * 20 for number in range(8)]


def test_closing_ends_the_process() -> None:
    renderer = TemplateRenderer()
    renderer.render([job(CHATML)])
    process = renderer._process
    assert process is not None

    renderer.close()

    assert process.poll() is not None
