"""Who computes vectors, if not this process."""

from dataclasses import dataclass
from typing import Literal

from hexgrid.config.settings import Checked, Secret, new_setting, refuse_given, settings
from hexgrid.errors import ConfigError

EngineKind = Literal["native", "vllm"]


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig(Checked):
    """An engine that is another server, or several."""

    engine: EngineKind = new_setting(
        "native",
        "What computes vectors: hexgrid's own engine, or vLLM, or any other server with OpenAI's embeddings "
        "API that takes token ids.",
    )
    upstream: tuple[str, ...] = new_setting(
        (),
        "With --engine vllm: URL of a running server, as http://10.0.0.5:8000 or unix:/path/to/socket; "
        "repeat for several, all of the same model. The variable takes several, separated by commas.",
        shown_default="vLLM is started here, by --vllm-command",
    )
    upstream_model: str | None = new_setting(
        None, "What the model is called there.", shown_default="the one model that it lists"
    )
    upstream_api_key: Secret | None = new_setting(
        None,
        "Key to send there. Prefer the variable: a flag can be read by other users of the machine until the "
        "process has renamed itself.",
        shown_default="no key",
    )
    upstream_max_calls: int = new_setting(
        8, "Calls that each upstream gets at a time; what comes meanwhile waits here.", low=1
    )
    upstream_start_timeout: float = new_setting(
        900.0, "Seconds after which the start fails if no upstream computes by then.", low=0.001
    )
    vllm_command: str | None = new_setting(
        None,
        "With --engine vllm and no --upstream: the command that starts vLLM, with options of your own; MODEL "
        "and where to listen are added.",
        shown_default="vllm serve",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == "native":
            refuse_given(self, settings(UpstreamConfig), "goes with --engine vllm")
        if self.upstream and self.vllm_command is not None:
            raise ConfigError(
                "--upstream and --vllm-command are two ways to have a vLLM; give one",
                param="upstream",
            )
