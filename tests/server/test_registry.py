"""Which served name finds which model; the names are unique."""

from dataclasses import replace

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, ModelNotFoundError
from hexgrid.server.registry import Models


@pytest.fixture
def models(tiny_model: ServedModel) -> Models:
    """Two, the first with an alias."""
    return Models([replace(tiny_model, names=("a", "alias")), replace(tiny_model, names=("b",))])


@pytest.mark.parametrize(
    ("name", "found"), [("a", "a"), ("alias", "a"), ("b", "b"), (None, "a"), ("", "a")]
)
def test_a_model_is_found_by_any_of_its_names_and_the_first_by_none(
    models: Models, name: str | None, found: str
) -> None:
    assert models.find(name).name == found


def test_an_unknown_name_is_told_with_those_that_are_served(models: Models) -> None:
    with pytest.raises(ModelNotFoundError, match=r"`A` does not exist. Served here: a, alias, b\."):
        models.find("A")


def test_an_unknown_name_is_shown_no_longer_than_it_helps(models: Models) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        models.find("x" * 10_000)

    assert len(caught.value.message) < 300


def test_two_models_cannot_have_one_name(tiny_model: ServedModel) -> None:
    with pytest.raises(ConfigError, match="'alias'"):
        Models([replace(tiny_model, names=names) for names in [("a", "alias"), ("alias",)]])
