"""MODEL arguments: names, directories, and what does not go together."""

from pathlib import Path

import pytest

from hexgrid.cli.models import ModelSpec, model_specs
from hexgrid.config import ServerConfig
from hexgrid.errors import ConfigError


@pytest.mark.parametrize(
    ("models", "names", "expected"),
    [
        ((), (), [ModelSpec(("hexgrid/nano",), "hexgrid/nano")]),
        (("a/b",), (), [ModelSpec(("a/b",), "a/b")]),
        (("x=a/b",), (), [ModelSpec(("x",), "a/b")]),
        (("x=/dir=1",), (), [ModelSpec(("x",), "/dir=1")]),
        (("x=a/b", "c/d"), (), [ModelSpec(("x",), "a/b"), ModelSpec(("c/d",), "c/d")]),
        (("a/b",), ("x", "y"), [ModelSpec(("x", "y"), "a/b")]),
        (("z=a/b",), ("x",), [ModelSpec(("x",), "a/b")]),
        ((), ("x",), [ModelSpec(("x",), "hexgrid/nano")]),
    ],
)
def test_models_are_served_under_the_names_given(
    models: tuple[str, ...], names: tuple[str, ...], expected: list[ModelSpec]
) -> None:
    assert model_specs(ServerConfig(model=models, served_model_name=names)) == expected


def test_a_directory_with_an_equals_sign_is_no_name(tmp_path: Path) -> None:
    directory = tmp_path / "lr=0.1"
    directory.mkdir()

    assert model_specs(ServerConfig(model=(str(directory),))) == [
        ModelSpec((str(directory),), str(directory))
    ]


def test_served_model_name_goes_with_one_model_only() -> None:
    with pytest.raises(ConfigError, match="goes with one MODEL; name several as NAME=MODEL"):
        model_specs(ServerConfig(model=("a/b", "c/d"), served_model_name=("x",)))


@pytest.mark.parametrize("model", ["=a/b", "x=", "="])
def test_half_a_name_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="must be NAME=MODEL with both parts, or MODEL alone"):
        model_specs(ServerConfig(model=(model,)))
