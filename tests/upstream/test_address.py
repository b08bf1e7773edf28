"""Where an upstream is: what --upstream takes, and what it refuses without showing a password."""

import pytest

from hexgrid.errors import ConfigError
from hexgrid.upstream.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://10.0.0.5:8000", Address("http://10.0.0.5:8000")),
        ("http://10.0.0.5:8000/", Address("http://10.0.0.5:8000")),
        ("http://10.0.0.5:8000/v1", Address("http://10.0.0.5:8000")),
        ("https://gpu.example/base/v1/", Address("https://gpu.example/base")),
        ("http://[::1]:8000", Address("http://[::1]:8000")),
        ("unix:/run/vllm.sock", Address("http://upstream", "/run/vllm.sock")),
        ("unix:///run/vllm.sock", Address("http://upstream", "/run/vllm.sock")),
    ],
)
def test_a_server_is_named_by_its_root_or_its_v1(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "10.0.0.5:8000", "ftp://host", "http://", "http://h/?a=b", "http://h:x", "unix:"]
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a server's URL"):
        parse_address(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="holds a password") as caught:
        parse_address("http://me:sekret@10.0.0.5:8000")
    assert "sekret" not in caught.value.message


def test_people_are_shown_where_it_is() -> None:
    assert str(parse_address("http://h:1/v1")) == "http://h:1"
    assert str(parse_address("unix:/run/s")) == "unix:/run/s"
