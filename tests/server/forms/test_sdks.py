"""The real clients of Cohere, Ollama and Hugging Face against a real server: answers and errors."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager

import cohere
import httpx
import httpx2
import numpy as np
import ollama
import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import HfHubHTTPError

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.quantized import quantize
from tests.server.running import KEY, TEXT, embed, serving, variant, vectors

TEXTS = [TEXT, "Explain gravity", ""]


@pytest.fixture(scope="module")
def guarded(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A client, with the key, of a server that asks for it."""
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "tiny")], metrics, api_key=(Secret(KEY),)) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture
def url(guarded: httpx2.Client) -> str:
    return str(guarded.base_url).rstrip("/")


@contextmanager
def cohere_with(key: str, url: str) -> Iterator[cohere.ClientV2]:
    """Cohere's client on connections that are closed."""
    with httpx.Client() as connections:
        yield cohere.ClientV2(api_key=key, base_url=url, httpx_client=connections)


@pytest.fixture
def cohere_client(url: str) -> Iterator[cohere.ClientV2]:
    with cohere_with(KEY, url) as client:
        yield client


def test_cohere_gets_every_type(cohere_client: cohere.ClientV2, guarded: httpx2.Client) -> None:
    answer = cohere_client.embed(
        model="tiny",
        texts=TEXTS,
        input_type="search_document",
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
        output_dimension=16,
    )

    exact = vectors(embed(guarded, TEXTS, dimensions=16))
    np.testing.assert_array_equal(np.array(answer.embeddings.float_, np.float32), exact)
    assert answer.embeddings.int8 == quantize(exact, "int8").tolist()
    assert answer.embeddings.uint8 == quantize(exact, "uint8").tolist()
    assert answer.embeddings.binary == quantize(exact, "binary").tolist()
    assert answer.embeddings.ubinary == quantize(exact, "ubinary").tolist()
    assert answer.embeddings.base64 is not None
    assert answer.texts == TEXTS
    assert answer.meta is not None
    assert answer.meta.billed_units is not None
    assert answer.meta.billed_units.input_tokens


def test_cohere_sends_many_texts_in_several_requests(
    cohere_client: cohere.ClientV2, guarded: httpx2.Client
) -> None:
    texts = [f"text {number}" for number in range(100)]

    answer = cohere_client.embed(
        model="tiny", texts=texts, input_type="document", embedding_types=["float"]
    )

    found = np.array(answer.embeddings.float_, np.float32)
    np.testing.assert_allclose(found, vectors(embed(guarded, texts)), atol=1e-5)


def test_cohere_sends_inputs_of_text(
    cohere_client: cohere.ClientV2, guarded: httpx2.Client
) -> None:
    answer = cohere_client.embed(
        model="tiny",
        inputs=[{"content": [{"type": "text", "text": TEXT}]}],  # type: ignore[list-item]
        input_type="search_query",
        embedding_types=["float"],
    )

    expected = vectors(embed(guarded, TEXT, input_type="query"))
    found = np.array(answer.embeddings.float_, np.float32)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_cohere_ranks(cohere_client: cohere.ClientV2) -> None:
    answer = cohere_client.rerank(model="tiny", query=TEXT, documents=["a", TEXT], top_n=1)

    ((index, score),) = [(result.index, result.relevance_score) for result in answer.results]
    assert index == 1
    assert score == pytest.approx(1, abs=1e-6)


def test_cohere_raises_its_errors_with_our_message(
    cohere_client: cohere.ClientV2, url: str
) -> None:
    with pytest.raises(cohere.BadRequestError, match="Unsupported input_type 'clustering'"):
        cohere_client.embed(model="tiny", texts=["a"], input_type="clustering")
    with pytest.raises(cohere.NotFoundError, match="does not exist"):
        cohere_client.embed(model="nope", texts=["a"], input_type="document")
    with (
        cohere_with("wrong", url) as stranger,
        pytest.raises(cohere.UnauthorizedError, match="valid API key"),
    ):
        stranger.rerank(model="tiny", query="a", documents=["b"])


