"""Where a forward pass spends its time, in each precision: how near it is to nothing but GEMM.

One batch as the server forms it, of texts of 80 tokens on average; torch's profiler, self time by operator.
On CUDA that is the time of an operator's kernels, and what is in none is the time when no kernel runs.

The last two columns are the pass's share of the rate at which this machine multiplies square matrices,
measured before and after, and that of the linear layers while they run: the first is the second times their
share of the pass.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch
from throughput import PRECISIONS
from torch.profiler import ProfilerActivity, profile
from workload import checkpoint, english_texts, report

from hexgrid.engine.native import CPU_PART_ROWS
from hexgrid.model import cpu_kernels
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.gemm import gemm_rate, linear_operations
from hexgrid.model.int8_file import load_int8
from hexgrid.model.loading import load_weights
from hexgrid.model.packing import Packed, pack
from hexgrid.model.qwen3 import Qwen3
from hexgrid.tokenizer import Tokenizer

# What an operator, or a kernel of ours, counts as; the rest, what is in none included, is "other".
KINDS: dict[str, tuple[str, ...]] = {
    "linear": (
        "aten::mm",
        "aten::addmm",
        "mkldnn::_linear_pointwise",
        "onednn::qlinear_pointwise",
    ),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_flash_attention_forward",
        "hexgrid_attend",
    ),
    "norms": ("aten::linalg_vector_norm", "aten::_fused_rms_norm", "hexgrid_norm"),
    "heads": ("hexgrid_heads",),
    "SwiGLU": ("hexgrid_swiglu",),
    "multiplying, adding": (
        *("aten::mul", "aten::mul_", "aten::addcmul_", "aten::silu_", "aten::add_"),
    ),
    "copying": ("aten::copy_",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: a random one of the 0.6B shape")
    parser.add_argument("--layers", type=int, help="fewer layers for the random one")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, help="default: 1024, on CUDA 16384")
    parser.add_argument(
        "--rows",
        type=int,
        action="append",
        help="that go through a layer at a time; repeat. Default: 512, on CUDA all",
    )
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--operators", type=int, default=12, help="most expensive ones to list")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        action="append",
        help="repeat; default: all of them, on CUDA bfloat16",
    )
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_cuda = device.type == "cuda"
    num_tokens = arguments.tokens or (16_384 if on_cuda else 1024)
    precisions = ("bfloat16",) if on_cuda else tuple(PRECISIONS)
    rows = []
    with checkpoint(arguments.checkpoint, "0.6B", num_layers=arguments.layers) as directory:
        opened = open_checkpoint(directory)
        tokenizer = Tokenizer(
            opened.tokenizer_path,
            vocab_size=opened.config.vocab_size,
            max_model_len=num_tokens,
        )
        batch = take(tokenizer, num_tokens)
        operations = sum(linear_operations(opened.config, len(ids)) for ids in batch)
        for precision in arguments.precision or precisions:
            for num_rows in arguments.rows or [num_tokens if on_cuda else CPU_PART_ROWS]:
                model = load(directory, precision, num_rows, device)
                rates = [gemm_rate(device, precision)]
                times = measure(model, batch, arguments.passes)
                rates.append(gemm_rate(device, precision))
                total = sum(times.values())
                print(f"\n{precision}, {num_rows} rows: {total / 1e3:.1f} ms a pass")
                most = sorted(times.items(), key=lambda each: -each[1])
                for name, time in most[: arguments.operators]:
                    print(f"  {time / total:6.1%}  {name}")
                rows.append({
                    "precision": precision,
                    "rows": num_rows,
                    "ms a pass": total / 1e3,
                    **(found := shares(times)),
                    "of the GEMM rate": (whole := 1e6 * operations / total / statistics.mean(rates)),
                    "its linears": whole / found["linear"],
                })  # fmt: skip
    report(
        f"Shares of a pass over {num_tokens} tokens on {device.type}",
        rows,
        {"benchmark": "forward_profile", "device": device.type},
    )


def load(directory: Path, precision: str, num_rows: int, device: torch.device) -> Qwen3:
    """The model alone."""
    opened = open_checkpoint(directory)
    if precision == "int8":
        weights = load_int8(opened, directory.parent / "quantized", print)
    else:
        weights = load_weights(opened, device, getattr(torch, precision))
    return Qwen3(opened.config, weights, max_positions=1024, rows_per_chunk=num_rows)


def measure(model: Qwen3, batch: list[list[int]], num_passes: int) -> dict[str, float]:
    """Microseconds of a pass by operator, and of what is in none."""
    packed = pack(batch, model.device)
    for _ in range(3):  # kernels are chosen
        model.forward(packed)
    if model.device.type == "cuda":
        return on_cuda(model, packed, num_passes)
    with profile(activities=[ProfilerActivity.CPU]) as found, kernels_named():
        for _ in range(num_passes):
            with torch.profiler.record_function("pass"):
                model.forward(packed)
    times: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        times["outside operators" if event.key == "pass" else event.key] += (
            event.self_cpu_time_total / num_passes
        )
    return times


@contextmanager
def kernels_named() -> Iterator[None]:
    """Our own kernels in the profile, by the names of their functions."""
    call = cpu_kernels._call  # noqa: SLF001

    def named(name: str, *arguments: float | None) -> None:
        with torch.profiler.record_function(name):
            call(name, *arguments)

    with patch.object(cpu_kernels, "_call", named):
        yield


def on_cuda(model: Qwen3, packed: Packed, num_passes: int) -> dict[str, float]:
    """The same of kernels, by the operator that launched them; the whole is timed without the profiler."""
    torch.cuda.synchronize()
    start = perf_counter()
    for _ in range(num_passes):
        model.forward(packed)
    torch.cuda.synchronize()
    whole = 1e6 * (perf_counter() - start) / num_passes
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(num_passes):
            model.forward(packed)
        torch.cuda.synchronize()
    times: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        if event.device_type.name == "CPU":  # the kernels are events of their own, too
            times[event.key] += event.self_device_time_total / num_passes
    times["no kernel"] = max(0.0, whole - sum(times.values()))
    return times


def take(tokenizer: Tokenizer, num_tokens: int) -> list[list[int]]:
    """Texts of about so many tokens in all."""
    batch: list[list[int]] = []
    for ids in tokenizer.encode(english_texts(tokenizer, num_tokens // 4)).token_ids:
        if sum(map(len, batch)) + len(ids) <= num_tokens:
            batch.append(ids)
    return batch


def shares(times: dict[str, float]) -> dict[str, float]:
    """The share of each kind."""
    total = sum(times.values())
    found = {
        kind: sum(times.get(name, 0.0) for name in names) / total for kind, names in KINDS.items()
    }
    return {**found, "other": 1 - sum(found.values())}


if __name__ == "__main__":
    main()
