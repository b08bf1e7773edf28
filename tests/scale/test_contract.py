"""What the server's tests ask of the API, asked through Ray's ingress of two replicas of each model."""

import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.model.synthetic import make_checkpoint
from tests.scale.cluster import Cluster
from tests.server import (
    test_answer,
    test_body,
    test_embedding_call,
    test_embeddings,
    test_errors,
    test_json_depth,
    test_openapi,
    test_status,
    test_tokenization,
)
from tests.server.conftest import SHORT_MODEL_LEN
from tests.server.running import TEXT, embed
from tests.server.test_openapi import document

__all__ = ["document"]
pytestmark = pytest.mark.ray

_MODULES = (
    test_answer,
    test_body,
    test_embedding_call,
    test_embeddings,
    test_errors,
    test_json_depth,
    test_openapi,
    test_status,
    test_tokenization,
)


def _tests() -> dict[str, Any]:
    """Those that ask a server, and nothing of its insides."""
    return {
        name: each
        for module in _MODULES
        for name, each in vars(module).items()
        if name.startswith("test_")
        and {"client", "document"} & set(inspect.signature(each).parameters)
        and name != "test_an_id_is_made_for_each_request"  # Ray's proxy makes it here: see below
    }


globals().update(_tests())
del test_answer, test_body, test_embedding_call, test_embeddings, test_errors
del test_json_depth, test_openapi, test_status, test_tokenization


@pytest.fixture(scope="module")
def client(
    cluster: Cluster, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """The models of the server's tests; see tests/server/conftest.py."""
    other = tmp_path_factory.mktemp("contract") / "other"
    make_checkpoint(other, "tiny", seed=1)
    listed = other.with_name("listed")
    shutil.copytree(tiny_checkpoint, listed)
    config = json.loads((listed / "config.json").read_text())
    (listed / "config.json").write_text(json.dumps(config | {"matryoshka_dimensions": [16, 32]}))
    deployed = cluster.deploy(
        {
            "server": {"allow_anonymous": True},
            # Two replicas have cached other beginnings, and a vector's last bits follow that.
            "engine": {"dtype": "float32", "result_cache_bytes": 0, "prefix_cache_bytes": 0},
            "ingress": {"num_cpus": 0.1},
            "models": [
                model(tiny_checkpoint, "tiny", "alias"),
                model(other, "other"),
                model(tiny_checkpoint, "short", engine={"max_model_len": SHORT_MODEL_LEN}),
                model(listed, "listed"),
            ],
        }
    )
    assert deployed.returncode == 0, deployed.stderr
    with cluster.client() as client:
        yield client


def model(directory: Path, *names: str, **more: Any) -> dict[str, Any]:
    replicas = 2 if "tiny" in names else 1
    return {
        "model": str(directory),
        "names": list(names),
        "num_cpus": 0.1,
        "min_replicas": replicas,
        "max_replicas": replicas,
    } | more


def test_the_proxys_id_is_that_of_the_request_and_sent_once(client: httpx2.Client) -> None:
    first, second = (embed(client, TEXT) for _ in range(2))

    (header,) = first.headers.get_list("x-request-id")
    assert first.json()["id"] == f"embd-{header}"
    assert first.json()["id"] != second.json()["id"]


def test_a_clients_id_is_kept_and_sent_once(client: httpx2.Client) -> None:
    response = embed_with_id(client, "mine")

    assert response.headers.get_list("x-request-id") == ["mine"]
    assert response.json()["id"] == "embd-mine"


def embed_with_id(client: httpx2.Client, request_id: str) -> httpx2.Response:
    return client.post("/v1/embeddings", json={"input": TEXT}, headers={"x-request-id": request_id})
