"""Slots: what is put into one comes back out of it, by layer."""

from pathlib import Path

import torch

from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.kv_cache import KVCache, bytes_per_token

K, D = 2, 16  # of the small model


def test_rows_are_read_from_the_slots_that_keep_them(kv_cache: KVCache) -> None:
    k, v = torch.randn(2, 5, K, D).unbind()
    for layer in range(2):
        kv_cache.keep(layer, torch.tensor([6, 1]), k + layer, v + layer, torch.tensor([0, 4]))
    into_k, into_v = torch.zeros(2, 3, K, D).unbind()

    kv_cache.read(1, torch.tensor([1, 6]), into_k, into_v, torch.tensor([2, 0]))

    for into, one in ((into_k, k), (into_v, v)):
        assert torch.equal(into[2], one[4] + 1)
        assert torch.equal(into[0], one[0] + 1)
        assert into[1].count_nonzero() == 0


def test_a_slot_takes_the_keys_and_values_of_all_layers(small_directory: Path) -> None:
    config = open_checkpoint(small_directory).config

    assert bytes_per_token(config, torch.float32) == 2 * 2 * K * D * 4
    assert bytes_per_token(config, torch.bfloat16) == 2 * 2 * K * D * 2
