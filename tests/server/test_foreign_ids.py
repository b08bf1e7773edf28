"""Token ids of OpenAI's tokenizer are noticed and told of; those of our own are not taken for them."""

import io
import json
import logging

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.foreign_ids import WARNING, ForeignIdLog, are_foreign
from hexgrid.tokenizer import Tokenizer
from hexgrid.wire import TokenIds
from tests.eval_texts import cl100k_ids, eval_texts
from tests.server.running import embed, metric, serving, variant, vectors

FOREIGN = max(cl100k_ids(), key=len)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: ServedModel) -> Tokenizer:
    return tiny_model.tokenizer


def own_ids(tokenizer: Tokenizer) -> list[TokenIds]:
    """Without the EOS, which would end the question."""
    return [tokenizer.tokenize(text, add_special_tokens=False) for text in eval_texts()]


def requests_of(token_ids: list[TokenIds], num_inputs: int) -> list[list[TokenIds]]:
    return [token_ids[i : i + num_inputs] for i in range(0, len(token_ids), num_inputs)]


def share(requests: list[list[TokenIds]], tokenizer: Tokenizer) -> float:
    """How many of the requests are taken for foreign."""
    return sum(are_foreign(request, tokenizer) for request in requests) / len(requests)


@pytest.mark.parametrize("num_inputs", [1, 4, 16])
def test_own_ids_are_never_taken_for_foreign(tokenizer: Tokenizer, num_inputs: int) -> None:
    assert share(requests_of(own_ids(tokenizer), num_inputs), tokenizer) == 0


@pytest.mark.parametrize("num_ids", [3, 8, 16, 32])
def test_own_ids_cut_anywhere_are_hardly_ever_taken_for_foreign(
    tokenizer: Tokenizer, num_ids: int
) -> None:
    cut = [ids[i : i + num_ids] for ids in own_ids(tokenizer) for i in range(0, len(ids), num_ids)]

    assert share(requests_of(cut, 1), tokenizer) < 0.01


@pytest.mark.parametrize(
    "text",
    [
        "引力是使两个物体相互吸引的力。它赋予物体重量。",
        "중력은 두 물체를 서로 끌어당기는 힘이다.",
        "Гравитация - это сила, которая притягивает два тела.",
        "Donaudampfschifffahrtsgesellschaft und Rindfleischetikettierung",
        "for (let i = 0; i < 1024; i++) { totalBytesWritten += chunks[i].byteLength; }",
        "Antidisestablishmentarianism, floccinaucinihilipilification, pseudopseudohypoparathyroidism",
        " leading space",
    ],
)
def test_own_ids_of_odd_texts_are_not_taken_for_foreign(tokenizer: Tokenizer, text: str) -> None:
    assert not are_foreign([tokenizer.tokenize(text, add_special_tokens=False)], tokenizer)


@pytest.mark.parametrize(("num_inputs", "least"), [(1, 0.3), (4, 0.85), (16, 1)])
def test_foreign_ids_are_noticed_as_often_as_the_docs_say(
    tokenizer: Tokenizer, num_inputs: int, least: float
) -> None:
    assert share(requests_of(cl100k_ids(), num_inputs), tokenizer) >= least


def test_foreign_ids_of_paragraphs_are_noticed(tokenizer: Tokenizer) -> None:
    paragraphs = [ids for ids in cl100k_ids() if len(ids) >= 25]

    assert len(paragraphs) > 20
    assert share(requests_of(paragraphs, 1), tokenizer) >= 0.92


@pytest.mark.parametrize("ids", [[[151643]], [[100256, 1, 2]], [FOREIGN, [151643]]])
def test_whoever_sends_an_id_that_cl100k_lacks_is_not_doubted(
    tokenizer: Tokenizer, ids: list[TokenIds]
) -> None:
    assert not are_foreign(ids, tokenizer)


def test_foreign_ids_are_answered_and_told_in_header_metric_and_log(
    tiny_model: ServedModel,
) -> None:
    metrics, log = Metrics(), io.StringIO()
    model = variant(tiny_model, metrics, "m")
    with serving([model], metrics, log, log_format="json") as client:
        answers = [embed(client, ids) for ids in (FOREIGN, [FOREIGN, FOREIGN])]
        counted = metric(client, "foreign_token_id_requests_total", model_name="m")

    assert [len(vectors(answer)) for answer in answers] == [1, 2]
    assert [answer.headers["x-hexgrid-warning"] for answer in answers] == [WARNING] * 2
    assert counted == 2
    (line,) = [
        line for line in map(json.loads, log.getvalue().splitlines()) if "cl100k" in line["message"]
    ]
    assert line["level"] == "warning"
    assert line["request_id"] == answers[0].headers["x-request-id"]
    assert str(FOREIGN[0]) not in line["message"]


@pytest.mark.parametrize(
    "inputs", [" of that it the a.Ignore", ["text"] * 9, [9707, 1879, 151643]], ids=str
)
def test_text_and_own_ids_carry_no_warning(tiny_model: ServedModel, inputs: object) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m")], metrics) as client:
        answer = embed(client, inputs)

        assert len(vectors(answer))
        assert "x-hexgrid-warning" not in answer.headers
        assert metric(client, "foreign_token_id_requests_total", model_name="m") == 0


def test_trust_token_ids_silences_it(tiny_model: ServedModel) -> None:
    metrics, log = Metrics(), io.StringIO()
    model = variant(tiny_model, metrics, "m")
    with serving([model], metrics, log, trust_token_ids=True) as client:
        answer = embed(client, FOREIGN)
        counted = metric(client, "foreign_token_id_requests_total", model_name="m")

    assert "x-hexgrid-warning" not in answer.headers
    assert counted == 0
    assert "cl100k" not in log.getvalue()


def test_the_log_tells_it_once_a_minute_and_how_often_it_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    log = ForeignIdLog(clock=lambda: now)

    with caplog.at_level(logging.WARNING):
        for seconds in (0, 1, 58, 60, 61):
            now = 1000.0 + seconds
            log.tell("m")

    assert len(caplog.messages) == 2
    assert "0 more" in caplog.messages[0]
    assert "2 more" in caplog.messages[1]
