"""Depth of JSON, told from the brackets, against a walk of what was parsed; and the limit on it."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server import json_depth
from hexgrid.server.json_depth import depth, is_deeper
from tests.server.running import error, metric, post_bytes, serving, variant, vectors

tricky_text = st.text(st.sampled_from('ab[]{}"\\\n\u00e9,:'), max_size=12)
any_json = st.recursive(
    st.none() | st.integers() | tricky_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky_text, inner, max_size=4),
    max_leaves=20,
)


def walked(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(walked, value.values()), default=0)
        case list():
            return 1 + max(map(walked, value), default=0)
    return 0


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
@given(value=any_json, spaced=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_depth_is_what_a_walk_finds(
    monkeypatch: pytest.MonkeyPatch, chunk: int, value: Any, *, spaced: bool
) -> None:
    monkeypatch.setattr(json_depth, "_CHUNK", chunk)
    body = json.dumps(value, indent=1 if spaced else None, ensure_ascii=False).encode()

    found = depth(body)

    assert found == walked(value)
    assert not is_deeper(body, found)
    assert found == 0 or is_deeper(body, found - 1)


@given(body=st.binary(max_size=50))
def test_any_bytes_have_some_depth(body: bytes) -> None:
    assert 0 <= depth(body) <= len(body)


DEEP_FIELDS = ["foo", "messages", "mm_processor_kwargs", "task", "normalize", "user", "input"]


@pytest.mark.parametrize("field", DEEP_FIELDS)
@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_too_many_levels_in_any_field_are_refused_with_limit_and_count(
    client: httpx2.Client, field: str, opening: bytes
) -> None:
    closing = b"]" if opening == b"[" else b"}"
    nested = opening * 64 + b"1" + closing * 64
    detail = error(post_bytes(client, b'{"input":"a","%s":%s}' % (field.encode(), nested)))

    assert (detail["code"], detail["type"], detail["param"]) == (400, "Bad Request", "body")
    assert "nested 65 levels deep; at most 64 are taken" in detail["message"]


def test_as_many_levels_as_may_be_pass_in_a_field_that_is_ignored(client: httpx2.Client) -> None:
    nested = b"[" * 63 + b"]" * 63

    vectors(post_bytes(client, b'{"input":"a","foo":%s}' % nested))


def test_brackets_in_texts_are_no_levels(client: httpx2.Client) -> None:
    vectors(post_bytes(client, json.dumps({"input": '[{"' * 200}).encode()))


def test_many_lists_beside_each_other_are_not_deep(client: httpx2.Client) -> None:
    vectors(post_bytes(client, json.dumps({"input": [[1]] * 200}).encode()))


def test_the_limit_is_a_setting_and_what_it_refuses_is_counted(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m")], metrics, max_json_depth=3) as client:
        vectors(post_bytes(client, b'{"input":[[1]]}'))
        detail = error(post_bytes(client, b'{"input":"a","foo":[[[]]]}'))
        error(client.post("/tokenize", json={"prompt": "a", "foo": [[[]]]}))

        assert "nested 4 levels deep; at most 3" in detail["message"]
        assert metric(client, "rejections_total", reason="bad_schema") == 2
