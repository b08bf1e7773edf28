"""Recorded passes: how a batch is laid out in fixed shapes, and that replays give what the plain pass does.

On the CPU a tape stands in for CUDA's graphs; it too runs the same operations on the same memory again.
"""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._pytree import tree_leaves

from hexgrid.model import qwen3
from hexgrid.model.attention import flash, sdpa
from hexgrid.model.cuda_graphs import BUCKETS, Bucket, Graph, Graphs, can_record, padded
from hexgrid.model.packed_matrix import PackedMatrix
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3
from tests.checkpoints import random_ids
from tests.model.running import CPU, embed, open_qwen3
from tests.model.tape import Tape, attend_by_sums, record_on_tape

SMALL_BUCKETS = (Bucket(12, 1), Bucket(24, 1), Bucket(24, 4))
LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=40)


@pytest.fixture
def model(small_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Qwen3:
    """In float32, with attention that asks the device for lengths."""
    monkeypatch.setattr(qwen3, "backend_for", lambda *_: attend_by_sums)
    return open_qwen3(small_directory, rows_per_chunk=512)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Unit vectors of the same texts."""
    torch.testing.assert_close(normalize(found), normalize(expected), rtol=0, atol=2e-5)


@given(LENGTHS)
def test_a_batch_that_fits_leaves_no_row_and_no_sequence_empty(lengths: list[int]) -> None:
    batch = [[7] * length for length in lengths]

    for bucket in BUCKETS:
        if bucket.fits(lengths):
            sequences = padded(batch, bucket)
            assert sequences[: len(batch)] == batch
            assert len(sequences) == bucket.num_seqs + 1
            assert sum(map(len, sequences)) == bucket.num_tokens
            assert all(0 < len(ids) <= bucket.longest for ids in sequences)
            assert not any(map(any, sequences[len(batch) :]))


@pytest.mark.parametrize(
    ("lengths", "fits"),
    [
        ([13], True),
        ([14], False),
        ([13, 1], True),
        ([14, 1], False),
        ([13, 1, 1], True),
        ([14, 1, 1], False),
        ([1, 1, 1, 1], False),
    ],
)
def test_a_bucket_keeps_a_row_for_each_sequence_without_an_input(
    lengths: list[int], *, fits: bool
) -> None:
    assert Bucket(16, 3).fits(lengths) is fits


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_rows_of_zeros_change_no_vector(small_directory: Path, bucket: Bucket) -> None:
    model = open_qwen3(small_directory)
    most = bucket.num_tokens // (2 * bucket.num_seqs)
    for lengths in ([bucket.longest], [1], [1 + n % most for n in range(bucket.num_seqs)]):
        batch = random_ids(lengths)

        found = embed(model, padded(batch, bucket))

        torch.testing.assert_close(found[: len(batch)], embed(model, batch), rtol=0, atol=2e-5)


def test_attention_by_sums_is_the_attention(small_directory: Path) -> None:
    torch.manual_seed(0)
    packed = pack(random_ids([1, 9, 4, 2]), CPU)
    q, k, v = (torch.randn(16, heads, 8) for heads in (4, 2, 2))
    (whole,) = packed.parts(100)

    torch.testing.assert_close(attend_by_sums(q, k, v, whole), sdpa(q, k, v, whole))
    lone = q[packed.last_rows], k, v, packed.pooled()
    torch.testing.assert_close(attend_by_sums(*lone), sdpa(*lone))


@pytest.mark.parametrize("bucket", BUCKETS, ids=str)
def test_each_replay_gives_the_vectors_of_its_own_batch(model: Qwen3, bucket: Bucket) -> None:
    """Large and small batches by turns: nothing of an earlier one may be left."""
    graph = Graph(model, bucket, record_on_tape)
    most = bucket.num_tokens // (2 * bucket.num_seqs)
    several = [1 + n % most for n in range(bucket.num_seqs)]

    for lengths in ([bucket.longest], several, [1], several[::-1], [bucket.longest], [2]):
        batch = random_ids(lengths)
        assert_same(graph.run(batch), model.forward(pack(batch, CPU)))


def test_random_batches_go_into_the_smallest_bucket_or_none(model: Qwen3) -> None:
    graphs = Graphs(model, record_on_tape, SMALL_BUCKETS)
    numbers = random.Random(0)
    num_graphed = 0

    for _ in range(200):
        lengths = [numbers.randint(1, 9) for _ in range(numbers.randint(1, 5))]
        batch = random_ids(lengths)
        found = graphs.forward(batch)
        fitting = [each for each in SMALL_BUCKETS if each.fits(lengths)]
        assert (found is not None) == bool(fitting)
        if found is not None:
            num_graphed += 1
            assert_same(found, model.forward(pack(batch, CPU)))

    assert 50 < num_graphed < 200


def test_a_batch_runs_in_the_first_bucket_that_it_fits(
    model: Qwen3, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Bucket] = []
    monkeypatch.setattr(Graph, "run", lambda self, _: ran.append(self.bucket))
    graphs = Graphs(model, record_on_tape, SMALL_BUCKETS)

    for lengths in ([11], [12], [11, 2], [24]):
        graphs.forward(random_ids(lengths))

    assert ran == list(SMALL_BUCKETS)


def test_vectors_stay_when_the_next_batch_runs(model: Qwen3) -> None:
    graph = Graph(model, Bucket(24, 4), record_on_tape)
    found = graph.run(random_ids([3, 4]))
    before = found.clone()

    graph.run(random_ids([20]))

    assert torch.equal(found, before)


def test_the_largest_is_recorded_first_and_tried_last(model: Qwen3) -> None:
    rows: list[int] = []

    def record(run: Any) -> Any:
        replay = record_on_tape(run)
        rows.append(len(replay()))
        return replay

    graphs = Graphs(model, record, SMALL_BUCKETS)

    assert rows == [5, 2, 2]
    assert [each.bucket for each in graphs.all] == list(SMALL_BUCKETS)


@pytest.mark.parametrize(
    ("max_positions", "rows_per_chunk", "expected"),
    [
        (20, 24, [Bucket(12, 1), Bucket(24, 4)]),  # Bucket(24, 1) may hold 23 zeros
        (10, 24, []),
        (100, 23, [Bucket(12, 1)]),
    ],
)
def test_no_pass_has_more_positions_or_rows_than_the_model(
    model: Qwen3, max_positions: int, rows_per_chunk: int, expected: list[Bucket]
) -> None:
    less = Qwen3(
        model.config, model._weights, max_positions=max_positions, rows_per_chunk=rows_per_chunk
    )

    graphs = Graphs(less, record_on_tape, SMALL_BUCKETS)

    assert [each.bucket for each in graphs.all] == expected
    batch = random_ids([3])
    for graph in graphs.all:
        assert_same(graph.run(batch), less.forward(pack(batch, CPU)))


def test_a_recorded_pass_asks_the_host_for_nothing(
    small_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors without data, with flash attention: a copy from or to the host would show, or raise."""
    monkeypatch.setattr(qwen3, "backend_for", lambda *_: flash)
    model = _without_data(open_qwen3(small_directory, torch.bfloat16))

    with Tape() as tape:
        model.forward(pack(random_ids([3, 9]), model.device))
    assert CPU in _devices(tape)  # a plain pass copies lengths: this is how it would show

    tapes: list[Tape] = []

    def record(run: Any) -> Any:
        with Tape() as tape:
            result = run()
        tapes.append(tape)
        assert result.shape == (5, model.config.hidden_size)
        return lambda: result

    Graph(model, Bucket(24, 4), record)
    assert _devices(tapes[0]) == {torch.device("meta")}
    names = [str(func) for func, *_ in tapes[0].calls]
    assert names.count("torch_attn._varlen_attn.default") == model.config.num_hidden_layers


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda", torch.bfloat16, True),
        ("cuda", torch.float16, True),
        ("cuda", torch.float32, False),
        ("cpu", torch.bfloat16, False),
        ("mps", torch.float16, False),
    ],
)
def test_passes_are_recorded_where_attention_is_flash(
    device: str, dtype: torch.dtype, *, expected: bool
) -> None:
    assert can_record(torch.device(device), dtype) is expected


def _devices(tape: Tape) -> set[torch.device]:
    """Of all tensors that its operations read or wrote."""
    return {leaf.device for leaf in tree_leaves(tape.calls) if isinstance(leaf, Tensor)}


def _without_data(model: Qwen3) -> Qwen3:
    """The same model on torch's device for shapes alone."""

    def emptied(part: Any) -> Any:
        if isinstance(part, PackedMatrix):  # a GPU has its matrices plain
            part = part.plain()
        if isinstance(part, Tensor):
            return part.to("meta")
        if isinstance(part, tuple):
            return tuple(map(emptied, part))
        fields = dataclasses.fields(part)
        return type(part)(**{each.name: emptied(getattr(part, each.name)) for each in fields})

    weights = emptied(model._weights)
    return Qwen3(model.config, weights, max_positions=100, rows_per_chunk=100)
