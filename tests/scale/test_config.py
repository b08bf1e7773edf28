"""What a deployment may be told, and what it is told when that is wrong. Needs no Ray."""

from pathlib import Path
from typing import Any

import pytest

from hexgrid.errors import ConfigError
from hexgrid.scale.config import (
    Model,
    ScaleConfig,
    engine_config,
    parse,
    refuse_open_door,
    server_config,
)


def test_nothing_said_is_the_embedded_model_on_one_replica() -> None:
    (model,) = parse({}).models

    assert model.served_names == ("hexgrid/nano",)
    assert (model.min_replicas, model.max_replicas, model.num_gpus) == (1, 1, 0)


def test_settings_have_their_own_names_and_kinds() -> None:
    config = parse(
        {
            "server": {"key_store": "/etc/keys", "cors_origin": ["https://a.example"]},
            "engine": {"dtype": "float32", "max_num_seqs": 8},
            "models": [{"model": "a"}, {"model": "b", "engine": {"dtype": "bfloat16"}}],
        }
    )

    server = server_config(config, {"HEXGRID_LOG_FORMAT": "json"})
    assert (server.key_store, server.cors_origin) == (Path("/etc/keys"), ("https://a.example",))
    assert server.log_format == "json"
    first, second = (engine_config(config, model, {}) for model in config.models)
    assert (first.dtype, second.dtype) == ("float32", "bfloat16")
    assert first.max_num_seqs == second.max_num_seqs == 8


def test_the_file_beats_a_variable() -> None:
    config = parse({"engine": {"dtype": "float32"}})

    found = engine_config(
        config, config.models[0], {"HEXGRID_DTYPE": "bfloat16", "HEXGRID_MAX_NUM_SEQS": "3"}
    )

    assert (found.dtype, found.max_num_seqs) == ("float32", 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"modls": []}, "unknown field `modls`"),
        ({"models": []}, "models is empty"),
        ({"models": [{"model": "a"}, {"names": ["a"]}]}, "two are served under the name 'a'"),
        ({"models": [{"min_replicas": 3, "max_replicas": 2}]}, "max_replicas 2 .* min_replicas 3"),
        ({"models": [{"num_gpus": -1}]}, "num_gpus"),
        ({"models": [{"target_queued_tokens": 0}]}, "target_queued_tokens"),
        (
            {"server": {"max_num_input": 1}},
            "server: max_num_input names no setting; .*max_num_inputs",
        ),
        ({"server": {"max_num_inputs": "1"}}, "server: max_num_inputs is wrong: Expected `int`"),
        ({"server": {"max_num_inputs": 0}}, "--max-num-inputs must be at least 1"),
        ({"server": {"key_store": 3}}, "key_store is wrong: Expected a path, got 3"),
        ({"server": {"api_key": ["secret"]}}, "api_key would be shown .* set HEXGRID_API_KEY"),
        ({"engine": {"dtype": "float31"}}, "engine: dtype is wrong"),
        (
            {"models": [{"engine": {"dtyp": "x"}}]},
            "engine: dtyp names no setting; did you mean dtype",
        ),
        ({"server": {"port": 1}}, "its place is Ray Serve's http_options"),
        ({"server": {"max_connections": 1}}, "its place is a proxy in front of Ray's"),
        ({"server": {"drain_timeout": 1}}, "its place is graceful_shutdown_timeout_s"),
        ({"server": {"model": ["a"]}}, "its place is models"),
    ],
)
def test_what_is_wrong_is_told(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(args)
    assert "secret" not in str(caught.value)


def test_a_variable_that_cannot_act_on_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="server: port cannot act on a cluster"):
        server_config(ScaleConfig(), {"HEXGRID_PORT": "9000"})


@pytest.mark.parametrize("server", [{}, {"allow_anonymous": False}])
def test_without_a_key_nothing_is_served(server: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="No API key is set"):
        refuse_open_door(server_config(ScaleConfig(server=server), {}))


@pytest.mark.parametrize(
    ("server", "variables"),
    [
        ({"allow_anonymous": True}, {}),
        ({"key_store": "/etc/keys"}, {}),
        ({}, {"HEXGRID_API_KEY": "a key"}),
    ],
)
def test_with_a_key_or_the_operators_word_it_is(
    server: dict[str, Any], variables: dict[str, str]
) -> None:
    refuse_open_door(server_config(ScaleConfig(server=server), variables))


def test_several_names_are_of_one_model() -> None:
    assert Model(model="a", names=("b", "c")).served_names == ("b", "c")
