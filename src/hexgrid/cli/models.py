"""MODEL arguments -> loaded models, with progress on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from hexgrid import nano
from hexgrid.config import EngineConfig, ServerConfig
from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel, instruction_prompt
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics
from hexgrid.model import pooling


class ModelSpec(NamedTuple):
    """Served names, and the directory or hub id behind them."""

    names: tuple[str, ...]
    model: str


def say(text: str) -> None:
    """A line for people: stderr, so that stdout holds results only."""
    click.echo(text, err=True)


def model_specs(config: ServerConfig) -> list[ModelSpec]:
    """What `hexgrid serve` was asked to serve.

    Raises:
        ConfigError: --served-model-name with several models, which name themselves.
    """
    models = config.model or (nano.NAME,)
    if not config.served_model_name:
        return [_parse(model) for model in models]
    if len(models) > 1:
        raise ConfigError(
            "--served-model-name goes with one MODEL; name several as NAME=MODEL",
            param="served_model_name",
        )
    return [ModelSpec(config.served_model_name, _parse(models[0]).model)]


def open_spec(
    spec: ModelSpec, config: EngineConfig, metrics: Metrics, report: Callable[[str], None] = say
) -> ServedModel:
    """Load one model, telling the user what happens."""
    from hexgrid.engine.native import open_model

    return open_model(spec.names, spec.model, config, metrics, report=report)


@contextmanager
def opened(model: str | None, config: EngineConfig) -> Iterator[ServedModel]:
    """One model for an in-process command, closed afterwards."""
    spec = _parse(model or nano.NAME)
    served = open_spec(spec, config, Metrics())
    try:
        yield served
    finally:
        served.engine.close()


class Embedded(NamedTuple):
    """Vectors [B, dimensions] and the tokens that they took."""

    vectors: Vectors
    num_tokens: int


def embed(
    model: ServedModel, texts: list[str], *, dimensions: int | None = None, prompt: str = ""
) -> Embedded:
    """The hops of a request without HTTP: encode, check, submit, finish."""
    encoded = model.tokenizer.encode([prompt + text for text in texts])
    model.check_dimensions(dimensions)
    hidden = model.engine.submit(encoded.token_ids).result()
    vectors = pooling.finish(hidden, dimensions=dimensions, normalize=True)
    return Embedded(vectors, encoded.num_tokens)


def query_prompt(model: ServedModel, instruction: str | None) -> str:
    """What stands before a query: the instruction given, else the checkpoint's own prompt."""
    if instruction is not None:
        return instruction_prompt(instruction)
    return model.prompt("query", param="prompt")


def _parse(text: str) -> ModelSpec:
    """NAME=MODEL, or MODEL under its own name; a directory whose path holds '=' is taken as it is."""
    name, equals, model = text.partition("=")
    if not text:
        raise ConfigError("MODEL is empty; name a directory, a hub id, or NAME=either")
    if not equals or Path(text).expanduser().is_dir():
        return ModelSpec((text,), text)
    if not name or not model:
        raise ConfigError(f"MODEL {text!r} must be NAME=MODEL with both parts, or MODEL alone")
    return ModelSpec((name,), model)
