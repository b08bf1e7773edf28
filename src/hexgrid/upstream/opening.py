"""MODEL and --upstream, or --vllm-command -> a ServedModel whose vectors are computed there."""

import asyncio
import hashlib
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from hexgrid.config import EngineConfig, UpstreamConfig
from hexgrid.engine.remote_engine import RemoteEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.served_model import Front, ServedModel, open_front
from hexgrid.errors import ConfigError, RemoteError
from hexgrid.metrics import Metrics, ModelMetrics, UpstreamMetrics
from hexgrid.model.checkpoint import Outline, open_outline
from hexgrid.model.config import DEFAULT_MAX_MODEL_LEN
from hexgrid.model.hub import ALL_FILES, OUTLINE_FILES, resolve
from hexgrid.upstream.address import parse_address
from hexgrid.upstream.answers import SPARE_TOKENS
from hexgrid.upstream.child import Child, parse_command
from hexgrid.upstream.fleet import Fleet
from hexgrid.upstream.terms import MisfitError, Terms
from hexgrid.upstream.upstream import Access, CallFailedError, Upstream

_COMMAND = "vllm serve"
# Of one call: a request of many inputs is several, which spread over the upstreams.
_BATCHED_TOKENS = 8192
# Ids that every Qwen3 tokenizer has, asked of every upstream.
_QUESTION = [9707, 11, 1879, 0, 220, 16, 17, 18]


def open_upstream_model(
    names: Sequence[str],
    model: str | Path,
    config: EngineConfig,
    upstreams: UpstreamConfig,
    metrics: Metrics,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> ServedModel:
    """Read MODEL's tokenizer, config and prompts, and wait until an upstream computes for it.

    Raises:
        CheckpointError: MODEL cannot be read.
        ConfigError: a setting does not go with it.
        RemoteError: an upstream is another model, or none can be used.
    """
    outline = open_outline(_directory(model, config, upstreams))
    longest = _longest(config.max_model_len, outline)
    child = None if upstreams.upstream else _start(names[0], outline, longest, upstreams, report)
    model_metrics = ModelMetrics(metrics, names[0])
    servers = _servers(names[0], upstreams, child, metrics)
    terms = Terms(
        model=upstreams.upstream_model if child is None else names[0],
        hidden_size=outline.config.hidden_size,
        question=[each % outline.config.vocab_size for each in _QUESTION],
    )
    if config.max_model_len is not None:
        terms.settle(longest)
    batched_tokens = config.max_num_batched_tokens or _BATCHED_TOKENS
    fleet = Fleet(
        servers,
        terms,
        call_seconds=lambda tokens: config.forward_timeout * max(1.0, tokens / batched_tokens),
        retries=model_metrics.upstream_retries,
        owned=child,
    )
    loop = uvloop.new_event_loop()
    try:
        _meet(loop, fleet, upstreams.upstream_start_timeout, report)
        terms.settle(min(longest, terms.longest or longest))
        front = open_front(outline, terms.longest, report=report)
        store = _store(config, outline, terms)
    except BaseException:
        loop.run_until_complete(fleet.stop())
        loop.close()
        fleet.close()
        raise
    model_metrics.describe(
        device="upstream",
        dtype="unknown",
        quantization="unknown",
        dimension=front.hidden_size,
        max_model_len=front.max_model_len,
    )
    engine = RemoteEngine(
        fleet,
        Scheduler(max_num_batched_tokens=batched_tokens, max_num_seqs=config.max_num_seqs),
        model_metrics,
        loop=loop,
        max_calls=upstreams.upstream_max_calls,
        results=ResultCache(config.result_cache_bytes),
        store=store,
        max_num_queued_tokens=config.max_num_queued_tokens,
    )
    return front.serving(
        names,
        str(model),
        engine,
        model_metrics,
        precision="unknown",
        max_num_batched_tokens=batched_tokens,
        gives_unit_vectors=not terms.raw,
        description=_describe(front, servers, terms),
    )


def _directory(model: str | Path, config: EngineConfig, upstreams: UpstreamConfig) -> Path:
    """MODEL's files: with its weights where a vLLM of ours is to load them."""
    return resolve(
        str(model),
        revision=config.revision,
        download_dir=config.download_dir,
        files=OUTLINE_FILES if upstreams.upstream else ALL_FILES,
    )


def _start(
    name: str,
    outline: Outline,
    longest: int,
    upstreams: UpstreamConfig,
    report: Callable[[str], None],
) -> Child:
    text = upstreams.vllm_command or _COMMAND
    command = parse_command(text, outline.directory, name, longest + SPARE_TOKENS)
    report(f"Starting {shlex.join(command)}")
    return Child(command, os.environ, upstreams.upstream_api_key)


def _servers(
    name: str, upstreams: UpstreamConfig, child: Child | None, metrics: Metrics
) -> list[Upstream]:
    access = Access(key=upstreams.upstream_api_key, max_calls=upstreams.upstream_max_calls)
    addresses = (
        [parse_address(text) for text in upstreams.upstream] if child is None else [child.address]
    )
    return [
        Upstream(number, address, access, UpstreamMetrics(metrics, name, number))
        for number, address in enumerate(addresses)
    ]


def _describe(front: Front, servers: Sequence[Upstream], terms: Terms) -> str:
    where = ", ".join(f"{each.number} at {each.address}" for each in servers)
    kind = "" if terms.raw else ", normalised vectors only"
    return (
        f"upstream {where}; {front.hidden_size} dimensions{kind}, "
        f"up to {front.max_model_len} tokens an input"
    )


def _longest(asked: int | None, outline: Outline) -> int:
    """Tokens of the longest input, at most; the upstream may take fewer."""
    most = outline.config.max_position_embeddings - SPARE_TOKENS
    if asked is None:
        return min(DEFAULT_MAX_MODEL_LEN, most)
    if asked > most:
        raise ConfigError(
            f"--max-model-len {asked} is more than {most}: the model has {most + SPARE_TOKENS} positions, "
            "and inputs of exactly the longest length have made vLLM hang"
        )
    return asked


def _meet(
    loop: asyncio.AbstractEventLoop, fleet: Fleet, seconds: float, report: Callable[[str], None]
) -> None:
    try:
        loop.run_until_complete(fleet.meet(seconds, report))
    except (MisfitError, CallFailedError) as error:
        raise RemoteError(str(error)) from error


def _store(config: EngineConfig, outline: Outline, terms: Terms) -> ResultStore | None:
    """Vectors on disk belong to weights that we do not have: a vector that they gave stands for them."""
    if config.result_cache_dir is None:
        return None
    assert terms.answer is not None
    digest = hashlib.blake2b(digest_size=16)
    digest.update((outline.directory / "config.json").read_bytes())
    digest.update(terms.answer.tobytes())
    return ResultStore(
        config.result_cache_dir.expanduser(),
        fingerprint=f"upstream {digest.hexdigest()}",
        hidden_size=outline.config.hidden_size,
        max_bytes=config.result_cache_dir_bytes,
    )
