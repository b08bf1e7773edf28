"""Evaluation data is read as it stands, and what is wrong with it is named by file and line."""

import lzma
from pathlib import Path

import pytest

from hexgrid.errors import DataError
from hexgrid.evaluation.datasets import PairSet, RetrievalSet, read_sets

OWN = Path(__file__).parents[1] / "data/eval"
PAIRS = '{"a": "x", "b": "y", "score": 4}\n{"a": "v", "b": "w", "score": 0.5}\n'
QUESTIONS = '{"id": "q0", "text": "why?", "doc": "p1"}\n'
PARAGRAPHS = '{"id": "p0", "text": "so"}\n{"id": "p1", "text": "because"}\n'


def write(directory: Path, **files: str) -> Path:
    """Files by name without ".jsonl", "__" for a slash."""
    for name, content in files.items():
        path = directory / (name.replace("__", "/") + ".jsonl")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return directory


def refused(directory: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sets(directory)


def test_pairs_come_first_and_then_retrieval_by_name(tmp_path: Path) -> None:
    write(tmp_path, zoo=PAIRS, ark=PAIRS, b__questions=QUESTIONS, b__paragraphs=PARAGRAPHS)
    write(tmp_path, a__questions=QUESTIONS, a__paragraphs=PARAGRAPHS)

    assert [each.name for each in read_sets(tmp_path)] == ["ark", "zoo", "a", "b"]


def test_rows_are_read_as_they_stand(tmp_path: Path) -> None:
    write(tmp_path, pairs=PAIRS, r__questions=QUESTIONS, r__paragraphs=PARAGRAPHS)

    pairs, retrieval = read_sets(tmp_path)

    assert isinstance(pairs, PairSet)
    assert (pairs.left, pairs.right, pairs.scores.tolist()) == (["x", "v"], ["y", "w"], [4, 0.5])
    assert isinstance(retrieval, RetrievalSet)
    assert (retrieval.questions, retrieval.paragraphs) == (["why?"], ["so", "because"])
    assert retrieval.answers.tolist() == [1]


def test_xz_is_read_like_plain_text(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "pairs.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write(PAIRS.replace("x", "\N{SNOWMAN}"))

    (pairs,) = read_sets(tmp_path)

    assert pairs.name == "pairs"
    assert isinstance(pairs, PairSet)
    assert pairs.left == ["\N{SNOWMAN}", "v"]


def test_a_directory_may_be_a_retrieval_set_itself(tmp_path: Path) -> None:
    (tmp_path / "faq").mkdir()
    write(tmp_path / "faq", questions=QUESTIONS, paragraphs=PARAGRAPHS)

    assert [each.name for each in read_sets(tmp_path / "faq")] == ["faq"]


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    write(tmp_path, questions='{"id": 1, "text": "why?", "doc": 7}\n')
    write(tmp_path, paragraphs='{"id": 7, "text": "so"}\n')

    assert len(read_sets(tmp_path)) == 1


def test_empty_lines_other_fields_and_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, pairs=PAIRS.replace("}\n", ', "source": "web"}\n\n'), other__notes="no data")
    (tmp_path / "README.md").write_text("text")

    assert [each.name for each in read_sets(tmp_path)] == ["pairs"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"a": "x", "b": "y"}', "line 2: .*missing required field `score`"),
        ('{"a": "x", "b": 3, "score": 1}', r"line 2: Expected `str`, got `int` - at `\$.b`"),
        ('{"a": "x", "b": "y", "score": "1"}', "line 2: Expected `float`, got `str`"),
        ('{"a": "x", "b": "y", "score": NaN}', "line 2: JSON is malformed"),
        ('{"a": "x", "b": "y", "score": 1e999}', "line 2: .*out of range|line 2: .*finite"),
        ('["x", "y", 1]', "line 2: Expected `object`, got `array`"),
        ("{", "line 2: Input data was truncated"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path, pairs=PAIRS.splitlines()[0] + "\n" + row + "\n")

    refused(tmp_path, f"{tmp_path / 'pairs.jsonl'}, {message}")


def test_a_row_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(b'{"a": "\xff", "b": "y", "score": 1}\n')

    refused(tmp_path, r"pairs\.jsonl, line 1: ")


def test_a_question_without_its_paragraph_is_named(tmp_path: Path) -> None:
    write(tmp_path, r__questions=QUESTIONS * 2 + QUESTIONS.replace("p1", "p9"))
    write(tmp_path, r__paragraphs=PARAGRAPHS)

    refused(
        tmp_path, r"questions\.jsonl, line 3: doc 'p9' is the id of no paragraph in .*paragraphs"
    )


def test_a_paragraph_id_that_is_taken_is_named(tmp_path: Path) -> None:
    write(tmp_path, r__questions=QUESTIONS, r__paragraphs=PARAGRAPHS + PARAGRAPHS)

    refused(tmp_path, r"paragraphs\.jsonl, line 3: id 'p0' is taken")


@pytest.mark.parametrize(
    ("there", "missing"), [("questions", "paragraphs"), ("paragraphs", "questions")]
)
def test_half_a_retrieval_set_is_refused(tmp_path: Path, there: str, missing: str) -> None:
    write(tmp_path, **{f"r__{there}": QUESTIONS})

    refused(tmp_path, rf"{tmp_path / 'r'} has no {missing}\.jsonl")


@pytest.mark.parametrize(
    ("content", "found"), [("", "0 pairs of 0"), (PAIRS[:33] * 3, "3 pairs of 1")]
)
def test_pairs_that_have_no_order_are_refused(tmp_path: Path, content: str, found: str) -> None:
    write(tmp_path, pairs=content)

    refused(tmp_path, f"{found} different scores")


def test_no_questions_are_refused(tmp_path: Path) -> None:
    write(tmp_path, r__questions="", r__paragraphs=PARAGRAPHS)

    refused(tmp_path, r"questions\.jsonl has no rows")


def test_one_set_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, pairs=PAIRS)
    (tmp_path / "pairs.jsonl.xz").write_bytes(lzma.compress(PAIRS.encode()))

    refused(tmp_path, r"holds pairs\.jsonl and pairs\.jsonl\.xz, which are one set")


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl.xz").write_bytes(lzma.compress(PAIRS.encode())[:-20])

    refused(tmp_path, r"pairs\.jsonl\.xz cannot be read")


def test_a_directory_without_data_is_told_what_it_lacks(tmp_path: Path) -> None:
    refused(tmp_path, r"holds no evaluation set: neither NAME\.jsonl")
    refused(tmp_path / "nowhere", "is no directory")


def test_our_own_set_is_as_its_readme_says() -> None:
    pairs, household = read_sets(OWN)

    assert isinstance(pairs, PairSet)
    assert isinstance(household, RetrievalSet)
    assert (len(pairs.scores), len(household.questions), len(household.paragraphs)) == (40, 32, 28)
    assert set(household.answers) == set(range(28)), "every paragraph answers something"
