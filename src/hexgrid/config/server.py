"""Everything `hexgrid serve` can be told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hexgrid.config.engine import NATIVE_SETTINGS, EngineConfig
from hexgrid.config.settings import Checked, Secret, Setting, new_setting, refuse_given, settings
from hexgrid.config.upstream import UpstreamConfig
from hexgrid.errors import ConfigError

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
ClientCertificates = Literal["none", "optional", "required"]


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Checked):
    """Everything `hexgrid serve` can be told."""

    model: tuple[str, ...] = new_setting(
        (),
        "What to serve: a directory in Hugging Face layout, a hub id, or NAME=either. "
        "The variable takes several, separated by commas.",
        shown_default="hexgrid/nano",
    )
    served_model_name: tuple[str, ...] = new_setting(
        (),
        "Name that clients use for the one MODEL; repeat for aliases, the first is echoed. "
        "The variable takes several, separated by commas.",
        shown_default="MODEL as given",
    )
    host: str | None = new_setting(None, "Address to listen on.", shown_default="127.0.0.1")
    port: int | None = new_setting(
        None, "Port to listen on; 0 picks a free one.", low=0, high=65_535, shown_default="8000"
    )
    uds: Path | None = new_setting(
        None,
        "Unix socket to listen on, in place of --host and --port; who may write to its file may ask.",
    )
    uds_mode: str | None = new_setting(
        None, "Permissions of the unix socket's file, in octal.", shown_default="0660"
    )
    root_path: str | None = new_setting(
        None,
        "Prefix under which a reverse proxy serves us, as /embeddings. Paths work with it and without, so it "
        "does not matter whether the proxy takes it off.",
        shown_default="none",
    )
    ssl_certfile: Path | None = new_setting(
        None,
        "Certificate in PEM form, with those between it and its authority; https is served then. This and "
        "the other --ssl files are read again when they change.",
    )
    ssl_keyfile: Path | None = new_setting(
        None, "The certificate's private key in PEM form.", shown_default="in --ssl-certfile"
    )
    ssl_keyfile_password: Secret | None = new_setting(
        None, "Password of --ssl-keyfile.", shown_default="the key is not encrypted"
    )
    ssl_ca_certs: Path | None = new_setting(
        None,
        "Certificates, in PEM form, of the authorities whose clients --ssl-cert-reqs asks for.",
    )
    ssl_cert_reqs: ClientCertificates = new_setting(
        "none", "Whether clients must show a certificate of --ssl-ca-certs."
    )
    cors_origin: tuple[str, ...] = new_setting(
        (),
        "Site whose pages may ask from a browser, as https://app.example, or * for any; repeat for several. "
        "The variable takes several, separated by commas.",
        shown_default="no site",
    )
    api_key: tuple[Secret, ...] = new_setting(
        (),
        "Key that clients must send as 'Authorization: Bearer KEY'; repeat for several. Prefer the "
        "variable or the file: a flag can be read by other users of the machine until the process "
        "has renamed itself.",
        shown_default="no key; only loopback is served then",
    )
    api_key_file: Path | None = new_setting(
        None, "File with one key a line; empty lines and lines that begin with # are skipped."
    )
    key_store: Path | None = new_setting(
        None,
        "File of keys with names and limits, which `hexgrid keys` makes and edits while the server runs.",
    )
    rate_limit_store: Secret | None = new_setting(
        None,
        "Redis or Valkey in which the limits of the key store's names are counted, so that several servers "
        "count as one: redis://host:6379/0, rediss:// for TLS. Needs the extra `redis`.",
        shown_default="each server counts for itself",
    )
    usage_dir: Path | None = new_setting(
        None,
        "Directory where requests and tokens are counted by key, model and hour; `hexgrid usage` shows them. "
        "Servers may share it.",
        shown_default="nothing is counted",
    )
    batch_dir: Path | None = new_setting(
        None,
        "Directory of uploaded files and batches: switches /v1/files and /v1/batches on. One server has it "
        "at a time.",
        shown_default="both answer 404",
    )
    max_batch_file_bytes: int = new_setting(200 * 2**20, "Largest file of a batch.", low=1)
    max_batch_requests: int = new_setting(50_000, "Requests of a batch.", low=1)
    max_batch_files: int = new_setting(1_000, "Uploaded files that a key may have.", low=1)
    max_batches: int = new_setting(
        1_000, "Batches that a key may have, finished ones included.", low=1
    )
    max_batch_dir_bytes: int = new_setting(
        16 * 2**30, "Bytes of all files in --batch-dir, results included.", low=1
    )
    batch_retention: int = new_setting(
        2_592_000, "Seconds for which files and batches are kept at most.", low=60
    )
    batch_concurrency: int = new_setting(
        8, "Requests of batches that are answered at a time, of all keys.", low=1
    )
    allow_anonymous: bool = new_setting(
        default=False, text="Serve other addresses than loopback without any key."
    )
    public_metrics: bool = new_setting(default=False, text="Answer /metrics without a key.")
    no_console: bool = new_setting(
        default=False,
        text="Leave out the pages / (console) and /docs (API reference), which browsers get without a key.",
    )
    isolate_caches: bool = new_setting(
        default=False,
        text="Let no client see by an answer's time what another sent: results, running computations and "
        "shared beginnings are then kept by the name of the key. Keys of --api-key count as one client.",
    )
    max_body_bytes: int = new_setting(64 * 2**20, "Largest request body.", low=1)
    max_num_inputs: int = new_setting(2048, "Inputs of one request.", low=1)
    max_json_depth: int = new_setting(
        64, "Levels of lists and objects in a request body.", low=3, high=500
    )
    max_concurrent_requests: int = new_setting(
        512,
        "Requests with a body that are read, tokenized, wait or run, of all models. Beyond it a request "
        "gets 429 with Retry-After before its body is read.",
        low=1,
    )
    max_concurrent_body_bytes: int = new_setting(
        2**30,
        "Bytes of the bodies of those requests. Beyond it a request gets 429 with Retry-After; one is "
        "always taken.",
        low=1,
    )
    max_connections: int = new_setting(
        768,
        "Open connections. Beyond it a new one gets 503 and is closed. Must be less than the files that the "
        "process may open (ulimit -n).",
        low=1,
    )
    max_url_bytes: int = new_setting(8192, "Longest request target (path and query).", low=64)
    max_num_headers: int = new_setting(100, "Headers of one request.", low=8)
    max_header_bytes: int = new_setting(
        65_536, "Bytes of a request's line and headers together.", low=256
    )
    header_timeout: float = new_setting(
        10.0,
        "Seconds that a request's line and headers may take to arrive, from their first byte; and a new "
        "connection's first byte, from its opening.",
        low=0.001,
    )
    body_timeout: float = new_setting(
        300.0, "Seconds that a request's body may take to arrive; then 408.", low=0.001
    )
    keep_alive_timeout: float = new_setting(
        75.0,
        "Seconds that a connection stays open without a request; more than those of a proxy in front.",
        low=0.001,
    )
    stall_timeout: float = new_setting(
        20.0,
        "Seconds in which a body must arrive, and an answer be read, at --min-transfer-rate; what is slower "
        "is cut off.",
        low=0.001,
    )
    min_transfer_rate: int = new_setting(
        1000,
        "Bytes a second that a client must send of a body, or read of an answer, on average over "
        "--stall-timeout.",
        low=1,
    )
    request_timeout: float = new_setting(
        600.0, "Seconds a request may take, its body's arrival included; then 504.", low=0.001
    )
    drain_delay: float = new_setting(
        0.0,
        "Seconds between SIGTERM and the end of listening, in which /ready answers 503 and all else works: "
        "as long as your load balancer takes to notice.",
        low=0.0,
    )
    drain_timeout: float = new_setting(
        30.0, "Seconds that running requests get to finish, once we listen no more.", low=0.0
    )
    allow_core_dumps: bool = new_setting(
        default=False,
        text="Let a crash leave a core dump, and debuggers of the same user read the memory. WARNING: API "
        "keys and what your users write are in it.",
    )
    log_level: LogLevel = new_setting(
        "info", "How much is logged. A line a request at info, those of probes at debug."
    )
    log_format: LogFormat = new_setting("console", "Text for people, or a JSON object a line.")
    log_inputs: int = new_setting(
        0,
        "Characters of each request's inputs that its line in the log shows. WARNING: that is what your "
        "users write, kept wherever your logs are.",
        low=0,
        shown_default="0, no input text is ever logged",
    )
    chat_template: Path | None = new_setting(
        None,
        "File with the jinja2 template that makes a text of `messages`, for every model.",
        shown_default="the checkpoint's own",
    )
    trust_request_chat_template: bool = new_setting(
        default=False,
        text="Let requests bring a template of their own (`chat_template`). It runs in a sandbox, in a "
        "process that may take some memory, and seconds of one processor.",
    )
    hide_server_timing: bool = new_setting(
        default=False,
        text="Leave the header Server-Timing out of answers. It tells a client how long each phase of its "
        "request took, and so whether anyone sent the same text lately.",
    )
    trust_token_ids: bool = new_setting(
        default=False,
        text="Do not look whether token ids are those of another tokenizer. Else such a request gets its "
        "vectors and the header x-hexgrid-warning, is counted, and the log tells of it once a minute.",
    )
    otlp_traces_endpoint: str | None = new_setting(
        None,
        "Address to which OpenTelemetry traces are posted (OTLP over HTTP), such as "
        "http://127.0.0.1:4318/v1/traces. Needs the extra `otel`; OTEL_* variables act as everywhere.",
        shown_default="no traces",
    )
    engine: EngineConfig = field(default_factory=EngineConfig)
    upstreams: UpstreamConfig = field(default_factory=UpstreamConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.upstreams.engine == "native":
            return
        native = (each for each in settings(EngineConfig) if each.name in NATIVE_SETTINGS)
        refuse_given(self.engine, native, "goes with --engine native; say it to the upstream")
        if len(self.model) > 1:
            raise ConfigError(
                f"--engine {self.upstreams.engine} serves one MODEL, got {len(self.model)}",
                param="model",
            )

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


def all_settings() -> Iterator[Setting]:
    """Every setting of the server, those of engines last."""
    yield from settings(ServerConfig)
    yield from settings(EngineConfig)
    yield from settings(UpstreamConfig)


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
