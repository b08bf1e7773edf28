"""`hexgrid serve --engine vllm` in front of real vLLM: equal vectors, and nothing lost when one goes."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np

from hexgrid.engine.served_model import ServedModel
from hexgrid.model.pooling import finish
from tests.cli.hexgrid_process import serve
from tests.server.running import TEXT, embed, error, metric, vectors, wait_for_metric, wait_until
from tests.vllm.conftest import free_port
from tests.vllm.running import FLAGS, STARTUP_SECONDS, Vllm, command, environment, vllm

TEXTS = ["", "Beijing", TEXT, "重力是吸引两个物体的力。", TEXT * 10, TEXT * 100, "a" * 2000]


def test_vectors_equal_those_of_our_own_engine(
    client: httpx2.Client, tiny_model: ServedModel
) -> None:
    ids = tiny_model.tokenizer.encode(TEXTS).token_ids
    ours = finish(tiny_model.engine.submit(ids).result(60), dimensions=None, normalize=True)

    theirs = vectors(embed(client, TEXTS))

    cosines = np.sum(ours * theirs, axis=1)
    assert cosines.min() > 0.9999, cosines


def test_dimensions_work_though_vllm_refuses_them(client: httpx2.Client, upstream: Vllm) -> None:
    with upstream.client() as direct:
        refused = direct.post("/v1/embeddings", json={"input": TEXT, "dimensions": 10})
        whole = vectors(embed(direct, TEXT))[:, :10]

    assert refused.status_code == 400
    assert "does not support Matryoshka" in refused.text
    np.testing.assert_allclose(
        vectors(embed(client, TEXT, dimensions=10)), whole / np.linalg.norm(whole), atol=1e-5
    )


def test_vllms_longest_length_is_never_sent(client: httpx2.Client) -> None:
    (limit,) = {
        card["max_model_len"]
        for card in client.get("/v1/models").json()["data"]
        if card["id"] == "tiny"
    }
    assert limit == 2047
    assert vectors(embed(client, [1] * 2047)).shape == (1, 64)

    detail = error(embed(client, [1] * 2048))

    assert "maximum context length is 2047 tokens" in detail["message"]


def test_killing_one_of_two_under_load_loses_nothing(
    upstream: Vllm, tiny_checkpoint: Path, tmp_path: Path, tiny_model: ServedModel
) -> None:
    with (
        vllm(tiny_checkpoint, tmp_path / "second", free_port(), "tiny") as second,
        serve(
            *(str(tiny_checkpoint), "--engine", "vllm", "--result-cache-bytes", "0"),
            *("--upstream", second.url, "--upstream", upstream.url),
        ) as served,
        served.client() as front,
        ThreadPoolExecutor(16) as callers,
    ):
        jobs: list[Future[httpx2.Response]] = []

        def answers_under_load() -> bool:
            if sum(not job.done() for job in jobs) < 100:
                new = range(len(jobs), len(jobs) + 100)
                jobs.extend(callers.submit(embed, front, texts(i)) for i in new)
            # The first was before the load: the server's own look at what it has in front.
            return metric(front, "upstream_calls_total", upstream="0", outcome="answered") > 1

        wait_until(answers_under_load, "the second has answered, and has more to do")
        second.kill()
        answers = [vectors(job.result()) for job in jobs]
        wait_for_metric(front, "upstream_breaker_state", 2, upstream="0")
        assert front.get("/ready").status_code == 200

    for i, answer in enumerate(answers):
        ids = tiny_model.tokenizer.encode(texts(i)).token_ids
        ours = finish(tiny_model.engine.submit(ids).result(60), dimensions=None, normalize=True)
        assert np.sum(ours * answer, axis=1).min() > 0.9999


def test_a_vllm_of_our_own_is_started_and_ended(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with serve(
        *("n=" + str(tiny_checkpoint), "--engine", "vllm", "--max-model-len", "2000"),
        *("--vllm-command", " ".join([command(), *FLAGS])),
        **environment(tmp_path),
    ) as served:
        served.wait_for(r"(?m)^Listening on", STARTUP_SECONDS)
        with served.client() as front:
            assert vectors(embed(front, TEXT, dimensions=10)).shape == (1, 10)
        found = served.wait_for(r"unix:(/\S+/socket)")
        socket = Path(found[1])
        assert socket.exists()

        assert served.stop() == 0

    assert not socket.parent.exists()


def texts(number: int) -> list[str]:
    return [f"{TEXT} {number} {place}" for place in range(4)]
