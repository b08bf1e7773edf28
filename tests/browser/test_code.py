"""The code that the page shows is run as it stands, and gives the vectors that the page shows."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import Watched, watched
from tests.server.running import KEY

pytestmark = pytest.mark.browser

# What could act in a shell, or end a string, in one of the languages.
HOSTILE = """it's "quoted" \\n $HOME `id` ${1} END
END
' ; exit 1 #
\N{OWL} \u2028 </script>"""
COMMANDS = {
    "curl": ["bash", "-euo", "pipefail", "-c"],
    "Python": [sys.executable, "-c"],
    "JavaScript": ["node", "--input-type=module", "-e"],
}


@pytest.fixture
def guarded(browser: Browser, guarded_url: str) -> Iterator[Watched]:
    with watched(browser, guarded_url) as console:
        page = console.open()
        page.get_by_label("API key", exact=True).fill(KEY)
        page.get_by_role("button", name="Use key").click()
        expect(page.get_by_text("256 dimensions")).to_be_visible()
        yield console


def shown(console: Watched, language: str) -> str:
    page = console.page
    page.get_by_role("tab", name="Code").click()
    page.get_by_label("Language").select_option(language)
    return page.get_by_label("Code of these calls").text_content() or ""


def run(language: str, code: str, directory: Path) -> str:
    done = subprocess.run(
        [*COMMANDS[language], code],
        env={"PATH": os.environ["PATH"], "HEXGRID_API_KEY": KEY},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def similarities(language: str, output: str) -> list[float]:
    """Of each document, in their order."""
    if language != "curl":
        return [
            float(number)
            for number in re.findall(r"^(-?\d\.\d{4})  document", output, re.MULTILINE)
        ]
    decoder = json.JSONDecoder()
    query, end = decoder.raw_decode(output)
    documents, _ = decoder.raw_decode(output[end:].lstrip())
    rows = np.array([item["embedding"] for item in documents["data"]])
    found: list[float] = (rows @ np.array(query["data"][0]["embedding"])).tolist()
    return found


@pytest.mark.parametrize("language", COMMANDS)
def test_the_code_of_a_call_makes_that_call(
    guarded: Watched, language: str, tmp_path: Path
) -> None:
    page = guarded.page
    page.get_by_label("Query", exact=True).fill(HOSTILE)
    page.get_by_label("Instruction before the query").select_option("custom")
    page.get_by_label("Your instruction").fill("Find '$(it)' \"here\"")
    page.get_by_label("Documents", exact=True).fill(HOSTILE)
    page.get_by_label("Dimensions", exact=True).fill("128")
    page.get_by_label("Cut each text after").fill("12")
    page.get_by_label("Which tokens are kept").select_option("left")
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator("#ranking li")).to_have_count(4)

    code = shown(guarded, language)
    found = similarities(language, run(language, code, tmp_path))

    assert KEY not in code
    numbers = page.locator("#ranking .number").evaluate_all(
        "nodes => nodes.map((node) => node.childNodes[1].textContent.replace('\u2212', '-'))"
    )
    assert sorted(found, reverse=True) == pytest.approx([float(n) for n in numbers], abs=2e-4)


@pytest.mark.parametrize("language", COMMANDS)
def test_without_a_key_the_code_names_none(console: Watched, language: str, tmp_path: Path) -> None:
    expect(console.page.get_by_text("256 dimensions")).to_be_visible()
    code = shown(console, language)

    assert "HEXGRID_API_KEY" not in code
    assert len(similarities(language, run(language, code, tmp_path))) == 12
