"""/docs: the server's own OpenAPI description, drawn for people."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from hexgrid.engine.served_model import ServedModel
from tests.browser.browsing import Watched, watched
from tests.server.running import KEY, serving_one

pytestmark = pytest.mark.browser

OF_BATCHES = re.compile("/v1/(files|batches)")
LINE = {"method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}
# So many that one is not over before it is cancelled.
BATCH = "".join(json.dumps(LINE | {"custom_id": f"{n}"}) + "\n" for n in range(2000)).encode()


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
    tokens = page.get_by_label("Fields of the body of POST /detokenize").get_by_role("row")

    expect(row.filter(has_text="dimensions").first).to_contain_text("integer")
    expect(row.filter(has_text="dimensions").first).to_contain_text("normalise it again")
    expect(row.filter(has_text="encoding_format")).to_contain_text('"base64" | "bytes"')
    expect(tokens.filter(has_text="tokens").first).to_contain_text("required")
    expect(page.locator("#post_v1_embeddings")).to_contain_text("Needs input, or messages.")
    expect(page.locator("#post_score")).to_contain_text("Needs queries and documents, or")
    kinds = page.locator("#post_invocations [aria-label^='Fields of the body']")
    expect(kinds).to_have_count(3)


def test_parameters_of_path_and_query_are_told(reference: Watched) -> None:
    page = reference.page
    listed = page.get_by_label("Parameters of GET /v1/files", exact=True).get_by_role("row")
    one = page.get_by_label("Parameters of GET /v1/files/{file_id}", exact=True).get_by_role("row")

    expect(listed.filter(has_text="limit")).to_contain_text("integer")
    expect(listed.filter(has_text="order")).to_contain_text('"asc" | "desc"')
    expect(one.filter(has_text="file_id")).to_contain_text("required")


def test_an_address_leads_to_its_section(reference: Watched) -> None:
    page = reference.open("/docs#EmbeddingRequest")

    expect(page.get_by_role("heading", name="EmbeddingRequest")).to_be_in_viewport()


def test_the_examples_are_answered(reference: Watched, tmp_path: Path) -> None:
    samples = [each for each in samples_of(reference) if not OF_BATCHES.search(each)]

    assert len(samples) > 20
    for sample in samples:
        run(sample, tmp_path)


def test_the_examples_of_batches_are_answered_too(
    browser: Browser, nano_model: ServedModel, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(BATCH)
    with (
        serving_one(nano_model, batch_dir=tmp_path / "batches") as client,
        watched(browser, str(client.base_url)) as console,
    ):
        console.open("/docs")
        expect(console.page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()
        samples = [each for each in samples_of(console) if OF_BATCHES.search(each)]
        assert len(samples) == 9
        assert f"curl -s -X DELETE {console.url}/v1/files/FILE_ID" in samples
        known = {"PATH": "in.jsonl"}
        for sample in samples:
            if "FILE_ID" in sample or "input_file_id" in sample:  # a new one, as one is deleted
                known["FILE_ID"] = upload(client)
            if "BATCH_ID" in sample:
                known["BATCH_ID"] = begin(client, upload(client))
            run(filled(sample, known), tmp_path)


def samples_of(console: Watched) -> list[str]:
    """The commands that the page shows."""
    return console.page.locator(".sample pre").all_text_contents()


def filled(sample: str, known: dict[str, str]) -> str:
    """The command with what there is in place of its placeholders."""
    sample = re.sub(r"file-[0-9a-f]+", "FILE_ID", sample)
    return re.sub("|".join(known), lambda name: known[name[0]], sample)


def run(sample: str, directory: Path) -> None:
    """Run a command of the page as it stands there; an error of the server fails it."""
    done = subprocess.run(
        ["bash", "-c", sample.replace("curl -s", "curl -sSf")],
        env={"PATH": os.environ["PATH"]},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (sample, done.stderr)


def upload(client: httpx2.Client) -> str:
    """The id of a new file of requests."""
    form = {"file": ("in.jsonl", BATCH)}
    answer = client.post("/v1/files", files=form, data={"purpose": "batch"})
    return str(answer.raise_for_status().json()["id"])


def begin(client: httpx2.Client, file_id: str) -> str:
    """The id of a new batch."""
    body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return str(client.post("/v1/batches", json=body).raise_for_status().json()["id"])


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
