"""A window's texts -> vectors: equal ones once, those of like length together, one bad text failing alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.errors import CheckpointError, EngineError, HexgridError
from hexgrid.jobs.windows import Window

# Of one call of `Embed`: what every server takes, and enough for an engine's batch.
CHUNK_TEXTS = 256
_CHUNK_CHARS = 65_536
# What a server answers to an input that it cannot take.
_BAD_INPUT = (400, 413, 422)


class Embedded(NamedTuple):
    """Finished vectors float32 [B, D], the tokens of each text (None: nobody says) and of all together."""

    vectors: Vectors
    num_tokens: Sequence[int | None]
    total_tokens: int


# At most CHUNK_TEXTS texts -> their vectors. Blocks; any thread may call. What is wrong about
# a text is told by its error, with its `index` if that is known.
Embed = Callable[[list[str]], Embedded]


@dataclass
class Texts:
    """The different texts of a window, longest first, and what has become of them."""

    places: list[list[int]]  # the rows of each
    vectors: Vectors  # [N, D]
    num_tokens: list[int | None]
    problems: list[str | None]
    total_tokens: int = 0
    futures: "list[Future[int]]" = field(default_factory=list)

    def wait(self) -> None:
        """Until all are embedded.

        Raises:
            HexgridError: what is wrong about more than a text.
        """
        self.total_tokens = sum(future.result() for future in self.futures)

    def cancel(self) -> None:
        """Start nothing more."""
        for future in self.futures:
            future.cancel()


def start_embedding(window: Window, embed: Embed, dimensions: int, threads: Executor) -> Texts:
    """Embed the rows of `window` that have a text, in `threads`."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(window.rows):
        if row.problem is None and row.text is not None:
            places.setdefault(row.text, []).append(place)
    # Longest first: what is too much for the memory should show at once.
    texts = sorted(places, key=len, reverse=True)
    found = Texts(
        [places[text] for text in texts],
        np.zeros((len(texts), dimensions), dtype=np.float32),
        [None] * len(texts),
        [None] * len(texts),
    )
    for start, end in _chunks(texts):
        indices = list(range(start, end))
        found.futures.append(threads.submit(_embed_some, texts, indices, embed, found))
    return found


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = num_chars = 0
    for index, text in enumerate(texts):
        if index > start and (index - start == CHUNK_TEXTS or num_chars + len(text) > _CHUNK_CHARS):
            yield start, index
            start, num_chars = index, 0
        num_chars += len(text)
    if texts:
        yield start, len(texts)


def _embed_some(texts: Sequence[str], indices: list[int], embed: Embed, found: Texts) -> int:
    """Embed these of `texts`, but those that cannot be; the tokens that they took."""
    num_tokens = 0
    while indices:
        try:
            embedded = embed([texts[index] for index in indices])
        except HexgridError as error:
            if not _is_about_a_text(error):
                raise
            if len(indices) == 1:
                found.problems[indices[0]] = error.message
                return num_tokens
            # Alone, it gives an error that tells of no others.
            suspects, indices = _parted(indices, error.index)
            num_tokens += _embed_some(texts, suspects, embed, found)
            continue
        found.vectors[indices] = embedded.vectors
        for index, of_text in zip(indices, embedded.num_tokens, strict=True):
            found.num_tokens[index] = of_text
        return num_tokens + embedded.total_tokens
    return num_tokens


def _parted(indices: list[int], at_fault: int | None) -> tuple[list[int], list[int]]:
    """The one at fault and the others; two halves where nobody says which it is."""
    if at_fault is None:
        middle = len(indices) // 2
        return indices[:middle], indices[middle:]
    return [indices[at_fault]], indices[:at_fault] + indices[at_fault + 1 :]


def _is_about_a_text(error: HexgridError) -> bool:
    return isinstance(error, EngineError | CheckpointError) or error.status in _BAD_INPUT
