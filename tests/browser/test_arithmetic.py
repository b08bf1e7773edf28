"""What the page computes itself, against numpy, the tokenizer and `hexgrid top`."""

import json
from typing import Any

import httpx2
import numpy as np
import pytest
from playwright.sync_api import expect

from hexgrid.engine.served_model import ServedModel
from hexgrid.monitor.figures import figures
from hexgrid.monitor.reading import Change, parse
from tests.browser.browsing import Watched
from tests.server.running import embed, vectors

pytestmark = pytest.mark.browser

TEXTS = [
    "Grüße an alle",
    "日本語のテキスト",
    "a 🦉 b",
    "tabs\tand\nlines",
    "  two  spaces",
    "<|endoftext|>",
]


def call(console: Watched, module: str, function: str, *arguments: object) -> Any:
    """What a function of a module of ours answers."""
    given = ", ".join(json.dumps(argument) for argument in arguments)
    return console.evaluate(
        f"import('./console/{module}').then((module) => module.{function}({given}))"
    )


@pytest.mark.parametrize(("count", "width"), [(2, 8), (3, 64), (40, 16), (300, 256)])
def test_the_map_is_that_of_principal_components(console: Watched, count: int, width: int) -> None:
    rng = np.random.default_rng(count)
    # The first directions stand out, as they do of texts.
    given = rng.normal(size=(count, width)) * 3 / np.arange(1, width + 1)

    found = call(console, "pca.js", "project", given.tolist())

    centred = given - given.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    shares = scales**2 / (scales**2).sum()
    assert found["shares"] == pytest.approx(shares[:2], abs=1e-4)
    if count > 2:
        np.testing.assert_allclose(found["points"], centred @ axes[:2].T, atol=0.05)


@pytest.mark.parametrize("given", [[[1.0, 0.0]], [[1.0, 2.0]] * 5, [[0.0, 0.0, 0.0]] * 2])
def test_equal_vectors_lie_on_each_other(console: Watched, given: list[list[float]]) -> None:
    found = call(console, "pca.js", "project", given)

    assert found == {"points": [[0, 0]] * len(given), "shares": [0, 0]}


def test_kendalls_tau_counts_pairs(console: Watched) -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 50):
        before, after = (rng.permutation(count) + 1 for _ in range(2))
        pairs = [
            np.sign((before[i] - before[j]) * (after[i] - after[j]))
            for i in range(count)
            for j in range(i)
        ]
        expected = np.mean(pairs) if pairs else 1

        found = call(console, "ranking.js", "kendall", before.tolist(), after.tolist())
        assert found == pytest.approx(expected)


def test_the_ranking_is_that_of_the_dot_products(
    console: Watched, nano_model: ServedModel, nano_url: str
) -> None:
    documents = ["one cat", "two dogs", "a stone", "one cat"]
    with httpx2.Client(base_url=nano_url, trust_env=False) as client:
        query, *rows = vectors(embed(client, ["animals", *documents]))
    page = console.page
    page.get_by_label("Instruction before the query").select_option("none")
    page.get_by_label("Query", exact=True).fill("animals")
    page.get_by_label("Documents", exact=True).fill("\n".join(documents))
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator("#ranking li")).to_have_count(4)

    similarities = np.array(rows) @ query
    order = np.argsort(-similarities, kind="stable")
    assert page.locator("#ranking .text").all_inner_texts() == [documents[i] for i in order]
    shown = [float(text.split()[-1]) for text in page.locator("#ranking .number").all_inner_texts()]
    assert shown == pytest.approx(similarities[order], abs=1e-4)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_read_as_the_text_that_they_are(
    console: Watched, nano_model: ServedModel, text: str
) -> None:
    ids = nano_model.tokenizer.tokenize(text, add_special_tokens=False)
    read = [
        call(console, "pieces.js", "readable", piece) for piece in nano_model.tokenizer.pieces(ids)
    ]

    whole = b"".join(
        bytes.fromhex(part["text"]) if part["kind"] == "bytes" else part["text"].encode()
        for part in read
    )
    assert whole.decode() == text
    if text == TEXTS[-1]:
        assert [part["kind"] for part in read] == ["special"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("most", [1, 2, 5, 9, 20])
def test_the_tokens_that_are_kept_are_those_that_the_server_keeps(
    console: Watched, nano_model: ServedModel, most: int, side: str
) -> None:
    from hexgrid.tokenizer import Truncation

    text = "Gravity attracts two bodies toward each other."
    ids = nano_model.tokenizer.tokenize(text, add_special_tokens=True)
    kept = nano_model.tokenizer.encode(
        [text],
        add_special_tokens=True,
        truncation=Truncation(most, side),  # type: ignore[arg-type]
    ).token_ids[0]

    marks = call(console, "pieces.js", "keptTokens", len(ids), most, side)

    assert [each for each, is_kept in zip(ids, marks, strict=True) if is_kept] == kept


def test_the_figures_are_those_of_hexgrid_top(console: Watched, nano_url: str) -> None:
    with httpx2.Client(base_url=nano_url, trust_env=False) as client:
        before = client.get("/metrics").text
        for text in ("a", "b", "a", "a longer text"):
            vectors(embed(client, text))
        after = client.get("/metrics").text

    found = console.evaluate(
        f"""import("./console/readings.js").then(({{ parsed, figures, rate }}) => {{
            const [before, after] = [parsed({json.dumps(before)}, 10), parsed({json.dumps(after)}, 12)];
            const tokens = rate(before, after, "prompt_tokens_total", {{ model_name: "hexgrid/nano" }});
            return {{ ...figures(before, after, "hexgrid/nano"), tokens }};
        }})"""
    )

    (expected,) = figures(Change(parse(before, 10), parse(after, 12)), 0).models
    assert found["ready"] is expected.ready is True
    assert found["queueTokens"] == expected.queue_tokens
    assert found["tokens"] == pytest.approx(expected.tokens_per_s)
    assert found["requestsPerSecond"] == pytest.approx(expected.requests_per_s) == 2
    assert found["cacheShare"] == expected.result_cache_share
    assert found["tokens"] > 0
