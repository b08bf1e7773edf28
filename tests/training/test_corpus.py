"""Rows made of the training files: cut, weighed, and with questions asked of passages."""

import json
import lzma
import re
from pathlib import Path

import pytest

import corpus as corpora

PASSAGE = (
    "The River Ems is a stream in West Sussex. It rises in the parish of Stoughton. "
    "Kingfishers are seen there in winter, and otters have come back to the lower reaches since "
    "the last of the mills closed and the water ran clear again. "
    "The water was used by two paper mills."
)


def write(directory: Path, rows: dict[str, list[dict[str, str]]]) -> None:
    for source in corpora.SHARES:
        with lzma.open(directory / f"{source}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows.get(source, []))


def rows_of(read: corpora.Corpus, source: str) -> list[corpora.Row]:
    """Those with the text as it is: not in small letters."""
    number = read.sources.index(source)
    return [row for row in read.rows if row.source == number and row.a not in read.same_as]


def test_the_same_files_give_the_same_rows_and_another_seed_others(tmp_path: Path) -> None:
    write(tmp_path, {"classic_books": [{"text": f"{n}. {PASSAGE}"} for n in range(100)]})

    one, same, other = (corpora.read(tmp_path, seed) for seed in (0, 0, 1))

    assert (one.texts, one.rows, one.fingerprint()) == (same.texts, same.rows, same.fingerprint())
    assert one.fingerprint() != other.fingerprint()
    share = sum(row.b < 0 and PASSAGE in one.texts[row.a] for row in one.rows) / 100
    assert abs(share - corpora.SHARES["classic_books"]) < 0.15


def test_a_passage_gets_a_question_of_one_of_its_sentences(tmp_path: Path) -> None:
    write(tmp_path, {"wikitext2": [{"text": PASSAGE}]})

    read = corpora.read(tmp_path)

    alone, asked = rows_of(read, "wikitext2")
    assert (alone.b, asked.b) == (-1, alone.a)
    assert read.texts[alone.a] == PASSAGE
    assert read.texts[asked.a] in {
        "What is a stream in West Sussex?",
        "The River Ems is a stream in West Sussex.",
        "It rises in the parish of Stoughton.",
        "What was used by two paper mills?",
        "The water was used by two paper mills.",
    }


def test_code_is_asked_for_by_its_name_as_well(tmp_path: Path) -> None:
    code = "def add_two_numbers(a, b):\n    return a + b"
    write(tmp_path, {"python_doc_code": [{"a": "The sum of a and b.", "b": code}]})

    read = corpora.read(tmp_path)

    assert [(read.texts[row.a], read.texts[row.b]) for row in read.rows[:2]] == [
        ("The sum of a and b.", code),
        ("add two numbers", code),
    ]


def test_some_functions_are_asked_for_without_their_name_as_well(tmp_path: Path) -> None:
    codes = [f"def total_{n}(a):\n    return a and total_{n}(a[{n}:])" for n in range(100)]
    write(tmp_path, {"python_doc_code": [{"a": f"Sum {n}.", "b": c} for n, c in enumerate(codes)]})

    read = corpora.read(tmp_path)

    pairs = {(read.texts[row.a], read.texts[row.b]) for row in read.rows if row.b >= 0}
    without = {(f"Sum {n}.", f"def f(a):\n    return a and f(a[{n}:])") for n in range(100)}
    assert 20 <= len(pairs & without) <= 60


def test_what_is_left_of_a_long_passage_stands_alone(tmp_path: Path) -> None:
    sentences = [f"The {n}th mill on the river was built of stone. " for n in range(80)]
    write(tmp_path, {"wikitext2": [{"text": "".join(sentences)}]})

    read = corpora.read(tmp_path)

    passages = [read.texts[row.b if row.b >= 0 else row.a] for row in rows_of(read, "wikitext2")]
    together = " ".join(dict.fromkeys(passages))
    # Nothing twice, and nothing left out between two.
    assert together + " " == "".join(sentences[: together.count(".")])
    assert len(together) > sum(map(len, sentences)) - corpora._REST
    assert len(set(passages)) >= 3


def test_long_passages_are_there_whole_with_what_asks_for_them(tmp_path: Path) -> None:
    long = "".join(f"The {n}th mill on the river was built of stone. " for n in range(40)).strip()
    code = "def total(rows):\n" + "    rows = sorted(rows)\n" * 60
    write(
        tmp_path,
        {
            "wikitext2": [{"text": long}, {"text": PASSAGE}],
            "python_doc_code": [{"a": "Sum the rows.", "b": code}],
            "persona_chat": [{"text": long}],  # no prose that is searched
        },
    )

    read = corpora.read_whole(tmp_path)

    of_code, of_prose = sorted(read.rows)
    assert [read.texts[at] for at in of_code[1:3]] == ["Sum the rows.", code]
    assert read.texts[of_prose.b] == long
    assert "built of stone" in read.texts[of_prose.a]
    assert read.sources[of_prose.source] == "wikitext2"
    assert read.beginnings.keys() == {of_code.b, of_prose.b}
    for whole, beginning in read.beginnings.items():
        assert read.texts[whole].startswith(beginning)
        assert 200 < len(beginning) <= 400


def test_only_rows_that_are_read_are_there_whole(tmp_path: Path) -> None:
    """Of a file of which a share is read, the same rows."""
    long = "".join(f"The {n}th mill on the river was built of stone. " for n in range(40))
    write(tmp_path, {"classic_books": [{"text": f"Book {n}. {long}"} for n in range(100)]})

    books, whole = (
        {int(number) for text in read.texts for number in re.findall(r"^Book (\d+)", text)}
        for read in (corpora.read(tmp_path), corpora.read_whole(tmp_path))
    )

    assert whole == books
    assert 5 < len(whole) < 40


def test_of_passages_that_are_nearly_the_same_some_are_there_whole(tmp_path: Path) -> None:
    rows = [{"a": f"What is illness {n}?", "b": f"Illness {n}. " * 90} for n in range(200)]
    write(tmp_path, {"medquad": rows, "medquad_more": rows[:50]})

    read = corpora.read_whole(tmp_path)

    found = [
        sum(read.sources[row.source] == name for row in read.rows)
        for name in ("medquad", "medquad_more")
    ]
    assert 50 < found[0] < 110
    assert found[1] == 50


@pytest.mark.parametrize("length", [0, 159, 160])
def test_a_short_rest_is_left(length: int) -> None:
    head = "It begins so."

    assert len(list(corpora.rest(f"{head} {'x' * length}", head, "key"))) == (length >= 160)


def test_a_translation_gets_the_vector_of_its_original(tmp_path: Path) -> None:
    write(tmp_path, {"pud_en_zh": [{"a": "Good morning.", "b": "早上好。"}]})

    read = corpora.read(tmp_path)

    (row,) = read.rows
    assert read.same_as == {row.b: row.a}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def make_lowpass(frequency):", "make lowpass"),
        ("    def isParallel(self, l):", "is parallel"),
        ("def main():", ""),  # one word says too little
        ("x = 1", ""),
    ],
)
def test_the_words_of_a_function_name(code: str, words: str) -> None:
    assert corpora.name_words(code) == words


