"""Model = a served name and what it resolves to: tokenizer, prompts, limits, and an Engine.

Everything here does without the weights and without torch, whatever the engine is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hexgrid.engine.protocols import Engine
from hexgrid.errors import ConfigError, RequestError
from hexgrid.metrics import ModelMetrics
from hexgrid.model.checkpoint import Outline
from hexgrid.model.config import DEFAULT_MAX_MODEL_LEN, ModelConfig
from hexgrid.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Everything one request needs to know of the model it names."""

    names: tuple[str, ...]  # the first is echoed and labels the metrics
    root: str  # MODEL as given
    tokenizer: Tokenizer
    prompts: dict[str, str]
    max_model_len: int
    embedding_dimension: int
    config: ModelConfig
    precision: str  # of the linear layers: a dtype, or int8
    matryoshka_dimensions: tuple[int, ...]  # empty: any
    engine: Engine
    metrics: ModelMetrics
    description: str  # device, dtype, memory: for people

    @property
    def name(self) -> str:
        return self.names[0]

    def check_dimensions(self, dimensions: int | None) -> None:
        """Refuse what the model cannot be cut to."""
        if dimensions is None:
            return
        most = self.embedding_dimension
        if not 1 <= dimensions <= most:
            raise RequestError(
                f"Model '{self.name}' only supports dimensions in range [1, {most}], "
                f"got {dimensions}.",
                param="dimensions",
            )
        if self.matryoshka_dimensions and dimensions not in self.matryoshka_dimensions:
            raise RequestError(
                f"Model '{self.name}' only supports Matryoshka dimensions "
                f"{list(self.matryoshka_dimensions)}, got {dimensions}.",
                param="dimensions",
            )

    def prompt(self, name: str, *, param: str) -> str:
        """The checkpoint's prompt of that name; `param` is the field that asked for it."""
        if name not in self.prompts:
            supported = ", ".join(sorted(self.prompts)) or "none"
            raise RequestError(
                f"Unsupported {param} '{name}'. Supported values: {supported}", param=param
            )
        return self.prompts[name]


def instruction_prompt(instruction: str) -> str:
    """Qwen3-Embedding's form of a task description, to stand before a query (no space after it)."""
    return f"Instruct: {instruction}\nQuery:"


@dataclass(frozen=True)
class Front:
    """What stands before an engine, whatever that is: a directory's tokenizer, prompts and limits."""

    outline: Outline
    tokenizer: Tokenizer

    @property
    def max_model_len(self) -> int:
        return self.tokenizer.max_model_len

    @property
    def hidden_size(self) -> int:
        return self.outline.config.hidden_size

    def serving(
        self,
        names: Sequence[str],
        root: str,
        engine: Engine,
        metrics: ModelMetrics,
        *,
        precision: str,
        description: str,
    ) -> ServedModel:
        """The model that `engine` computes, under `names`; it is handed token ids of this tokenizer."""
        config = self.outline.config
        return ServedModel(
            names=tuple(names),
            root=root,
            tokenizer=self.tokenizer,
            prompts=self.outline.prompts,
            max_model_len=self.max_model_len,
            embedding_dimension=config.hidden_size,
            config=config,
            precision=precision,
            matryoshka_dimensions=config.matryoshka_dimensions,
            engine=engine,
            metrics=metrics,
            description=description,
        )


def open_front(
    outline: Outline, max_model_len: int | None, *, report: Callable[[str], None] = lambda _: None
) -> Front:
    """Load the tokenizer; inputs have at most `max_model_len` tokens, where it is given.

    Raises:
        CheckpointError: the tokenizer cannot be read.
        ConfigError: the model has fewer positions.
    """
    tokenizer = Tokenizer(
        outline.tokenizer_path,
        vocab_size=outline.config.vocab_size,
        max_model_len=_max_model_len(max_model_len, outline.config),
    )
    if not tokenizer.eos_ids:
        report(
            f"WARNING: {outline.tokenizer_path} appends no EOS to a text. Qwen3-Embedding reads its "
            "vector there, so vectors will be bad; use the tokenizer.json of the original model"
        )
    return Front(outline, tokenizer)


def _max_model_len(asked: int | None, model: ModelConfig) -> int:
    positions = model.max_position_embeddings
    if asked is None:
        return min(DEFAULT_MAX_MODEL_LEN, positions)
    if asked > positions:
        raise ConfigError(f"--max-model-len {asked} is more than the model's {positions} positions")
    return asked
