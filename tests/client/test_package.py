"""What `import hexgrid` gives, and how little of it is loaded before it is used."""

import subprocess
import sys

import pytest

import hexgrid


def loaded(statement: str) -> set[str]:
    """The modules of a fresh interpreter after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def test_the_package_alone_loads_nothing_of_itself() -> None:
    assert not {"numpy", "httpx2", "torch", "hexgrid.client"} & loaded("import hexgrid")


def test_clients_need_no_torch_and_no_server() -> None:
    modules = loaded("from hexgrid import AsyncClient, Client, Embedded, Embedder, Match\nClient()")

    assert "httpx2" in modules
    assert not {"torch", "tokenizers", "starlette", "uvicorn", "rich"} & modules


def test_every_public_name_is_there() -> None:
    for name in hexgrid.__all__:
        assert getattr(hexgrid, name) is not None
        assert name in dir(hexgrid)


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(AttributeError, match="'hexgrid' has no attribute 'Klient'"):
        _ = hexgrid.Klient
