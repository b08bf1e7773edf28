"""How a checkpoint is loaded and run."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hexgrid.config.settings import Checked, new_setting

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Quantization = Literal["none", "int8"]

# For commands that compare vectors: they have no such options, and compute every vector anew.
CACHE_SETTINGS = (
    "result_cache_bytes",
    "result_cache_dir",
    "result_cache_dir_bytes",
    "prefix_cache_bytes",
)

# What is said of loading and running weights, which an upstream does.
NATIVE_SETTINGS = (
    "dtype",
    "quantization",
    "quantized_dir",
    "device",
    "prefix_cache_bytes",
    "enforce_eager",
    "num_threads",
)


@dataclass(frozen=True, kw_only=True)
class EngineConfig(Checked):
    """How a checkpoint is loaded and run; the same for the server and the in-process commands."""

    dtype: Dtype = new_setting(
        "auto",
        "Precision of the forward pass. auto: bfloat16 on CUDA and on CPUs that compute it "
        "natively, else float32. float16 overflows in the 8B model and is refused there.",
    )
    quantization: Quantization = new_setting(
        "none",
        "int8: linear layers in 8 bits on the CPU (x86-64), the rest in float32. About twice as fast or "
        "more, in half the memory; `hexgrid compare` says what it costs on your texts.",
    )
    quantized_dir: Path | None = new_setting(
        None,
        "Directory that keeps the weights in int8, so that the next start need not quantise them.",
        shown_default="hexgrid/quantized in the user's cache directory",
    )
    device: Device = new_setting("auto", "Where to compute. auto: cuda, else mps, else cpu.")
    max_model_len: int | None = new_setting(
        None,
        "Longest input in tokens, EOS included.",
        low=1,
        shown_default="32768, or the checkpoint's max_position_embeddings if that is less",
    )
    max_num_batched_tokens: int | None = new_setting(
        None,
        "Tokens of one forward pass; bounds its memory. A longer input runs by itself, so many of its "
        "rows at a time.",
        low=1,
        shown_default="1024 on a CPU, 16384 on a GPU",
    )
    max_num_seqs: int = new_setting(512, "Inputs of one forward pass.", low=1)
    max_num_queued_tokens: int = new_setting(
        4_000_000,
        "Tokens that may wait. Beyond it a request gets 429 with Retry-After; one request is "
        "always taken when nothing waits.",
        low=1,
    )
    forward_timeout: float = new_setting(
        300.0,
        "Seconds that one forward pass may take, and as many again for each batch's worth of tokens beyond "
        "the first. Longer is a hang: everyone is answered 503, and the server ends with code 75, to be "
        "started again.",
        low=0.001,
    )
    result_cache_bytes: int = new_setting(
        64 * 2**20,
        "Memory for vectors of inputs that were computed lately; the same input then costs nothing. "
        "0: none is kept.",
        low=0,
    )
    result_cache_dir: Path | None = new_setting(
        None,
        "Directory where vectors outlive the server, and are shared by the servers of one machine. "
        "They are kept by a fingerprint of the weights, dtype and device.",
        shown_default="none are kept on disk",
    )
    result_cache_dir_bytes: int = new_setting(
        2**30, "Most bytes in --result-cache-dir; those unused longest go first.", low=2**20
    )
    prefix_cache_bytes: int = new_setting(
        128 * 2**20,
        "Memory for keys and values of beginnings that texts share: instructions, common headers. A text "
        "then costs its own tokens only. 0: none is kept.",
        low=0,
    )
    enforce_eager: bool = new_setting(
        default=False,
        text="On CUDA, launch every kernel of every pass. Else the passes of small batches are recorded at "
        "start as CUDA graphs, which takes some time and memory then, and replayed.",
    )
    num_threads: int | None = new_setting(
        None, "CPU threads of the forward pass.", low=1, shown_default="the physical cores"
    )
    revision: str | None = new_setting(
        None, "Branch, tag or commit of a hub id.", shown_default="the hub's main branch"
    )
    download_dir: Path | None = new_setting(
        None,
        "Where hub downloads are kept.",
        shown_default="the hub's cache (HF_HOME)",
    )

    def quantized_directory(self) -> Path:
        """Where weights in int8 are kept."""
        if self.quantized_dir is not None:
            return self.quantized_dir.expanduser()
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "hexgrid" / "quantized"

    def without_caches(self) -> "EngineConfig":
        """The same, but that every vector is computed anew."""
        return dataclasses.replace(
            self, result_cache_bytes=0, result_cache_dir=None, prefix_cache_bytes=0
        )
