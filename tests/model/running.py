"""The forward pass from a directory to unit vectors, ours and that of transformers."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.loading import load_weights
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3

CPU = torch.device("cpu")
Padding = Literal["left", "right"]


def open_qwen3(
    directory: Path,
    dtype: torch.dtype = torch.float32,
    *,
    device: torch.device = CPU,
    rows_per_chunk: int = 256,
) -> Qwen3:
    """The packed model of a checkpoint."""
    checkpoint = open_checkpoint(directory)
    return Qwen3(
        checkpoint.config,
        load_weights(checkpoint, device, dtype),
        max_positions=checkpoint.config.max_position_embeddings,
        rows_per_chunk=rows_per_chunk,
    )


def embed(model: Qwen3, token_ids: list[list[int]], dtype: torch.dtype | None = None) -> Tensor:
    """Unit vectors [B, H] of one batch."""
    return normalize(model.forward(pack(token_ids, model.device), dtype)).cpu()


class Transformers:
    """transformers' Qwen3Model of a checkpoint, run on padded batches."""

    def __init__(self, directory: Path, *, device: torch.device = CPU) -> None:
        from transformers import Qwen3Model

        self._device = device
        self._model = Qwen3Model.from_pretrained(directory, dtype=torch.float32).to(device)

    def embed(self, token_ids: list[list[int]], *, padding: Padding) -> Tensor:
        """Unit vectors [B, H] of one batch."""
        return normalize(self.forward(token_ids, padding=padding)).cpu()

    @torch.inference_mode()
    def forward(self, token_ids: list[list[int]], *, padding: Padding) -> Tensor:
        """The hidden state of each last token: [B, H]."""
        length = max(map(len, token_ids))
        ids = torch.zeros(len(token_ids), length, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(token_ids):
            real = slice(length - len(own), None) if padding == "left" else slice(len(own))
            ids[row, real] = torch.tensor(own)
            mask[row, real] = 1
        hidden: Tensor = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
        ).last_hidden_state
        last = [length - 1 if padding == "left" else len(own) - 1 for own in token_ids]
        return hidden[torch.arange(len(last)), torch.tensor(last)]
