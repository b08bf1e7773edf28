"""The torch runner on the CPU: ids in, numpy out, and usable after a failure."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hexgrid.engine.runner import TorchRunner
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.model.kv_cache import KVCache
from hexgrid.model.packing import pack
from tests.checkpoints import SMALL, CheckpointFactory, random_ids
from tests.model.running import CPU, open_qwen3

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
