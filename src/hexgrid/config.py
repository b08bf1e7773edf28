"""Every setting: one frozen field is one flag, one HEXGRID_* variable and one row of docs/settings.md.

A flag beats the variable, the variable beats the default. A value is checked once, here, and never
written to afterwards. Nothing heavy is imported: `hexgrid --help` reads this file.
"""

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar

from hexgrid.errors import ConfigError

ENV_PREFIX = "HEXGRID_"
# Kubernetes puts variables of this form into every pod beside a Service named "hexgrid".
_KUBERNETES_LINK = re.compile(r"HEXGRID_(SERVICE_.*|PORT_\d+_.*)$")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Quantization = Literal["none", "int8"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, repr=False)
class Secret:
    """A string that prints as stars."""

    value: str

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Setting:
    """What the command line, the environment and the docs need to know of one field."""

    name: str
    default: Any
    help: str
    kind: type  # int, float, str, bool, Path or Secret
    choices: tuple[str, ...] = ()
    repeated: bool = False
    low: float | None = None
    high: float | None = None
    shown_default: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper()

    def parse(self, text: str) -> Any:
        """The value that the environment's `text` stands for.

        Raises:
            ConfigError: it is not of the setting's kind.
        """
        if self.repeated and self.kind is str:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if self.repeated:  # one secret: a key may hold any character, so nothing splits it
            return (self.kind(text),)
        if self.kind is bool:
            return self._parse_bool(text)
        try:
            return self.kind(text)
        except ValueError:
            raise ConfigError(
                f"{self.variable} must be a number, got {text!r}", param=self.name
            ) from None

    def _parse_bool(self, text: str) -> bool:
        meaning = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in meaning:
            raise ConfigError(
                f"{self.variable} must be true or false, got {text!r}", param=self.name
            )
        return meaning[text.lower()]

    def check(self, value: Any) -> None:
        """Refuse a value outside the setting's bounds or choices."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.flag} must be one of {', '.join(self.choices)}; got {value!r}",
                param=self.name,
            )
        if self.low is not None and not value >= self.low:  # so written, it refuses NaN, too
            raise ConfigError(
                f"{self.flag} must be at least {self.low:g}, got {value}", param=self.name
            )
        if self.high is not None and value > self.high:
            raise ConfigError(
                f"{self.flag} must be at most {self.high:.0f}, got {value}", param=self.name
            )


def _setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    shown_default: str | None = None,
) -> Any:
    metadata = {"help": text, "low": low, "high": high, "shown_default": shown_default}
    return field(default=default, metadata=metadata)


class _Checked:
    """Checks every field once, when the frozen dataclass is made."""

    def __post_init__(self) -> None:
        for setting in settings(type(self)):
            setting.check(getattr(self, setting.name))


# For commands that compare vectors: they have no such options, and compute every vector anew.
CACHE_SETTINGS = (
    "result_cache_bytes",
    "result_cache_dir",
    "result_cache_dir_bytes",
    "prefix_cache_bytes",
)


@dataclass(frozen=True, kw_only=True)
class EngineConfig(_Checked):
    """How a checkpoint is loaded and run; the same for the server and the in-process commands."""

    dtype: Dtype = _setting(
        "auto",
        "Precision of the forward pass. auto: bfloat16 on CUDA and on CPUs that compute it "
        "natively, else float32. float16 overflows in the 8B model and is refused there.",
    )
    quantization: Quantization = _setting(
        "none",
        "int8: linear layers in 8 bits on the CPU (x86-64), the rest in float32. About twice as fast or "
        "more, in half the memory; `hexgrid compare` says what it costs on your texts.",
    )
    quantized_dir: Path | None = _setting(
        None,
        "Directory that keeps the weights in int8, so that the next start need not quantise them.",
        shown_default="hexgrid/quantized in the user's cache directory",
    )
    device: Device = _setting("auto", "Where to compute. auto: cuda, else mps, else cpu.")
    max_model_len: int | None = _setting(
        None,
        "Longest input in tokens, EOS included.",
        low=1,
        shown_default="32768, or the checkpoint's max_position_embeddings if that is less",
    )
    max_num_batched_tokens: int | None = _setting(
        None,
        "Tokens of one forward pass; bounds its memory. A longer input runs by itself, so many of its "
        "rows at a time.",
        low=1,
        shown_default="1024 on a CPU, 16384 on a GPU",
    )
    max_num_seqs: int = _setting(512, "Inputs of one forward pass.", low=1)
    max_num_queued_tokens: int = _setting(
        4_000_000,
        "Tokens that may wait. Beyond it a request gets 429 with Retry-After; one request is "
        "always taken when nothing waits.",
        low=1,
    )
    result_cache_bytes: int = _setting(
        64 * 2**20,
        "Memory for vectors of inputs that were computed lately; the same input then costs nothing. "
        "0: none is kept.",
        low=0,
    )
    result_cache_dir: Path | None = _setting(
        None,
        "Directory where vectors outlive the server, and are shared by the servers of one machine. "
        "They are kept by a fingerprint of the weights, dtype and device.",
        shown_default="none are kept on disk",
    )
    result_cache_dir_bytes: int = _setting(
        2**30, "Most bytes in --result-cache-dir; those unused longest go first.", low=2**20
    )
    prefix_cache_bytes: int = _setting(
        128 * 2**20,
        "Memory for keys and values of beginnings that texts share: instructions, common headers. A text "
        "then costs its own tokens only. 0: none is kept.",
        low=0,
    )
    num_threads: int | None = _setting(
        None, "CPU threads of the forward pass.", low=1, shown_default="the physical cores"
    )
    revision: str | None = _setting(
        None, "Branch, tag or commit of a hub id.", shown_default="the hub's main branch"
    )
    download_dir: Path | None = _setting(
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


@dataclass(frozen=True, kw_only=True)
class ServerConfig(_Checked):
    """Everything `hexgrid serve` can be told."""

    model: tuple[str, ...] = _setting(
        (),
        "What to serve: a directory in Hugging Face layout, a hub id, or NAME=either. "
        "The variable takes several, separated by commas.",
        shown_default="hexgrid/nano",
    )
    served_model_name: tuple[str, ...] = _setting(
        (),
        "Name that clients use for the one MODEL; repeat for aliases, the first is echoed. "
        "The variable takes several, separated by commas.",
        shown_default="MODEL as given",
    )
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8000, "Port to listen on; 0 picks a free one.", low=0, high=65_535)
    api_key: tuple[Secret, ...] = _setting(
        (),
        "Key that clients must send as 'Authorization: Bearer KEY'; repeat for several. Prefer the "
        "variable or the file: a flag can be read by other users of the machine until the process "
        "has renamed itself.",
        shown_default="no key; only loopback is served then",
    )
    api_key_file: Path | None = _setting(
        None, "File with one key a line; empty lines and lines that begin with # are skipped."
    )
    key_store: Path | None = _setting(
        None,
        "File of keys with names and limits, which `hexgrid keys` makes and edits while the server runs.",
    )
    usage_dir: Path | None = _setting(
        None,
        "Directory where requests and tokens are counted by key, model and hour; `hexgrid usage` shows them. "
        "Servers may share it.",
        shown_default="nothing is counted",
    )
    allow_anonymous: bool = _setting(
        default=False, text="Serve other addresses than loopback without any key."
    )
    public_metrics: bool = _setting(default=False, text="Answer /metrics without a key.")
    max_body_bytes: int = _setting(64 * 2**20, "Largest request body.", low=1)
    max_num_inputs: int = _setting(2048, "Inputs of one request.", low=1)
    request_timeout: float = _setting(
        600.0, "Seconds a request may take, its body's arrival included; then 504.", low=0.001
    )
    drain_timeout: float = _setting(
        30.0, "Seconds that running requests get to finish after SIGTERM.", low=0.0
    )
    log_level: LogLevel = _setting("info", "How much is logged. Input text never is.")
    engine: EngineConfig = field(default_factory=EngineConfig)

    def has_keys(self) -> bool:
        """Whether a key is needed."""
        return self.key_store is not None or bool(self.keys())

    def keys(self) -> tuple[Secret, ...]:
        """All keys, from the settings and from the file of keys; those of the store are not among them.

        Raises:
            ConfigError: the file cannot be read, holds no key, or a key is empty.
        """
        keys = self.api_key
        if self.api_key_file is not None:
            keys += _read_keys(self.api_key_file)
        if any(not key.value.strip() for key in keys):
            raise ConfigError("An API key is empty; unset --api-key or HEXGRID_API_KEY instead")
        return keys


def settings(config: type) -> Iterator[Setting]:
    """The settings of one config class, in the order of its fields; a nested config is not entered."""
    hints = typing.get_type_hints(config)
    for entry in dataclasses.fields(config):
        if "help" in entry.metadata:
            yield _describe(entry, hints[entry.name])


def all_settings() -> Iterator[Setting]:
    """Every setting of the server, those of the engine last."""
    yield from settings(ServerConfig)
    yield from settings(EngineConfig)


Config = TypeVar("Config", EngineConfig, ServerConfig)


def load(config: type[Config], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """A config from flags (None or an empty tuple: not given) over HEXGRID_* variables over defaults.

    Raises:
        ConfigError: a value is wrong, or a HEXGRID_* variable has a name that no setting has.
    """
    _refuse_unknown_variables(environ)
    values = {}
    for setting in settings(config):
        given = flags.get(setting.name)
        text = environ.get(setting.variable)
        if given is not None and given != ():
            values[setting.name] = given
        elif text is not None and not text.startswith("tcp://"):  # a Kubernetes link, see above
            values[setting.name] = setting.parse(text)
    if config is ServerConfig:
        values["engine"] = load(EngineConfig, flags, environ)
    return config(**values)


def _describe(entry: "dataclasses.Field[Any]", hint: Any) -> Setting:
    kind, choices, repeated = hint, (), False
    if isinstance(hint, UnionType):  # X | None
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
    elif typing.get_origin(hint) is Literal:
        kind, choices = str, typing.get_args(hint)
    elif typing.get_origin(hint) is tuple:
        kind, repeated = typing.get_args(hint)[0], True
    return Setting(
        name=entry.name,
        default=entry.default,
        kind=kind,
        choices=choices,
        repeated=repeated,
        **entry.metadata,
    )


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [setting.name.upper() for setting in all_settings()]
    for name in environ:
        own = name.removeprefix(ENV_PREFIX)
        if own != name and own not in known and not _KUBERNETES_LINK.match(name):
            near = difflib.get_close_matches(own, known, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else ""
            raise ConfigError(f"Environment variable {name} names no setting{hint}")


def _read_keys(path: Path) -> tuple[Secret, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file {path} cannot be read: {error}") from error
    keys = tuple(
        Secret(line.strip()) for line in lines if line.strip() and not line.startswith("#")
    )
    if not keys:
        raise ConfigError(f"--api-key-file {path} holds no key")
    return keys
