"""Operations of a forward pass, counted by hand on a small shape, and the machine's rate."""

import itertools
from dataclasses import replace

import pytest
import torch

from hexgrid.engine.served_model import ServedModel
from hexgrid.model import gemm
from hexgrid.model.gemm import gemm_rate, linear_operations


def test_operations_are_those_of_the_weights_that_each_token_meets(tiny_model: ServedModel) -> None:
    config = replace(
        tiny_model.config,
        hidden_size=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=3,
        intermediate_size=5,
        num_hidden_layers=3,
    )
    keys_and_values, query_and_output, mlp = 2 * 2 * 3, 2 * 2 * 6, 3 * 2 * 5
    every_layer = keys_and_values + query_and_output + mlp

    expected = 7 * (2 * every_layer + keys_and_values) + query_and_output + mlp
    assert linear_operations(config, 7) == 2 * expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_rate_is_that_of_the_median_product(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    durations = iter([3.0, 0.1, 0.2, 0.3, 0.1])
    clock = itertools.chain.from_iterable((0.0, seconds) for seconds in durations)
    monkeypatch.setattr(gemm, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(gemm, "_SIZE", 64)

    assert gemm_rate(torch.device("cpu"), precision) == 2 * 64**3 / 0.2
