"""The text that nano learns from: rows of the training files, questions asked of them, words.

A row is a text, or a pair of texts that belong together, or a pair and a text that contradicts its first.
The same directory and seed give the same rows.
"""

import collections
import hashlib
import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# How much of each file is read. Dictionary entries, dialogue templates and fiction are many and alike: whole,
# they would crowd out the questions and passages that retrieval learns from.
SHARES = {
    "banking77": 1.0,
    "classic_books": 0.2,
    "clinc150": 1.0,
    "coco_captions": 1.0,
    "d2l_en": 1.0,
    "digitalgov": 0.5,
    "disfl_qa": 1.0,
    "factbook": 0.7,
    "gap_snippets": 1.0,
    "hwu64": 1.0,
    "medquad": 1.0,
    "medquad_more": 1.0,
    "nli": 1.0,
    "nli_sentences": 1.0,
    "nq_paragraphs": 1.0,
    "opensource_guide": 1.0,
    "owasp": 1.0,
    "peps": 0.4,
    "persona_chat": 0.3,
    "powershell_docs": 0.7,
    "pud_en_zh": 1.0,
    "python_doc_code": 1.0,
    "query_wellformedness": 1.0,
    "rust_book": 1.0,
    "sgd_utterances": 0.3,
    "tatoeba_en_zh": 0.5,
    "tatoeba_multi": 0.5,
    "tldr": 0.7,
    "trivia": 1.0,
    "us_18f": 0.7,
    "wiki_conciseness": 1.0,
    "wiki_split": 0.8,
    "wikitext2": 1.0,
    "wordnet_definitions": 0.8,
    "wordnet_examples": 0.6,
}
# Made of the words of all files. Most words are several tokens: alone, they show what the tokens make.
WORDS, PHRASES = "words", "phrases"
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{2,}")
_WORD_READ = 2  # times that a word must occur
_PHRASE = (2, 6)  # words of a phrase
_PHRASE_SHARE = 0.4  # of the texts, those that a phrase is taken from
_LOWER_SHARE = 0.15  # of the first texts of rows, those in small letters: all are, to the teacher
_UNNAMED_SHARE = 0.4  # of the functions, those that are read without their name as well
# In these, `b` is in another language, of which the teacher knows little: it gets the vector of `a`.
TRANSLATIONS = frozenset({"pud_en_zh", "tatoeba_en_zh", "tatoeba_multi"})
CODE = frozenset({"python_doc_code"})
# Sources whose passages are prose: a sentence of one, or a question made of it, asks for it.
PROSE = frozenset({
    "classic_books", "d2l_en", "digitalgov", "factbook", "gap_snippets", "medquad", "medquad_more",
    "nq_paragraphs", "opensource_guide", "owasp", "peps", "rust_book", "us_18f", "wikitext2",
})  # fmt: skip

# Characters that a text is cut to, and the share of texts that is: short ones teach more per token read. Few
# are longer than the teacher reads (256 of its tokens): of those it knows the beginning.
_CUTS = ((0.35, 320), (0.35, 640), (0.22, 1_100), (0.08, 1_800))
# Characters from which a passage is read whole as well, in the last part of the training, and those of its
# beginning, which counts twice: there documents say what they are about.
_WHOLE, _BEGINNING = 900, 400
# The share of those, where it is not all of them: many of medquad's are nearly the same.
_WHOLE_SHARES = {"medquad": 0.4}
_REST = 160  # characters from which what is left of a passage is a text of its own
_PASSAGE = (
    240  # characters from which a text is long enough to be asked for by one of its sentences
)
_QUESTION = (30, 160)  # characters of a sentence that can stand for a question


class Row(NamedTuple):
    """Indices into `Corpus.texts`; -1 where there is none."""

    source: int  # index into `Corpus.sources`
    a: int
    b: int
    neg: int


