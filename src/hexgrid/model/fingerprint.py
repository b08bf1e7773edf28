"""What a vector depends on beside its token ids, as one short text."""

import hashlib

import torch

from hexgrid.model.checkpoint import Checkpoint

# To be counted up with any change of the forward pass that moves a vector by more than rounding does.
_FORWARD_PASS = 1


def fingerprint(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> str:
    """The same for the same weights, config, dtype and kind of device; reads all files (about 1 GB/s)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{_FORWARD_PASS} {device.type} {dtype}".encode())
    weights = {entry.file for entry in checkpoint.tensors.values()}
    for path in [checkpoint.directory / "config.json", *sorted(weights)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
