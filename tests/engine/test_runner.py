"""The torch runner on the CPU: ids in, numpy out, and usable after a failure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hexgrid.engine.runner import TorchRunner
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.model import qwen3
from hexgrid.model.cuda_graphs import BUCKETS, Graph
from hexgrid.model.kv_cache import KVCache
from hexgrid.model.packing import pack
from tests.checkpoints import SMALL, CheckpointFactory, random_ids
from tests.model.running import CPU, open_qwen3
from tests.model.tape import attend_by_sums, record_on_tape

BATCH = random_ids([3, 1, 40])


@pytest.fixture(scope="module")
def directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint(dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def runner(directory: Path) -> TorchRunner:
    return TorchRunner(open_qwen3(directory, torch.bfloat16))


def test_a_runner_gives_the_models_hidden_states(runner: TorchRunner, directory: Path) -> None:
    expected = open_qwen3(directory, torch.bfloat16).forward(pack(BATCH, CPU))

    hidden = runner.run(BATCH)()

    assert hidden.dtype == np.float32
    assert np.array_equal(hidden, expected.numpy())


def test_a_runner_can_compute_the_same_in_float32(runner: TorchRunner, directory: Path) -> None:
    expected = open_qwen3(directory).forward(pack(BATCH, CPU))

    np.testing.assert_allclose(runner.run_float32(BATCH), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_processor_runs_one_batch_at_a_time(runner: TorchRunner) -> None:
    assert not runner.runs_async
    assert runner.hidden_size == SMALL.hidden_size


def test_a_runner_works_after_a_failed_batch(runner: TorchRunner) -> None:
    before = runner.run(BATCH)()

    with pytest.raises(IndexError):
        runner.run([[1], [SMALL.vocab_size]])()

    assert np.array_equal(runner.run(BATCH)(), before)


def test_a_beginning_is_read_from_the_cache_and_nothing_else_changes(directory: Path) -> None:
    model = open_qwen3(directory)
    reused: list[int] = []
    runner = TorchRunner(model, SharedPrefixes(model, 2**20, reused.append))
    plain = TorchRunner(model)
    texts = [[*range(20), own, own + 1] for own in range(100, 108)]

    for text in texts:
        np.testing.assert_allclose(runner.run([text])(), plain.run([text])(), rtol=1e-4, atol=1e-4)

    assert reused[-1] == 20


def test_the_self_test_keeps_a_cache_that_works_and_leaves_out_one_that_does_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = open_qwen3(directory)
    text = [*range(20), 7]

    def after_the_self_test() -> tuple[TorchRunner, list[int]]:
        reused: list[int] = []
        runner = TorchRunner(model, SharedPrefixes(model, 2**20, reused.append))
        runner.check_prefixes()
        assert reused[-1] > 0  # it did read
        reused.clear()
        for _ in range(3):
            runner.run([text])()
        return runner, reused

    assert after_the_self_test()[1][-1] == 20
    assert caplog.messages == []

    monkeypatch.setattr(KVCache, "read", lambda *_: None)
    runner, reused = after_the_self_test()

    assert reused == []
    assert "Beginnings of texts are not reused" in caplog.text
    assert np.array_equal(runner.run([text])(), TorchRunner(model).run([text])())


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inputs of each batch that ran as a recorded pass; attention asks the device for lengths."""
    monkeypatch.setattr(qwen3, "backend_for", lambda *_: attend_by_sums)
    batches: list[int] = []
    run = Graph.run

    def noted(self: Graph, token_ids: list[list[int]]) -> torch.Tensor:
        batches.append(len(token_ids))
        return run(self, token_ids)

    monkeypatch.setattr(Graph, "run", noted)
    return batches


def test_small_batches_run_as_recorded_passes_and_others_as_ever(
    directory: Path, graphed: list[int]
) -> None:
    model = open_qwen3(directory, rows_per_chunk=512)
    runner, plain = TorchRunner(model), TorchRunner(model)
    runner.record_graphs(record_on_tape)
    assert len(graphed) == 3 * len(BUCKETS)  # the self-test
    graphed.clear()

    for lengths in ([5], [300, 2, 200], [7, 3], [600], [4] * 40, [511]):
        batch = random_ids(lengths)
        np.testing.assert_allclose(runner.run(batch)(), plain.run(batch)(), rtol=1e-4, atol=1e-4)

    assert graphed == [1, 3, 2, 1]


def test_results_of_recorded_passes_stay_when_others_run(
    directory: Path, graphed: list[int]
) -> None:
    runner = TorchRunner(open_qwen3(directory, rows_per_chunk=512))
    runner.record_graphs(record_on_tape)
    first = runner.run(BATCH)()
    before = first.copy()

    runner.run(random_ids([44, 2, 1]))()

    assert np.array_equal(first, before)


def test_recorded_passes_come_before_the_cache_of_beginnings(
    directory: Path, graphed: list[int]
) -> None:
    model = open_qwen3(directory, rows_per_chunk=512)
    reused: list[int] = []
    runner = TorchRunner(model, SharedPrefixes(model, 2**20, reused.append))
    runner.record_graphs(record_on_tape)
    runner.check_prefixes()
    assert reused[-1] > 0  # its self-test reads the cache all the same
    small, large = [*range(20), 7], [[*range(300), own, own + 1] for own in (400, 402)]

    for _ in range(3):
        reused.clear()
        runner.run([small])()
        assert reused == []
        found = runner.run(large)()

    assert reused[-1] > 0
    np.testing.assert_allclose(found, TorchRunner(model).run(large)(), rtol=1e-4, atol=1e-4)


def test_the_self_test_leaves_out_recorded_passes_that_change_a_vector(
    directory: Path, graphed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Here each replay gives what the first one gave."""
    model = open_qwen3(directory, rows_per_chunk=512)
    runner = TorchRunner(model)

    def stale(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        result = run()
        return lambda: result

    runner.record_graphs(stale)
    graphed.clear()

    assert np.array_equal(runner.run(BATCH)(), TorchRunner(model).run(BATCH)())
    assert graphed == []
    assert "CUDA graphs are not used: in the pass of 16 tokens, vectors are off" in caplog.text


@pytest.mark.parametrize("wrong", ["one bucket", "not a number"])
def test_every_recorded_pass_is_tested(
    directory: Path, graphed: list[int], caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    runner = TorchRunner(open_qwen3(directory, rows_per_chunk=512))
    num_recorded = 0

    def last_is_off(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        nonlocal num_recorded
        num_recorded += 1
        replay = record_on_tape(run)
        if num_recorded > 1:
            return replay
        return lambda: replay() * torch.nan if wrong == "not a number" else replay().flip(1)

    runner.record_graphs(last_is_off)
    graphed.clear()
    runner.run(BATCH)()

    assert graphed == []
    assert "in the pass of 512 tokens, vectors are off" in caplog.text


def test_a_pass_that_cannot_be_recorded_is_told_and_the_runner_works_on(
    directory: Path, graphed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def failing(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        raise torch.OutOfMemoryError("out of memory")

    model = open_qwen3(directory, rows_per_chunk=512)
    runner = TorchRunner(model)
    runner.record_graphs(failing)

    assert np.array_equal(runner.run(BATCH)(), TorchRunner(model).run(BATCH)())
    assert caplog.messages == ["CUDA graphs are not used: out of memory"]
