"""What a vector depends on beside its token ids, as one short text."""

import hashlib

import torch

from hexgrid.config import Quantization
from hexgrid.model.checkpoint import Checkpoint
from hexgrid.model.int8 import activation_steps

# To be counted up with any change of the forward pass that moves a vector by more than rounding does.
_FORWARD_PASS = 2


def fingerprint(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    quantization: Quantization = "none",
) -> str:
    """The same for the same weights, config, rounding and kind of device; reads all files (about 1 GB/s)."""
    rounding = f"int8 {activation_steps()}" if quantization == "int8" else str(dtype)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{_FORWARD_PASS} {device.type} {rounding}".encode())
    weights = {entry.file for entry in checkpoint.tensors.values()}
    for path in [checkpoint.directory / "config.json", *sorted(weights)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
