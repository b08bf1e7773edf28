"""A window's texts: each different one once, and a bad one failing alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hexgrid.errors import EngineClosedError, EngineError, HexgridError, RequestError
from hexgrid.jobs.embedding import CHUNK_TEXTS, Embed, Embedded, Texts, start_embedding
from hexgrid.jobs.rows import START, Row
from hexgrid.jobs.windows import Window, windows


def row(text: str) -> Row:
    return Row("id", text, None, 0, 1, START, 0)


def embedded(texts: list[str], embed: Embed) -> Texts:
    window = Window(0, [row(text) for text in texts], START)
    with ThreadPoolExecutor(2) as threads:
        found = start_embedding(window, embed, 1, threads)
        found.wait()
    return found


class Lengths:
    """Vectors of one number, the text's length; refuses texts with an X, naming the place if so told."""

    def __init__(self, *, names_the_place: bool = True) -> None:
        self.calls: list[list[str]] = []
        self._names_the_place = names_the_place

    def __call__(self, texts: list[str]) -> Embedded:
        self.calls.append(texts)
        for index, text in enumerate(texts):
            if "X" in text:
                raise RequestError(
                    f"input {index} is bad", index=index if self._names_the_place else None
                )
        lengths = [len(text) for text in texts]
        return Embedded(np.array([lengths], np.float32).T, lengths, sum(lengths))


def test_equal_texts_are_embedded_once_and_long_ones_first() -> None:
    embed = Lengths()

    found = embedded(["a", "bbb", "a", "cc"], embed)

    assert embed.calls == [["bbb", "cc", "a"]]
    assert found.places == [[1], [3], [0, 2]]
    assert found.vectors.tolist() == [[3], [2], [1]]
    assert found.total_tokens == 6


def test_no_call_has_more_texts_or_characters_than_a_server_takes() -> None:
    embed = Lengths()

    embedded([str(number) for number in range(600)] + ["y" * 70_000], embed)

    assert max(map(len, embed.calls)) == CHUNK_TEXTS
    assert ["y" * 70_000] in embed.calls
    assert sum(map(len, embed.calls)) == 601


@pytest.mark.parametrize("names_the_place", [True, False])
def test_bad_texts_fail_alone(names_the_place: bool) -> None:  # noqa: FBT001
    texts = ["a", "bX", "ccc", "ddXd", "eeeee"]

    found = embedded(texts, Lengths(names_the_place=names_the_place))

    by_text = {texts[places[0]]: index for index, places in enumerate(found.places)}
    assert {text for text, index in by_text.items() if found.problems[index]} == {"bX", "ddXd"}
    assert [found.vectors[by_text[t]].item() for t in ("a", "ccc", "eeeee")] == [1, 3, 5]
    # Told as of the text alone, not of its place among others that nobody sees.
    assert {found.problems[by_text[t]] for t in ("bX", "ddXd")} == {"input 0 is bad"}
    assert found.total_tokens == 9


def test_an_engine_that_fails_at_one_text_harms_no_other() -> None:
    def embed(texts: list[str]) -> Embedded:
        if texts != ["a"]:
            raise EngineError("the pass failed", index=texts.index("bb"))
        return Embedded(np.ones((1, 1), np.float32), [1], 1)

    assert embedded(["a", "bb"], embed).problems == ["the pass failed", None]


def test_what_is_no_texts_fault_ends_the_job() -> None:
    def embed(_: list[str]) -> Embedded:
        raise EngineClosedError("stopped")

    with pytest.raises(HexgridError, match="stopped"):
        embedded(["a", "b"], embed)


def test_windows_end_by_rows_or_by_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hexgrid.jobs.windows.MAX_WINDOW_CHARS", 10)
    rows = [row(text) for text in ("a", "b", "c", "d" * 12, "e", "f")]

    found = list(windows(rows, first_number=7, most_rows=3))

    assert [window.number for window in found] == [7, 8, 9]
    assert [len(window.rows) for window in found] == [3, 1, 2]
