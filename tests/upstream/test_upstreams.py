"""Two real servers behind a front: the same vectors, work that spreads, and nothing lost when one goes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from hexgrid.config import EngineConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, RemoteError
from hexgrid.metrics import Metrics
from hexgrid.model.synthetic import make_checkpoint
from tests.cli.hexgrid_process import Serving, serve
from tests.server.running import (
    KEY,
    TEXT,
    embed,
    error,
    metric,
    serving,
    serving_one,
    variant,
    vectors,
    wait_for_metric,
    wait_until,
)
from tests.upstream.fronting import fronting, open_upstreams


@pytest.fixture(scope="module")
def upstreams(tiny_model: ServedModel) -> Iterator[list[httpx2.Client]]:
    with serving_one(tiny_model) as one, serving_one(tiny_model) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def front(tiny_checkpoint: Path, upstreams: list[httpx2.Client]) -> Iterator[httpx2.Client]:
    with fronting(tiny_checkpoint, *upstreams, max_num_batched_tokens=256) as client:
        yield client


def test_vectors_are_the_upstreams_own(
    front: httpx2.Client, upstreams: list[httpx2.Client]
) -> None:
    texts = [TEXT, "", "Beijing", TEXT * 20]

    for fields in ({}, {"dimensions": 10}, {"use_activation": False}):
        ours, theirs = (vectors(embed(client, texts, **fields)) for client in (front, upstreams[0]))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_ids_and_counts_are_ours(front: httpx2.Client, upstreams: list[httpx2.Client]) -> None:
    before = metric(upstreams[0], "prompt_tokens_total") + metric(
        upstreams[1], "prompt_tokens_total"
    )

    response = embed(front, "three words here", truncate_prompt_tokens=3)

    assert response.json()["usage"]["prompt_tokens"] == 3
    assert response.headers["x-hexgrid-truncated"] == "1"
    after = sum(metric(each, "prompt_tokens_total") for each in upstreams)
    assert after - before == 3


def test_one_large_request_spreads_over_the_upstreams(
    front: httpx2.Client, upstreams: list[httpx2.Client]
) -> None:
    before = [metric(each, "inputs_total") for each in upstreams]
    inputs = [[1000 + i, i % 7] for i in range(2048)]

    found = vectors(embed(front, inputs))

    shares = [metric(each, "inputs_total") - b for each, b in zip(upstreams, before, strict=True)]
    assert sum(shares) == 2048
    assert min(shares) > 200
    np.testing.assert_allclose(found[::300], vectors(embed(upstreams[0], inputs[::300])), atol=1e-5)


def test_what_upstreams_do_is_counted(front: httpx2.Client) -> None:
    embed(front, TEXT)

    for number in "01":
        assert metric(front, "upstream_breaker_state", upstream=number) == 0
        assert metric(front, "upstream_outstanding_tokens", upstream=number) == 0
    assert metric(front, "upstream_calls_total", outcome="answered") >= 3
    assert metric(front, "upstream_calls_total", outcome="failed") == 0


def test_a_salt_goes_along_and_parts_what_is_sent_together(
    tiny_checkpoint: Path, upstreams: list[httpx2.Client], callers: ThreadPoolExecutor
) -> None:
    with fronting(tiny_checkpoint, upstreams[0]) as front:
        salts = [None, "a", "b"] * 4
        answers = list(
            callers.map(
                lambda salt: vectors(embed(front, TEXT, **({"cache_salt": salt} if salt else {}))),
                salts,
            )
        )

    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=1e-6)


def test_a_key_is_sent_and_the_models_name_is_found(
    tiny_model: ServedModel, tiny_checkpoint: Path
) -> None:
    metrics = Metrics()
    with (
        serving([variant(tiny_model, metrics, "m")], metrics, api_key=(Secret(KEY),)) as upstream,
        fronting(tiny_checkpoint, upstream, upstream_api_key=Secret(KEY)) as front,
    ):
        assert vectors(embed(front, TEXT)).shape == (1, 64)


def test_without_the_key_the_start_fails_and_says_what_is_missing(
    tiny_model: ServedModel, tiny_checkpoint: Path
) -> None:
    metrics = Metrics()
    with (
        serving([variant(tiny_model, metrics, "m")], metrics, api_key=(Secret(KEY),)) as upstream,
        pytest.raises(RemoteError, match=r"wants another key: set HEXGRID_UPSTREAM_API_KEY"),
    ):
        open_upstreams(
            tiny_checkpoint, [str(upstream.base_url)], Metrics(), upstream_start_timeout=0.1
        )


def test_an_upstream_of_other_weights_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, upstreams: list[httpx2.Client]
) -> None:
    make_checkpoint(tmp_path / "other", "tiny", seed=1)
    metrics = Metrics()
    other = open_model(["m"], tmp_path / "other", EngineConfig(dtype="float32"), metrics)

    with (
        serving([other], metrics) as odd,
        pytest.raises(RemoteError, match=r"Upstream 1 computes other vectors than the rest"),
    ):
        open_upstreams(
            tiny_checkpoint, [str(each.base_url) for each in (upstreams[0], odd)], Metrics()
        )


def test_of_several_models_one_must_be_named(
    tiny_checkpoint: Path, tiny_model: ServedModel
) -> None:
    metrics = Metrics()
    models = [variant(tiny_model, metrics, "a"), variant(tiny_model, metrics, "b")]
    with serving(models, metrics) as upstream:
        url = str(upstream.base_url)
        with pytest.raises(
            RemoteError, match=r"lists 2 models: a, b\. Say which with --upstream-model"
        ):
            open_upstreams(tiny_checkpoint, [url], Metrics())
        with pytest.raises(RemoteError, match=r"lists not 'c': a, b"):
            open_upstreams(tiny_checkpoint, [url], Metrics(), upstream_model="c")
        with fronting(tiny_checkpoint, upstream, upstream_model="b") as front:
            assert embed(front, TEXT).json()["model"] == "front"


def test_inputs_are_a_token_shorter_than_the_upstreams_longest(
    tiny_checkpoint: Path, tiny_model: ServedModel
) -> None:
    with serving_one(tiny_model) as upstream, fronting(tiny_checkpoint, upstream) as front:
        (card,) = front.get("/v1/models").json()["data"]

        assert card["max_model_len"] == 32_767
        assert error(embed(front, [1] * 32_768))["param"] == "input_tokens"


def test_a_longer_length_than_can_be_sent_is_refused(
    tiny_checkpoint: Path, upstreams: list[httpx2.Client]
) -> None:
    url = str(upstreams[0].base_url)

    with pytest.raises(ConfigError, match="--max-model-len 32768 is more than 32767"):
        open_upstreams(tiny_checkpoint, [url], Metrics(), max_model_len=32_768)


def test_vectors_on_disk_are_found_by_the_next_front(
    tiny_checkpoint: Path, tmp_path: Path, upstreams: list[httpx2.Client]
) -> None:
    answers = []
    for _ in range(2):
        with fronting(tiny_checkpoint, upstreams[0], result_cache_dir=tmp_path) as front:
            answers.append(vectors(embed(front, TEXT)).tolist())
            hits = metric(front, "result_store_hits_total")

    assert answers[0] == answers[1]
    assert hits == 1


def test_killing_an_upstream_under_load_loses_nothing(
    tiny_checkpoint: Path, callers: ThreadPoolExecutor
) -> None:
    with _process(tiny_checkpoint) as one, _process(tiny_checkpoint) as other:
        with one.client() as client:
            alone = [vectors(embed(client, _texts(i))) for i in range(40)]
        with fronting(tiny_checkpoint, one.client(), other.client()) as front:
            jobs = [callers.submit(embed, front, _texts(i % 40)) for i in range(400)]
            wait_until(lambda: sum(job.done() for job in jobs) > 50, "some are answered")
            one.process.kill()
            for i, job in enumerate(jobs):
                np.testing.assert_allclose(vectors(job.result()), alone[i % 40], atol=1e-4)
            wait_for_metric(front, "upstream_breaker_state", 2, upstream="0")
            assert front.get("/ready").status_code == 200


def test_readiness_follows_the_upstreams_and_their_return(tiny_checkpoint: Path) -> None:
    with _process(tiny_checkpoint) as upstream:
        port = httpx2.URL(upstream.url).port
        with fronting(tiny_checkpoint, upstream.client()) as front:
            assert embed(front, TEXT).status_code == 200
            upstream.stop()
            wait_until(lambda: front.get("/ready").status_code == 503, "not ready")
            detail = error(embed(front, TEXT + "!"))
            assert (detail["code"], detail["type"]) == (503, "ServiceUnavailableError")
            assert str(port) not in detail["message"]
            assert front.get("/live").status_code == 200
            with _process(tiny_checkpoint, "--port", str(port)):
                wait_until(lambda: front.get("/ready").status_code == 200, "ready again")
                assert embed(front, TEXT + "!").status_code == 200


def _process(checkpoint: Path, *arguments: str) -> AbstractContextManager[Serving]:
    return serve(str(checkpoint), "--dtype", "float32", *arguments)


def _texts(number: int) -> list[str]:
    return [f"{TEXT} {number} {place}" for place in range(4)]