@pytest.fixture
def ollama_client(url: str) -> Iterator[ollama.Client]:
    with closing(ollama.Client(host=url, headers={"authorization": f"Bearer {KEY}"})) as client:
        yield client


def test_ollama_embeds_one_text_and_several(
    ollama_client: ollama.Client, guarded: httpx2.Client
) -> None:
    one = ollama_client.embed("tiny", TEXT, keep_alive="5m", options={"temperature": 0.0})
    several = ollama_client.embed("tiny:latest", TEXTS, dimensions=16, truncate=False)

    np.testing.assert_array_equal(
        np.array(one.embeddings, np.float32), vectors(embed(guarded, TEXT))
    )
    np.testing.assert_array_equal(
        np.array(several.embeddings, np.float32), vectors(embed(guarded, TEXTS, dimensions=16))
    )
    assert one.model == "tiny"
    assert one.prompt_eval_count
    assert one.total_duration


def test_ollama_embeds_by_its_older_call(
    ollama_client: ollama.Client, guarded: httpx2.Client
) -> None:
    answer = ollama_client.embeddings("tiny", TEXT)

    expected = vectors(embed(guarded, TEXT, use_activation=False))
    assert np.array([answer.embedding], np.float32).tolist() == expected.tolist()


def test_ollama_lists_the_models(ollama_client: ollama.Client) -> None:
    (model,) = ollama_client.list().models

    assert model.model == "tiny"
    assert model.details is not None
    assert model.details.family == "qwen3"


def test_ollama_embeds_asynchronously(url: str, guarded: httpx2.Client) -> None:
    async def ask() -> ollama.EmbedResponse:
        headers = {"authorization": f"Bearer {KEY}"}
        client = ollama.AsyncClient(host=url, headers=headers)
        try:
            return await client.embed("tiny", TEXT)
        finally:
            await client.close()  # type: ignore[no-untyped-call]

    found = np.array(asyncio.run(ask()).embeddings, np.float32)

    assert found.tolist() == vectors(embed(guarded, TEXT)).tolist()


def test_ollama_raises_its_error_with_our_message(ollama_client: ollama.Client, url: str) -> None:
    with pytest.raises(ollama.ResponseError, match="does not exist") as caught:
        ollama_client.embed("nope", "a")
    assert caught.value.status_code == 404
    with (
        closing(ollama.Client(host=url)) as stranger,
        pytest.raises(ollama.ResponseError, match="valid API key"),
    ):
        stranger.embed("tiny", "a")


@pytest.fixture
def hub_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[InferenceClient]:
    """Only its own server is asked, so it may be online."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield InferenceClient(token=KEY)
    close_session()


@pytest.mark.parametrize("text", [TEXT, TEXTS])
def test_the_hubs_client_extracts_features(
    hub_client: InferenceClient, url: str, guarded: httpx2.Client, text: str | list[str]
) -> None:
    found = hub_client.feature_extraction(
        text, model=f"{url}/embed", normalize=True, truncate=True, truncation_direction="left"
    )

    assert found.tolist() == vectors(embed(guarded, text)).tolist()


def test_the_hubs_client_compares_sentences(
    hub_client: InferenceClient, url: str, guarded: httpx2.Client
) -> None:
    scores = hub_client.sentence_similarity(
        TEXT, other_sentences=["a", TEXT], model=f"{url}/similarity"
    )

    other, same = vectors(embed(guarded, ["a", TEXT]))
    np.testing.assert_allclose(scores, [float(other @ same), 1], atol=1e-6)


def test_the_hubs_client_raises_its_error_with_our_message(
    hub_client: InferenceClient, url: str
) -> None:
    with pytest.raises(HfHubHTTPError, match="Unsupported prompt_name 'nope'"):
        hub_client.feature_extraction("a", model=f"{url}/embed", prompt_name="nope")
    with pytest.raises(HfHubHTTPError, match="valid API key"):
        InferenceClient(token="hf_wrong").feature_extraction("a", model=f"{url}/embed")
