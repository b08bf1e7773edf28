"""Rows of texts: each text once and whole, in rows of known shapes, and read as if it were alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import packing
from packing import WIDTHS, Packed
from student import Student
from tests.training.conftest import DESIGN, HIDDEN

TOKENS = 4096
Lengths = st.lists(st.integers(1, 700), min_size=1, max_size=60)


def batches_of(lengths: list[int]) -> list[Packed]:
    ids = texts_of(lengths)
    return [packing.fill(rows, width, ids) for rows, width in packing.pack(lengths, TOKENS)]


def texts_of(lengths: list[int]) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Ids that tell their text and place: no two are equal."""
    return [np.arange(length) + 1000 * (number + 1) for number, length in enumerate(lengths)]


@given(Lengths)
def test_every_text_is_packed_once_and_whole(lengths: list[int]) -> None:
    found = {}
    for packed in batches_of(lengths):
        for number, text in enumerate(packed.texts.tolist()):
            assert text not in found
            mine = packed.text == number
            found[text] = packed.ids[mine].tolist()
            assert packed.positions[mine].tolist() == list(range(lengths[text]))

    assert found == {number: ids.tolist() for number, ids in enumerate(texts_of(lengths))}


@given(Lengths)
def test_the_last_token_of_each_text_is_where_it_is_said_to_be(lengths: list[int]) -> None:
    for packed in batches_of(lengths):
        last = packed.ids.gather(1, packed.last).flatten()[packed.pooled]

        assert last.tolist() == [
            1000 * (text + 1) + lengths[text] - 1 for text in packed.texts.tolist()
        ]


@given(Lengths)
def test_there_are_few_shapes_and_batches_are_bounded(lengths: list[int]) -> None:
    known = {width.tokens: width for width in WIDTHS}
    for packed in batches_of(lengths):
        num_rows, width = packed.ids.shape
        assert packed.ids.numel() <= TOKENS
        if width in known:
            assert packed.last.shape[1] == known[width].texts
            assert num_rows % known[width].rows == 0
        else:
            assert width % 64 == 0


def test_a_packed_text_gives_the_vector_that_it_gives_alone() -> None:
    torch.manual_seed(0)
    student = Student(DESIGN.shape, torch.randn(50, HIDDEN))
    for weight in student.parameters():  # its start is a bag of tokens, which sees no order
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
    lengths = [1, 2, 9, 40, 41, 96, 97, 256, 257, 512, 513, 600, 3, 3, 5]
    ids = [np.random.default_rng(length).integers(0, 50, length) for length in lengths]

    with torch.no_grad():
        alone = torch.cat([student(packing.alone(each)) for each in ids])
        for rows, width in packing.pack(lengths, TOKENS):
            packed = packing.fill(rows, width, ids)
            torch.testing.assert_close(student(packed), alone[packed.texts], atol=1e-4, rtol=1e-4)


def test_there_is_little_padding_in_a_step() -> None:
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(2.8, 0.9, 500).astype(int) + 2, 512).tolist()

    held = sum(packed.ids.numel() for packed in batches_of(lengths))

    assert sum(lengths) / held > 0.85
