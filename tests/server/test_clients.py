"""The clients that people have already, against a real server: openai, sync and async, langchain-openai."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from hexgrid.config.settings import Secret
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.server.running import KEY, embed, serving, variant, vectors

TEXTS = ["The capital of China is Beijing.", "Explain gravity", ""]


@pytest.fixture(scope="module")
def guarded(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A client, with the key, of a server that asks for it."""
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "tiny")], metrics, api_key=(Secret(KEY),)) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture
def base_url(guarded: httpx2.Client) -> str:
    """What clients of OpenAI's API are configured with."""
    return f"{guarded.base_url}/v1"


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    """The official client; it does not try again, so that a test sees the first answer."""
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        yield client


def as_vectors(response: openai.types.CreateEmbeddingResponse) -> Vectors:
    """Its vectors [B, D]."""
    return np.array([item.embedding for item in response.data], dtype=np.float32)


# Without encoding_format the client asks for base64 and decodes it.
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=str)
@pytest.mark.parametrize("dimensions", [None, 16])
def test_openai_gets_the_vectors(
    client: openai.OpenAI, guarded: httpx2.Client, options: Any, dimensions: int | None
) -> None:
    if dimensions is not None:
        options = options | {"dimensions": dimensions}

    response = client.embeddings.create(model="tiny", input=TEXTS, **options)

    expected = vectors(embed(guarded, TEXTS, dimensions=dimensions))
    assert as_vectors(response).tolist() == expected.tolist()
    assert [item.index for item in response.data] == [0, 1, 2]
    assert response.usage.prompt_tokens == response.usage.total_tokens > 0


@pytest.mark.parametrize("ids", [[9707, 1879], [[9707], [1879, 1]]])
def test_openai_may_send_token_ids(client: openai.OpenAI, guarded: httpx2.Client, ids: Any) -> None:
    response = client.embeddings.create(model="tiny", input=ids)

    assert as_vectors(response).tolist() == vectors(embed(guarded, ids)).tolist()


def test_openai_may_send_fields_of_ours(client: openai.OpenAI, guarded: httpx2.Client) -> None:
    response = client.embeddings.create(
        model="tiny", input="Explain gravity", extra_body={"input_type": "query"}
    )

    expected = vectors(embed(guarded, "Explain gravity", input_type="query"))
    assert as_vectors(response).tolist() == expected.tolist()


def test_openai_async_gets_the_vectors(base_url: str, guarded: httpx2.Client) -> None:
    async def ask() -> list[Vectors]:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
            responses = await asyncio.gather(
                *(
                    client.embeddings.create(model="tiny", input=text, dimensions=8)
                    for text in TEXTS
                )
            )
        return [as_vectors(response)[0] for response in responses]

    found = asyncio.run(ask())

    np.testing.assert_allclose(found, vectors(embed(guarded, TEXTS, dimensions=8)), atol=1e-5)


def test_openai_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"model": "nope", "input": "a"}, openai.NotFoundError),
        ({"model": "tiny", "input": []}, openai.BadRequestError),
        ({"model": "tiny", "input": "a", "dimensions": 65}, openai.BadRequestError),
        ({"model": "tiny", "input": 5}, openai.BadRequestError),
    ],
)
def test_openai_raises_the_error_of_its_kind(
    client: openai.OpenAI, request_: Any, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as caught:
        client.embeddings.create(**request_)

    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"] in str(caught.value)
    assert caught.value.param == caught.value.body["param"]


def test_openai_raises_authentication_error_for_a_wrong_key(base_url: str) -> None:
    with (
        openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="valid API key"),
    ):
        client.embeddings.create(model="tiny", input="a")


@pytest.fixture
def langchain(base_url: str) -> OpenAIEmbeddings:
    """Told to send text: by default it would send ids of another tokenizer."""
    return OpenAIEmbeddings(
        model="tiny",
        base_url=base_url,
        api_key=SecretStr(KEY),
        check_embedding_ctx_length=False,
        dimensions=32,
    )


def test_langchain_embeds_documents(langchain: OpenAIEmbeddings, guarded: httpx2.Client) -> None:
    found = langchain.embed_documents(TEXTS)

    np.testing.assert_allclose(found, vectors(embed(guarded, TEXTS, dimensions=32)), atol=1e-5)


def test_langchain_embeds_a_query(langchain: OpenAIEmbeddings, guarded: httpx2.Client) -> None:
    found = langchain.embed_query("Explain gravity")

    np.testing.assert_allclose(
        [found], vectors(embed(guarded, "Explain gravity", dimensions=32)), atol=1e-5
    )
