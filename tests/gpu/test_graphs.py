"""CUDA graphs: what each replay gives is what the plain pass does, and nothing waits for the device."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.runner import TorchRunner
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.metrics import Metrics
from hexgrid.model.cuda_graphs import BUCKETS, Bucket, CudaRecorder, Graph, Graphs
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3
from tests.checkpoints import random_ids

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def graphs(narrow: Qwen3) -> Graphs:
    """Those of all buckets, in one pool."""
    return Graphs(narrow, CudaRecorder(narrow.device))


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert cosine_similarity(found, expected).min() > 0.9999


def plain(model: Qwen3, batch: list[list[int]]) -> Tensor:
    return model.forward(pack(batch, model.device))


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Whatever makes the host wait for the device raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this mode is new
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_every_bucket_gives_the_plain_vectors_large_and_small_by_turns(
    graphs: Graphs, narrow: Qwen3, bucket: Bucket
) -> None:
    (graph,) = (each for each in graphs.all if each.bucket == bucket)
    most = bucket.num_tokens // (2 * bucket.num_seqs)
    several = [1 + n % most for n in range(bucket.num_seqs)]

    for lengths in ([bucket.longest], several, [1], several[::-1], [bucket.longest], [2]):
        batch = random_ids(lengths)
        assert_same(graph.run(batch), plain(narrow, batch))


def test_a_thousand_random_batches_give_the_plain_vectors(narrow: Qwen3) -> None:
    runner = TorchRunner(narrow)
    runner.record_graphs(CudaRecorder(narrow.device))
    assert runner._graphs is not None
    numbers = random.Random(0)

    for _ in range(1000):
        most = numbers.choice([4, 30, 200])
        batch = random_ids([numbers.randint(1, most) for _ in range(numbers.randint(1, 40))])
        assert_same(torch.from_numpy(runner.run(batch)()), plain(narrow, batch).cpu())


def test_replays_queued_before_the_first_is_read_keep_their_rows(narrow: Qwen3) -> None:
    runner = TorchRunner(narrow)
    runner.record_graphs(CudaRecorder(narrow.device))
    batches = [random_ids([length, 3]) for length in (1, 40, 11, 300, 11, 12)]

    collects = [runner.run(batch) for batch in batches]

    for collect, batch in zip(collects, batches, strict=True):
        assert_same(torch.from_numpy(collect()), plain(narrow, batch).cpu())


@pytest.mark.parametrize("lengths", [[12], [200, 7], [700, 30]], ids=str)
@pytest.mark.parametrize("how", ["plain", "graphs", "prefixes"])
def test_a_batch_is_queued_without_waiting_and_comes_back_pinned(
    narrow: Qwen3, lengths: list[int], how: str
) -> None:
    runner = TorchRunner(narrow, SharedPrefixes(narrow, 2**26) if how == "prefixes" else None)
    if how == "graphs":
        runner.record_graphs(CudaRecorder(narrow.device))
    batch = random_ids(lengths)
    for _ in range(3):  # kernels are chosen, memory is at hand, beginnings are kept
        expected = runner.run(batch)()

    with waiting_is_an_error():
        collect = runner.run(batch)

    found = torch.from_numpy(collect())
    assert found.is_pinned()
    assert_same(found, torch.from_numpy(expected))


def test_the_server_records_its_passes_unless_it_shall_not(
    cuda: torch.device, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Bucket] = []
    run = Graph.run

    def noted(self: Graph, token_ids: list[list[int]]) -> Tensor:
        ran.append(self.bucket)
        return run(self, token_ids)

    monkeypatch.setattr(Graph, "run", noted)
    vectors: list[Tensor] = []
    for enforce_eager in (False, True):
        config = EngineConfig(device="cuda", enforce_eager=enforce_eager, result_cache_bytes=0)
        model = open_model(["model"], tiny_checkpoint, config, Metrics())
        ran.clear()
        vectors.append(torch.from_numpy(model.engine.submit(random_ids([9])).result(60)))
        model.engine.close()
        assert ran == ([] if enforce_eager else [Bucket(16, 1)])

    assert_same(vectors[0], vectors[1])
