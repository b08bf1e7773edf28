"""What the calls give: the same by both clients and in process, and the same as the server's own answers."""

from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid import Match
from hexgrid.encoding import Vectors
from hexgrid.errors import ModelNotFoundError, RequestError, SchemaError
from tests.server.running import TEXT, embed, num_tokens, vectors

TEXTS = [f"text {i}" + " and more" * (i % 7) for i in range(40)]
INSTRUCTION = "Given a question, find its answer"


def expected(server: httpx2.Client, inputs: Any, **fields: Any) -> Vectors:
    """What the server answers in numbers to one request."""
    return vectors(embed(server, inputs, **fields))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dimensions": 8},
        {"use_activation": False},
        {"add_special_tokens": False},
        {"truncate_prompt_tokens": 4, "truncation_side": "left"},
        {"prompt_name": "query"},
        {"priority": -1, "cache_salt": "mine", "user": "somebody", "dimensions": None},
    ],
    ids=str,
)
def test_the_vectors_are_the_servers_in_the_order_of_the_texts(
    caller: Any, server: httpx2.Client, options: dict[str, Any]
) -> None:
    found = caller.embed(TEXTS, **options)

    assert found.dtype == np.float32
    assert found.flags.writeable
    np.testing.assert_allclose(found, expected(server, TEXTS, **options), atol=1e-5)


def test_token_ids_are_embedded_as_they_are(caller: Any, server: httpx2.Client) -> None:
    ids = [[i, i + 1, 5] * (1 + i % 9) for i in range(1, 30)]

    np.testing.assert_allclose(caller.embed(ids), expected(server, ids), atol=1e-5)


def test_one_input_counts_as_a_list_of_one(caller: Any, server: httpx2.Client) -> None:
    np.testing.assert_allclose(caller.embed(TEXT), expected(server, [TEXT]), atol=1e-5)
    np.testing.assert_allclose(caller.embed([1, 2, 3]), expected(server, [[1, 2, 3]]), atol=1e-5)


def test_arrays_tuples_and_generators_are_inputs_too(caller: Any, server: httpx2.Client) -> None:
    ids = np.arange(1, 7).reshape(2, 3)

    np.testing.assert_allclose(caller.embed(ids), expected(server, ids.tolist()), atol=1e-5)
    np.testing.assert_allclose(caller.embed([(1, 2)]), expected(server, [[1, 2]]), atol=1e-5)
    wanted = expected(server, TEXTS)
    np.testing.assert_allclose(caller.embed(np.array(TEXTS)), wanted, atol=1e-5)
    np.testing.assert_allclose(caller.embed(text for text in TEXTS), wanted, atol=1e-5)


@pytest.mark.parametrize(("options", "width"), [({}, (0, 64)), ({"dimensions": 5}, (5,))])
def test_no_inputs_have_no_vectors(
    caller: Any, options: dict[str, Any], width: tuple[int, ...]
) -> None:
    found = caller.embed([], **options)

    assert len(found) == 0
    assert found.shape[1] in width


def test_what_was_used_is_told(caller: Any, server: httpx2.Client) -> None:
    long = [TEXT * 3, *TEXTS]

    found = caller.embed_with_usage(long, truncate_prompt_tokens=20)

    answer = embed(server, long, truncate_prompt_tokens=20)
    assert found.num_tokens == num_tokens(answer)
    assert found.num_truncated == int(answer.headers["x-hexgrid-truncated"]) == 1


def test_queries_stand_behind_a_prompt_and_documents_do_not(
    caller: Any, server: httpx2.Client
) -> None:
    np.testing.assert_allclose(
        caller.embed_queries(TEXTS), expected(server, TEXTS, input_type="query"), atol=1e-5
    )
    np.testing.assert_allclose(
        caller.embed_queries(TEXTS, instruction=INSTRUCTION),
        expected(server, [f"Instruct: {INSTRUCTION}\nQuery:{text}" for text in TEXTS]),
        atol=1e-5,
    )
    np.testing.assert_allclose(caller.embed_documents(TEXTS), expected(server, TEXTS), atol=1e-5)


