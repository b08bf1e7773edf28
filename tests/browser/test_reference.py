"""/docs: the server's own OpenAPI description, drawn for people."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import Watched, watched
from tests.server.running import KEY

pytestmark = pytest.mark.browser


@pytest.fixture
def reference(browser: Browser, nano_url: str) -> Iterator[Watched]:
    with watched(browser, nano_url) as console:
        console.open("/docs")
        expect(console.page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()
        yield console


def test_every_operation_and_schema_is_there_and_linked(reference: Watched, nano_url: str) -> None:
    document = httpx2.get(f"{nano_url}/openapi.json", trust_env=False).json()
    page = reference.page

    operations = [(m.upper(), path) for path, methods in document["paths"].items() for m in methods]
    headings = page.locator("main h3").all_inner_texts()
    assert [" ".join(heading.split()) for heading in headings] == [
        f"{method} {path}" for method, path in operations
    ] + list(document["components"]["schemas"])
    for link in page.locator("nav.contents a, main td a").all():
        target = (link.get_attribute("href") or "").removeprefix("docs#")
        expect(page.locator(f"[id='{target}']")).to_have_count(1)
    reference.check()


def test_fields_have_their_type_their_meaning_and_whether_they_must_be(
    reference: Watched,
) -> None:
    page = reference.page
    row = page.get_by_label("Fields of the body of POST /v1/embeddings").get_by_role("row")
    prompt = page.get_by_label("Fields of the body of POST /tokenize").get_by_role("row")

    expect(row.filter(has_text="dimensions").first).to_contain_text("integer")
    expect(row.filter(has_text="dimensions").first).to_contain_text("normalise it again")
    expect(row.filter(has_text="encoding_format")).to_contain_text('"base64" | "bytes"')
    expect(prompt.filter(has_text="prompt").first).to_contain_text("required")


def test_an_address_leads_to_its_section(reference: Watched) -> None:
    page = reference.open("/docs#EmbeddingRequest")

    expect(page.get_by_role("heading", name="EmbeddingRequest")).to_be_in_viewport()


def test_the_examples_are_answered(reference: Watched, tmp_path: Path) -> None:
    samples = reference.page.locator(".sample pre").all_text_contents()

    assert len(samples) > 10
    for sample in samples:
        done = subprocess.run(
            ["bash", "-c", sample.replace("curl -s", "curl -sSf")],
            env={"PATH": os.environ["PATH"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (sample, done.stderr)


def test_the_description_can_be_taken_along_with_the_key(
    browser: Browser, guarded_url: str
) -> None:
    with watched(browser, guarded_url) as console:
        page = console.open("/docs")
        page.get_by_label("API key", exact=True).fill(KEY)
        page.get_by_role("button", name="Use key").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="openapi.json", exact=True).click()

        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert download.value.suggested_filename == "openapi.json"
        assert json.loads(text)["openapi"] == "3.1.0"
        expect(page.locator(".sample pre").first).to_contain_text("$HEXGRID_API_KEY")
