"""No error tells a client of our files, keys or insides: each class of error is provoked and looked at."""

import re
import sys
from pathlib import Path

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import HexgridError
from hexgrid.server.errors import error_response
from hexgrid.server.key_store import Limits
from tests.server.provocations import PROVOKED, Place
from tests.server.running import KEY, error
from tests.test_errors import all_errors

LEAK = re.compile(
    r"/tmp|/home|/root|/usr|\.py\b|\.sqlite3|safetensors|Traceback|0x[0-9a-f]{6}|line \d+"
)


@pytest.fixture
def place(tiny_model: ServedModel, tmp_path: Path) -> Place:
    place = Place(tiny_model, tmp_path)
    place.store.create("somebody", Limits())
    return place


def test_every_error_that_a_client_can_meet_is_provoked() -> None:
    assert PROVOKED.keys() == {kind for kind in all_errors() if not kind.for_operator}


@pytest.mark.parametrize("kind", PROVOKED, ids=lambda kind: kind.__name__)
def test_an_error_tells_of_no_file_no_key_and_no_insides(
    place: Place, kind: type[HexgridError], caplog: pytest.LogCaptureFixture
) -> None:
    answers = PROVOKED[kind](place)

    details = [error(answer) for answer in answers]
    assert kind.status in {detail["code"] for detail in details}
    for answer in answers:
        told = answer.text + str(answer.headers)
        assert not LEAK.search(told), told
        for secret in (KEY, "secret insides", str(place.directory), sys.prefix):
            assert secret not in told
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "kind", [kind for kind in all_errors() if kind.for_operator], ids=lambda kind: kind.__name__
)
def test_an_error_for_the_operator_is_told_to_the_log_alone(
    kind: type[HexgridError], caplog: pytest.LogCaptureFixture
) -> None:
    response = error_response(kind("/etc/hexgrid/x cannot be read", param="x"))

    assert response.status_code == 500
    assert b"/etc" not in bytes(response.body)
    assert b'"param":null' in bytes(response.body)
    assert "/etc/hexgrid/x cannot be read" in caplog.text