def test_documents_are_ranked_by_their_cosine_with_the_query(
    caller: Any, server: httpx2.Client
) -> None:
    documents = ["c", TEXT, "a", "b", "a"]
    query = expected(server, "a", instruction=INSTRUCTION, dimensions=16)[0]
    similarities = expected(server, documents, dimensions=16) @ query

    found = caller.rank("a", documents, instruction=INSTRUCTION, dimensions=16)

    order = sorted(range(5), key=lambda i: (-round(float(similarities[i]), 5), i))
    assert [match.index for match in found] == order
    assert [match.document for match in found] == [documents[i] for i in order]
    np.testing.assert_allclose(
        [match.similarity for match in found], similarities[order], atol=1e-5
    )
    assert caller.rank("a", documents, top=2, instruction=INSTRUCTION, dimensions=16) == found[:2]
    assert isinstance(found[0], Match)
    assert caller.rank("a", []) == []


def test_similarity_takes_texts_and_vectors_of_any_length(
    caller: Any, server: httpx2.Client
) -> None:
    left, right = expected(server, TEXTS[:3]), expected(server, TEXTS[3:7])

    for one in (TEXTS[:3], left, 7 * left):
        for other in (TEXTS[3:7], right):
            found = caller.similarity(one, other)
            np.testing.assert_allclose(found, left @ right.T, atol=1e-5)
    assert caller.similarity(np.zeros((1, 64), np.float32), right).tolist() == [[0, 0, 0, 0]]


def test_progress_is_told_up_to_the_end(caller: Any) -> None:
    told: list[tuple[int, int]] = []

    caller.embed(TEXTS, progress=lambda done, total: told.append((done, total)))

    counts = [done for done, _ in told]
    assert counts == sorted(set(counts))
    assert (counts[-1], {total for _, total in told}) == (len(TEXTS), {len(TEXTS)})


def test_a_bar_disturbs_nobody_who_cannot_see_it(
    caller: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    caller.embed(TEXTS, progress=True)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dimensions": 65}, RequestError, r"dimensions in range \[1, 64\], got 65"),
        ({"dimensions": "8"}, SchemaError, r"dimensions.*(str|string)"),
        ({"model": "nope"}, ModelNotFoundError, "nope"),
        ({"truncate_prompt_tokens": 10**6}, RequestError, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 0}, RequestError, "truncate_prompt_tokens"),
        ({"prompt_name": "nope"}, RequestError, "Unsupported prompt_name 'nope'"),
        ({"prompt_name": "query", "instruction": "x"}, RequestError, "Only one of"),
    ],
)
def test_what_cannot_be_had_is_refused_alike(
    caller: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        caller.embed(TEXTS, **options)


def test_a_prompt_before_ids_is_refused(caller: Any) -> None:
    with pytest.raises(RequestError, match="token-ID input must carry its own"):
        caller.embed_queries([[1, 2]])


def test_an_unknown_option_is_a_mistake_of_the_program(caller: Any) -> None:
    with pytest.raises(TypeError, match=r"'dimension' is no option .* did you mean dimensions"):
        caller.embed(TEXTS, dimension=3)


@pytest.mark.parametrize(
    ("inputs", "index", "message"),
    [
        (["a", 1], 1, "input 1 is of type int"),
        ([[1], "a"], 1, "input 1 is of type str"),
        ([1.5], 0, "input 0 is of type float"),
        ([[1], None], 1, "input 1 is of type NoneType"),
        ([*TEXTS, "half \ud800"], 40, "surrogate"),
        ([*TEXTS, "x" * 10_000_000], 40, "maximum context length"),
        ([[1], [2]] * 20 + [[10**6]], 40, "out of vocabulary"),
        ([[1], [2]] * 20 + [[]], 40, "no tokens"),
    ],
)
def test_an_input_that_cannot_be_embedded_is_named_by_its_place_in_the_call(
    caller: Any, inputs: Any, index: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        caller.embed(inputs)

    assert caught.value.index == index
    assert str(index) in str(caught.value)
