"""Options made from the settings: every one is there, and what is given arrives as it should."""

import click
import pytest
from click.testing import CliRunner

from hexgrid.cli.options import config_options
from hexgrid.cli.serve import command as serve
from hexgrid.config import EngineConfig, ServerConfig, UpstreamConfig
from hexgrid.config.settings import Secret, settings
from hexgrid.config.sources import load


def loaded(*arguments: str) -> ServerConfig:
    """The config that these arguments make."""
    found = []

    @click.command()
    @config_options(ServerConfig, EngineConfig, UpstreamConfig)
    def command(**flags: object) -> None:
        found.append(load(ServerConfig, flags, {}))

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return found[0]


def test_every_setting_of_the_server_is_an_option_with_its_help() -> None:
    configs = (ServerConfig, EngineConfig, UpstreamConfig)
    described = {s.flag: s for c in configs for s in settings(c) if s.name != "model"}
    options = {p.opts[0]: p for p in serve.params if isinstance(p, click.Option)}

    assert options.keys() - {"--help"} == described.keys()
    for flag, setting in described.items():
        assert setting.help in (options[flag].help or "")
        assert setting.variable in (options[flag].help or "")


def test_what_is_not_given_is_the_default() -> None:
    assert loaded() == ServerConfig()


def test_values_arrive_in_their_kind() -> None:
    config = loaded(
        "--port", "1234", "--request-timeout", "1.5", "--allow-anonymous", "--dtype", "float32"
    )

    assert (config.port, config.request_timeout, config.allow_anonymous) == (1234, 1.5, True)
    assert config.engine.dtype == "float32"


def test_repeated_options_add_up() -> None:
    config = loaded("--api-key", "a", "--api-key", "b", "--served-model-name", "x,y")

    assert config.api_key == (Secret("a"), Secret("b"))
    assert config.served_model_name == ("x,y",)


@pytest.mark.parametrize(
    "arguments", [("--port", "many"), ("--dtype", "float8"), ("--log-level", "loud")], ids=str
)
def test_a_value_of_the_wrong_kind_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(serve, arguments)

    assert result.exit_code == 2
    assert arguments[0] in result.output