@dataclass
class Corpus:
    """Unique texts, and the rows over them."""

    texts: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    same_as: dict[int, int] = field(default_factory=dict)  # text -> the text whose vector it gets
    beginnings: dict[int, str] = field(default_factory=dict)  # text -> what counts twice of it
    _index: dict[str, int] = field(default_factory=dict)

    def add(self, source: int, a: str, b: str = "", neg: str = "") -> None:
        """A row, unless its texts are empty or equal."""
        if not a or a == b:
            return
        self.rows.append(Row(source, self._of(a), self._of(b), self._of(neg)))

    def add_alike(self, source: int, text: str, original: str, b: str = "") -> None:
        """A row with a text that gets the vector of another, which the teacher reads as the same."""
        index, as_index = self._of(text), self._of(original)
        as_index = self.same_as.get(as_index, as_index)
        if index != as_index:
            self.same_as.setdefault(index, as_index)
        self.rows.append(Row(source, index, self._of(b), -1))

    def add_beginning(self, text: str, beginning: str) -> None:
        """Let the beginning of `text` count twice."""
        self.beginnings[self._of(text)] = beginning

    def fingerprint(self) -> str:
        """Changes when any text does: vectors cached for other texts are not these."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()[:16]

    def _of(self, text: str) -> int:
        if not text:
            return -1
        index = self._index.setdefault(text, len(self.texts))
        if index == len(self.texts):
            self.texts.append(text)
        return index


def read(directory: Path, seed: int = 0) -> Corpus:
    """Rows of the files that `SHARES` names, and of the words of all of them."""
    corpus = Corpus(sources=[*sorted(SHARES), WORDS, PHRASES])
    words: collections.Counter[str] = collections.Counter()
    phrases: list[str] = []
    for number, source in enumerate(sorted(SHARES)):
        for key, row in _rows(directory, source, seed):
            if _is_read(source, key):
                _add(corpus, number, row, key)
            if source in TRANSLATIONS | CODE:
                continue
            for name, text in row.items():
                words.update(word.lower() for word in _WORD.findall(text))
                if found := phrase(text, f"{key}/{name}"):
                    phrases.append(found)
    for word in sorted(word for word, times in words.items() if times >= _WORD_READ):
        # As it stands within a text, where its tokens are others than at the start of one; and at the start.
        corpus.add_alike(len(SHARES), " " + word, word)
        if _chance(f"{seed}/{word}") < 0.5:
            corpus.add_alike(len(SHARES), word.capitalize(), word)
        else:
            corpus.add(len(SHARES), word)
    for found in phrases:
        corpus.add(len(SHARES) + 1, found)
    return corpus


def read_whole(directory: Path, seed: int = 0) -> Corpus:
    """Long passages of prose and code, uncut, with what asks for them; of rows that `read` takes too."""
    corpus = Corpus(sources=sorted(SHARES))
    for number, source in enumerate(corpus.sources):
        if source not in PROSE | CODE:
            continue
        for key, row in _rows(directory, source, seed):
            a, b = _pair(row)
            passage = b or a
            if len(passage) < _WHOLE or not _is_read(source, key):
                continue
            if _chance(key + "/whole") >= _WHOLE_SHARES.get(source, 1.0):
                continue
            question = a if b else ask(passage, key + "/whole")
            if question:
                corpus.add(number, question, passage)
            else:
                corpus.add(number, passage)
            corpus.add_beginning(passage, _shortened(passage, _BEGINNING))
    return corpus


def _rows(directory: Path, source: str, seed: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a file, and the key by which chance decides what is done with it."""
    for line, row in enumerate(_lines(directory / f"{source}.jsonl.xz")):
        yield f"{seed}/{source}/{line}", row


def _is_read(source: str, key: str) -> bool:
    return _chance(key) < SHARES[source]


def _pair(row: dict[str, str]) -> tuple[str, str]:
    """The text of a row, and its partner or nothing."""
    return row.get("a") or row["text"], row.get("b", "")


