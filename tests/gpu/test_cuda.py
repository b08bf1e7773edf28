"""What only a CUDA device can show: flash attention, bfloat16 on tensor cores, the asynchronous runner."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.runner import TorchRunner
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.attention import flash, sdpa
from hexgrid.model.kv_cache import KVCache
from hexgrid.model.loading import pick_device, pick_dtype
from hexgrid.model.packing import Reuse, pack
from hexgrid.model.qwen3 import Qwen3
from hexgrid.model.synthetic import make_checkpoint
from tests.checkpoints import random_ids
from tests.model.running import Transformers, embed, open_qwen3
from tests.reference import Reference

pytestmark = pytest.mark.gpu

BATCH = random_ids([1, 2, 17, 17, 128, 129, 1000])


@pytest.fixture(scope="module")
def expected(directory: Path) -> torch.Tensor:
    """The vectors of BATCH in float32 on the processor."""
    return embed(open_qwen3(directory), BATCH)


def test_auto_is_bfloat16_on_cuda(cuda: torch.device, narrow: Qwen3) -> None:
    device = pick_device("auto")

    assert device == cuda
    assert pick_dtype("auto", device, narrow.config) == torch.bfloat16


def test_float32_vectors_are_those_of_the_reference(directory: Path, cuda: torch.device) -> None:
    vectors = embed(open_qwen3(directory, device=cuda), BATCH)

    reference = Reference(directory).embed(BATCH)
    torch.testing.assert_close(vectors, reference, rtol=0, atol=5e-5)


def test_float32_vectors_are_those_of_transformers(directory: Path, cuda: torch.device) -> None:
    vectors = embed(open_qwen3(directory, device=cuda), BATCH)

    theirs = Transformers(directory, device=cuda).embed(BATCH, padding="left")
    torch.testing.assert_close(vectors, theirs, rtol=0, atol=5e-5)


def test_a_compact_table_is_read_on_the_device(cuda: torch.device) -> None:
    vectors = embed(open_qwen3(nano.DIRECTORY, device=cuda), BATCH)

    on_the_processor = embed(open_qwen3(nano.DIRECTORY), BATCH)
    torch.testing.assert_close(vectors, on_the_processor, rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_stay_close_to_float32(
    directory: Path, cuda: torch.device, expected: torch.Tensor, dtype: torch.dtype
) -> None:
    vectors = embed(open_qwen3(directory, dtype, device=cuda), BATCH)

    assert cosine_similarity(vectors, expected).min() > 0.9999


def test_an_input_alone_and_in_a_batch_agree(narrow: Qwen3) -> None:
    alone = torch.cat([embed(narrow, [ids]) for ids in BATCH])

    assert cosine_similarity(embed(narrow, BATCH), alone).min() > 0.9999


@pytest.mark.parametrize("lone_rows", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 4), (8, 8), (5, 1)])
def test_flash_attention_agrees_with_the_plain_one(
    cuda: torch.device, heads: int, kv_heads: int, *, lone_rows: bool
) -> None:
    torch.manual_seed(0)
    packed = pack(BATCH, cuda)
    num_tokens = len(packed.token_ids)
    q, k, v = (
        torch.randn(num_tokens, n, 128, device=cuda, dtype=torch.bfloat16)
        for n in (heads, kv_heads, kv_heads)
    )
    (whole,) = packed.parts(num_tokens)
    q, part = (q[packed.last_rows], packed.pooled()) if lone_rows else (q, whole)

    fast, plain = (attend(q, k, v, part).float() for attend in (flash, sdpa))

    assert cosine_similarity(fast, plain).min() > 0.999


@pytest.mark.parametrize("read", [1, 5, 30])
def test_flash_attention_after_a_prefix_agrees_with_the_plain_one(
    cuda: torch.device, narrow: Qwen3, read: int
) -> None:
    torch.manual_seed(0)
    batch = random_ids([read + 1, read + 40, 7])
    cache = KVCache(narrow.config, 64, torch.bfloat16, cuda)
    packed = pack(batch, cuda, Reuse(cache, [range(read), range(read), []], []))
    num_tokens = len(packed.token_ids)
    q = torch.randn(num_tokens, 8, 128, device=cuda, dtype=torch.bfloat16)
    k, v = torch.randn(2, sum(packed.kv_lengths), 4, 128, device=cuda, dtype=torch.bfloat16)
    (part,) = packed.parts(num_tokens)

    fast, plain = (attend(q, k, v, part).float() for attend in (flash, sdpa))

    assert cosine_similarity(fast, plain).min() > 0.999


def test_batches_queued_before_the_first_is_read_keep_their_rows(narrow: Qwen3) -> None:
    runner = TorchRunner(narrow)
    batches = [random_ids([length, 3, 500]) for length in (1, 40, 300)]

    collects = [runner.run(batch) for batch in batches]

    assert runner.runs_async
    for collect, batch in zip(collects, batches, strict=True):
        alone = narrow.forward(pack(batch, narrow.device)).cpu()
        np.testing.assert_allclose(collect(), alone, rtol=0.01, atol=0.01)


def test_a_row_can_be_computed_again_in_float32(narrow: Qwen3, expected: torch.Tensor) -> None:
    hidden = torch.from_numpy(TorchRunner(narrow).run_float32(BATCH))

    torch.testing.assert_close(torch.nn.functional.normalize(hidden), expected, rtol=0, atol=5e-5)


@pytest.fixture(scope="module")
def served(cuda: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    directory = tmp_path_factory.mktemp("cuda") / "model"
    make_checkpoint(directory, "0.6B", num_layers=2)
    model = open_model(
        ["cuda"],
        directory,
        EngineConfig(max_num_batched_tokens=512, result_cache_bytes=0),
        Metrics(),
    )
    yield model
    model.engine.close()


def test_many_submissions_at_once_get_their_own_rows(served: ServedModel) -> None:
    jobs = [random_ids([n % 90 + 1, n % 7 + 1], vocab_size=151_669) for n in range(200)]
    alone = [served.engine.submit(job).result(60) for job in jobs]

    futures = [served.engine.submit(job) for job in jobs]

    for future, row in zip(futures, alone, strict=True):
        mine, same = torch.from_numpy(future.result(60)), torch.from_numpy(row)
        assert cosine_similarity(mine, same).min() > 0.9999


def test_the_longest_input_runs(served: ServedModel) -> None:
    hidden = served.engine.submit(random_ids([served.max_model_len])).result(120)

    assert np.isfinite(hidden).all()
