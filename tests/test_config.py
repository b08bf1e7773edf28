"""Settings: which source wins, what is refused and how it is said, and that secrets stay secret."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hexgrid.config import EngineConfig, ServerConfig, UpstreamConfig, all_settings, sources
from hexgrid.config.settings import Secret, Setting
from hexgrid.errors import ConfigError

SETTINGS = {setting.name: setting for setting in all_settings()}


def load(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> ServerConfig:
    return sources.load(ServerConfig, flags or {}, environ or {})


def test_without_flags_and_variables_everything_has_its_default() -> None:
    assert load() == ServerConfig()


def test_a_variable_beats_the_default() -> None:
    assert load(environ={"HEXGRID_PORT": "9000"}).port == 9000


def test_a_flag_beats_the_variable() -> None:
    assert load({"port": 7000}, {"HEXGRID_PORT": "9000"}).port == 7000


@pytest.mark.parametrize("not_given", [None, ()])
def test_a_flag_that_was_not_given_leaves_the_variable(not_given: object) -> None:
    assert load({"model": not_given}, {"HEXGRID_MODEL": "a"}).model == ("a",)


@pytest.mark.parametrize("falsy", [False, 0, 0.0])
def test_a_flag_that_is_false_or_zero_is_given(falsy: object) -> None:
    environ = {"HEXGRID_PORT": "1", "HEXGRID_PUBLIC_METRICS": "1", "HEXGRID_DRAIN_TIMEOUT": "1"}

    loaded = load({"port": falsy, "public_metrics": falsy, "drain_timeout": falsy}, environ)

    assert (loaded.port, loaded.public_metrics, loaded.drain_timeout) == (0, False, 0)


def test_engine_settings_reach_the_nested_engine_config() -> None:
    engine = load({"dtype": "float32"}, {"HEXGRID_MAX_NUM_SEQS": "7"}).engine

    assert engine == EngineConfig(dtype="float32", max_num_seqs=7)


def test_the_engine_config_alone_ignores_the_servers_settings() -> None:
    environ = {"HEXGRID_PORT": "9000", "HEXGRID_NUM_THREADS": "2"}

    assert sources.load(EngineConfig, {}, environ) == EngineConfig(num_threads=2)


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("HEXGRID_HOST", "::", "::"),
        ("HEXGRID_REQUEST_TIMEOUT", "1.5", 1.5),
        ("HEXGRID_API_KEY_FILE", "/keys", Path("/keys")),
        ("HEXGRID_MODEL", "a, b=c ,", ("a", "b=c")),
        ("HEXGRID_MODEL", "", ()),
        ("HEXGRID_API_KEY", "a, b", (Secret("a, b"),)),
        ("HEXGRID_ALLOW_ANONYMOUS", "TRUE", True),
        ("HEXGRID_ALLOW_ANONYMOUS", "yes", True),
        ("HEXGRID_ALLOW_ANONYMOUS", "1", True),
        ("HEXGRID_ALLOW_ANONYMOUS", "False", False),
        ("HEXGRID_ALLOW_ANONYMOUS", "no", False),
        ("HEXGRID_ALLOW_ANONYMOUS", "0", False),
    ],
)
def test_a_variables_text_becomes_the_settings_kind(
    variable: str, text: str, expected: object
) -> None:
    loaded = load(environ={variable: text})

    assert getattr(loaded, variable.removeprefix("HEXGRID_").lower()) == expected


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("HEXGRID_PORT", "http", "HEXGRID_PORT must be a number, got 'http'"),
        ("HEXGRID_PORT", "", "HEXGRID_PORT must be a number, got ''"),
        ("HEXGRID_PORT", "80.5", "HEXGRID_PORT must be a number, got '80.5'"),
        ("HEXGRID_REQUEST_TIMEOUT", "1s", "HEXGRID_REQUEST_TIMEOUT must be a number, got '1s'"),
        ("HEXGRID_PUBLIC_METRICS", "on", "HEXGRID_PUBLIC_METRICS must be true or false, got 'on'"),
    ],
)
def test_a_variable_of_another_kind_is_refused_by_name_and_value(
    variable: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(environ={variable: text})


def test_a_variable_that_names_no_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"HEXGRID_COLOUR names no setting$"):
        load(environ={"HEXGRID_COLOUR": "red"})


def test_a_mistyped_variable_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean HEXGRID_MAX_NUM_SEQS\?"):
        load(environ={"HEXGRID_MAX_NUM_SEQ": "1"})


def test_other_programs_variables_are_left_alone() -> None:
    assert load(environ={"PORT": "1", "HOST": "x", "MYHEXGRID_PORT": "2"}) == ServerConfig()


def test_variables_that_kubernetes_adds_for_a_service_are_ignored() -> None:
    links = {
        "HEXGRID_SERVICE_HOST": "10.0.0.7",
        "HEXGRID_SERVICE_PORT": "8000",
        "HEXGRID_SERVICE_PORT_HTTP": "8000",
        "HEXGRID_PORT": "tcp://10.0.0.7:8000",
        "HEXGRID_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "HEXGRID_PORT_8000_TCP_ADDR": "10.0.0.7",
    }

    assert load(environ=links) == ServerConfig()


@pytest.mark.parametrize(
    "name", [setting.name for setting in SETTINGS.values() if setting.low is not None]
)
def test_a_bound_itself_passes_and_what_lies_below_is_refused(name: str) -> None:
    setting = SETTINGS[name]
    assert setting.low is not None
    bound, below = setting.kind(setting.low), setting.kind(setting.low - 1)

    others = {"engine": "vllm"} if name.startswith("upstream_") else {}

    load({name: bound} | others)
    with pytest.raises(ConfigError, match=f"{setting.flag} must be at least .*, got {below}"):
        load({name: below} | others)


def test_a_port_past_the_last_is_refused() -> None:
    with pytest.raises(ConfigError, match="--port must be at most 65535, got 65536"):
        load({"port": 65_536})


def test_the_last_port_passes() -> None:
    assert load({"port": 65_535}).port == 65_535


def test_not_a_number_is_no_timeout() -> None:
    with pytest.raises(ConfigError, match=r"--request-timeout must be at least 0\.001, got nan"):
        load(environ={"HEXGRID_REQUEST_TIMEOUT": "nan"})


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS.values() if setting.choices])
def test_a_closed_choice_takes_its_words_and_no_other(name: str) -> None:
    setting = SETTINGS[name]
    for choice in setting.choices:
        load(environ={setting.variable: choice})

    with pytest.raises(ConfigError, match=f"{setting.flag} must be one of .*; got 'bogus'"):
        load(environ={setting.variable: "bogus"})


def test_a_config_is_never_written_to() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_secrets_print_as_stars(show: Callable[[object], str]) -> None:
    shown = show(load(environ={"HEXGRID_API_KEY": "hunter2"}))

    assert "hunter2" not in shown
    assert "***" in shown


def test_keys_come_from_the_settings_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# for the web team\n\n  one  \ntwo#2\n")

    keys = load({"api_key": (Secret("zero"),), "api_key_file": path}).keys()

    assert [key.value for key in keys] == ["zero", "one", "two#2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no key"),
        (b"# only\n\n  \n", "holds no key"),
        (b"\xff\xfe\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_key_file_without_a_usable_key_is_refused_by_its_path(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"--api-key-file {path} {message}"):
        load({"api_key_file": path}).keys()


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_key_is_refused_and_not_taken_for_none(text: str) -> None:
    with pytest.raises(ConfigError, match="An API key is empty"):
        load(environ={"HEXGRID_API_KEY": text}).keys()


def test_without_keys_there_are_none() -> None:
    assert load().keys() == ()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_explains_itself_in_a_sentence(setting: Setting) -> None:
    assert setting.help.rstrip()[-1] == "."
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.variable == "HEXGRID_" + setting.name.upper()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_setting_without_a_plain_default_says_what_happens(setting: Setting) -> None:
    assert setting.default not in (None, ()) or setting.shown_default or setting.kind is Path


def test_every_field_is_a_setting_but_those_that_hold_others() -> None:
    configs = (ServerConfig, EngineConfig, UpstreamConfig)
    fields = [field for config in configs for field in dataclasses.fields(config)]

    assert {field.name for field in fields} == {*SETTINGS, "upstreams"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"upstream": ("http://h",)}, "--upstream goes with --engine vllm"),
        ({"vllm_command": "vllm serve"}, "--vllm-command goes with --engine vllm"),
        (
            {"engine": "vllm", "dtype": "float32"},
            "--dtype goes with --engine native; say it to the upstream",
        ),
        ({"engine": "vllm", "prefix_cache_bytes": 0}, "--prefix-cache-bytes goes with"),
        ({"engine": "vllm", "model": ("a/b", "c/d")}, "--engine vllm serves one MODEL, got 2"),
    ],
    ids=str,
)
def test_what_would_not_act_with_the_engine_is_refused(
    flags: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(flags)


def test_no_two_settings_share_a_name() -> None:
    assert len(list(all_settings())) == len(SETTINGS)