@pytest.mark.parametrize("key", [f"{n}" for n in range(20)])
def test_a_text_is_cut_at_a_sentence_within_the_limit(key: str) -> None:
    text = "One sentence of forty characters, or so. " * 60

    cut = corpora.cut(text, key)

    assert cut in {text[: 41 * n].rstrip() for n in range(1, 61)}
    assert 160 <= len(cut) <= 1_800


def test_a_short_text_is_left_whole() -> None:
    assert corpora.cut("Short. And whole", "key") == "Short. And whole"


def test_words_of_all_texts_stand_alone_with_and_without_a_space_before_them(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        {"nq_paragraphs": [{"a": "Otters? otters", "b": f"Otters in mills. {n}"} for n in "123"]},
    )

    read = corpora.read(tmp_path)

    (words,) = (at for at, name in enumerate(read.sources) if name == corpora.WORDS)
    alone = [read.texts[row.a] for row in read.rows if row.source == words]
    assert {text.strip().lower() for text in alone} == {"otters", "mills"}
    assert {" otters", " mills"} <= set(alone)
    originals = {read.texts[text]: read.texts[other] for text, other in read.same_as.items()}
    assert originals[" otters"] == "otters"


def test_a_text_that_is_read_as_another_never_stands_for_a_third(tmp_path: Path) -> None:
    rows = [{"a": f"Otter {n}", "b": "otter"} for n in range(60)] + [{"a": "OTTER", "b": "Otter"}]
    write(tmp_path, {"coco_captions": rows, "tatoeba_multi": rows})

    read = corpora.read(tmp_path)

    assert read.same_as
    assert not read.same_as.keys() & set(read.same_as.values())


@pytest.mark.parametrize("key", [f"{n}" for n in range(20)])
def test_a_phrase_is_a_few_words_of_the_text_in_a_row(key: str) -> None:
    text = " ".join(f"w{n}" for n in range(40))

    found = corpora.phrase(text, key)

    assert found in text
    assert len(found.split()) in {0, 2, 3, 4, 5, 6}


def test_a_short_text_has_no_phrase() -> None:
    assert not any(corpora.phrase("Too short for one.", f"{n}") for n in range(50))
