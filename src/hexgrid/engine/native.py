"""MODEL -> its weights on a device, behind our own engine: a ServedModel that computes here."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hexgrid.config import EngineConfig
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.runner import TorchRunner
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.served_model import ServedModel, open_front
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.model import cpu_kernels
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.cuda_graphs import CudaRecorder, can_record
from hexgrid.model.fingerprint import fingerprint
from hexgrid.model.hub import resolve
from hexgrid.model.int8 import check_supported
from hexgrid.model.int8_file import load_int8
from hexgrid.model.loading import load_weights, pick_device, pick_dtype
from hexgrid.model.qwen3 import Qwen3

# Where the curve of tokens/s against batch size is flat already: see benchmarks/RESULTS.md.
_CPU_BATCHED_TOKENS = 1024
_GPU_BATCHED_TOKENS = 16_384
# Rows that go through a layer together on a CPU: few enough that what one step writes the next finds in the
# processor's cache, enough for the matrix products. Measured by benchmarks/forward_profile.py.
CPU_PART_ROWS = 512
_WARM_UP_TOKENS = 8


def open_model(
    names: Sequence[str],
    model: str | Path,
    config: EngineConfig,
    metrics: Metrics,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> ServedModel:
    """Load MODEL (a directory or a hub id), start its engine and run it once.

    `report` is told what is being done, for people who wait.

    Raises:
        CheckpointError: it cannot be served.
        ConfigError: a setting does not go with it.
    """
    directory = resolve(str(model), revision=config.revision, download_dir=config.download_dir)
    checkpoint = open_checkpoint(directory)
    front = open_front(checkpoint, config.max_model_len, report=report)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, checkpoint.config, config.quantization)
    report(f"Loading {names[0]} from {directory} ({checkpoint.num_bytes / 1e9:.2f} GB)")
    on_cpu = device.type == "cpu"
    if on_cpu and cpu_kernels.are_missing():
        report(
            "WARNING: the kernels for this processor cannot be loaded, and vectors take longer without; "
            "they come with an installed package (pip install), for glibc and a torch with GNU's OpenMP"
        )
    batched_tokens = config.max_num_batched_tokens or (
        _CPU_BATCHED_TOKENS if on_cpu else _GPU_BATCHED_TOKENS
    )
    if config.quantization == "int8":
        check_supported(device)
        weights = load_int8(checkpoint, config.quantized_directory(), report)
    else:
        weights = load_weights(checkpoint, device, dtype)
    qwen3 = Qwen3(
        checkpoint.config,
        weights,
        max_positions=front.max_model_len,
        rows_per_chunk=min(batched_tokens, CPU_PART_ROWS) if on_cpu else batched_tokens,
    )
    model_metrics = ModelMetrics(metrics, names[0])
    model_metrics.describe(
        device=device.type,
        dtype=str(qwen3.dtype).removeprefix("torch."),
        quantization=config.quantization,
        dimension=checkpoint.config.hidden_size,
        max_model_len=front.max_model_len,
    )
    runner = _runner(qwen3, config, model_metrics)
    # Kernels are chosen and memory pools made on the first pass, not on the first request.
    runner.run([[0] * min(_WARM_UP_TOKENS, front.max_model_len)])()
    store = None
    if config.result_cache_dir is not None:
        store = ResultStore(
            config.result_cache_dir.expanduser(),
            fingerprint=fingerprint(checkpoint, device, dtype, config.quantization),
            hidden_size=checkpoint.config.hidden_size,
            max_bytes=config.result_cache_dir_bytes,
        )
    engine = NativeEngine(
        runner,
        Scheduler(max_num_batched_tokens=batched_tokens, max_num_seqs=config.max_num_seqs),
        model_metrics,
        results=ResultCache(config.result_cache_bytes),
        store=store,
        max_num_queued_tokens=config.max_num_queued_tokens,
        forward_timeout=config.forward_timeout,
    )
    return front.serving(
        names,
        str(model),
        engine,
        model_metrics,
        precision=qwen3.precision,
        max_num_batched_tokens=batched_tokens,
        description=_describe(qwen3, batched_tokens, front.max_model_len),
    )


def _runner(model: Qwen3, config: EngineConfig, metrics: ModelMetrics) -> TorchRunner:
    """With its prefix cache and its recorded passes, if those give the right vectors."""
    runner = TorchRunner(model, _prefixes(model, config, metrics))
    runner.check_prefixes()
    if not config.enforce_eager and can_record(model.device, model.dtype):
        runner.record_graphs(CudaRecorder(model.device))
    return runner


def _prefixes(model: Qwen3, config: EngineConfig, metrics: ModelMetrics) -> SharedPrefixes | None:
    if config.prefix_cache_bytes == 0:
        return None
    prefixes = SharedPrefixes(model, config.prefix_cache_bytes, metrics.reused_tokens.inc)
    metrics.prefix_cache_bytes.set_function(lambda: prefixes.num_bytes)
    return prefixes


def _describe(model: Qwen3, batched_tokens: int, max_model_len: int) -> str:
    """One line: how it runs and what memory it takes."""
    weights = model.num_bytes / 1e9
    activations = model.activation_bytes(batched_tokens) / 1e9
    longest = model.activation_bytes(max_model_len) / 1e9
    return (
        f"{model.device.type} {model.precision}, {model.config.hidden_size} dimensions, "
        f"up to {max_model_len} tokens an input, {batched_tokens} tokens a batch; "
        f"memory: weights {weights:.2f} GB, +{activations:.2f} GB for a full batch, "
        f"+{longest:.2f} GB for the longest input"
    )