def _add(corpus: Corpus, source: int, row: dict[str, str], key: str) -> None:
    name = corpus.sources[source]
    whole_a, whole_b = _pair(row)
    a, b = cut(whole_a, key + "/a"), cut(whole_b, key + "/b")
    corpus.add(source, a, b, cut(row.get("neg", ""), key + "/n"))
    if name in TRANSLATIONS:
        last = corpus.rows[-1]
        corpus.same_as[last.b] = last.a
    elif name in CODE:
        corpus.add(source, name_words(b), b)
        if _chance(key + "/unnamed") < _UNNAMED_SHARE:
            corpus.add(source, a, unnamed(b))
        for piece in rest(whole_b, b, key):
            corpus.add(source, piece)
    elif name in PROSE:
        whole, first = (whole_b, b) if b else (whole_a, a)
        for number, passage in enumerate((first, *rest(whole, first, key))):
            question = ask(passage, f"{key}/{number}") if len(passage) >= _PASSAGE else ""
            if question:
                corpus.add(source, question, passage)
            elif number:
                corpus.add(source, passage)
    if name not in TRANSLATIONS and a != a.lower() and _chance(key + "/small") < _LOWER_SHARE:
        corpus.add_alike(source, a.lower(), a, b)


def phrase(text: str, key: str) -> str:
    """A few words in a row of some texts that are longer; of the others, nothing."""
    words = text.split(maxsplit=200)[:200]
    if _chance(key + "/phrase") >= _PHRASE_SHARE or len(words) <= 2 * _PHRASE[1]:
        return ""
    length = _PHRASE[0] + int(_chance(key + "/length") * (_PHRASE[1] - _PHRASE[0] + 1))
    start = int(_chance(key + "/start") * (len(words) - length))
    return " ".join(words[start : start + length]).strip(".,;:!?()[]\"'")


def cut(text: str, key: str) -> str:
    """`text` up to a number of characters that `key` decides, at the end of a sentence, line or word."""
    chance = _chance(key)
    limit = 0
    for share, limit in _CUTS:  # noqa: B007 - the last one holds if rounding leaves none
        if chance < share:
            break
        chance -= share
    return _shortened(text, limit)


def _shortened(text: str, limit: int) -> str:
    """`text` up to `limit` characters, at the end of a sentence, line or word."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    for mark in (". ", "\n", " "):
        end = head.rfind(mark, limit // 2)
        if end > 0:
            return head[: end + 1].rstrip()
    return head


def rest(text: str, head: str, key: str) -> Iterator[str]:
    """What follows `head`, with which `text` begins, in pieces that are cut as it was."""
    number = 0
    while len(text := text[len(head) :].strip()) >= _REST:
        number += 1
        head = cut(text, f"{key}/rest/{number}")
        yield head


def ask(passage: str, key: str) -> str:
    """What `passage` answers: one of its sentences, or that with its subject asked for."""
    sentences = [
        s for s in re.split(r"(?<=[.!?])\s+", passage) if _QUESTION[0] <= len(s) <= _QUESTION[1]
    ]
    if not sentences:
        return ""
    sentence = sentences[int(_chance(key + "/s") * len(sentences))]
    match = re.fullmatch(
        r"(?P<subject>[A-Z][^,.;:]{1,50}?) (?P<verb>is|are|was|were|has|have|had|can|will|may|became|"
        r"made|won|began|uses?|provides?|includes?|contains?|wrote|played|led) (?P<rest>.+)[.]",
        sentence,
    )
    if match and _chance(key + "/q") < 0.7:
        who = (
            "Who" if re.fullmatch(r"(He|She|They|[A-Z]\w+ [A-Z]\w+)", match["subject"]) else "What"
        )
        return f"{who} {match['verb']} {match['rest']}?"
    return sentence


def name_words(code: str) -> str:
    """The words of the name of the first function in `code`: "make lowpass" of `def make_lowpass(`."""
    match = re.search(r"def\s+(\w+)", code)
    if not match:
        return ""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", match[1]).replace("_", " ").split()
    return " ".join(words).lower() if len(words) > 1 else ""


def unnamed(code: str) -> str:
    """`code` with its first function called f throughout, so that what it does is all that tells it apart."""
    match = re.search(r"def\s+(\w+)", code)
    return re.sub(rf"\b{match[1]}\b", "f", code) if match else ""


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _chance(key: str) -> float:
    """A number in [0, 1) that is the same for the same `key` on every machine."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
