"""The calls that wait for their result, over one way to embed: those of Client and of Embedder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

from hexgrid.client.answers import Embedded
from hexgrid.client.options import CommonOptions, EmbedOptions, Inputs, as_documents, as_queries
from hexgrid.client.progress import Progress
from hexgrid.client.ranking import Match, cosines, is_vectors, ranked
from hexgrid.encoding import Vectors


class BlockingCalls(ABC):
    """All calls raise a HexgridError; `index` on it is the input at fault, where one is."""

    @abstractmethod
    def embed_with_usage(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Embedded:
        """`embed`, with how many tokens the inputs took and how many of them were cut."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; no call may follow."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def embed(
        self, inputs: Inputs, *, progress: Progress = False, **options: Unpack[EmbedOptions]
    ) -> Vectors:
        """The vectors [N, D] of texts or lists of token ids, in their order, as float32."""
        return self.embed_with_usage(inputs, progress=progress, **options).vectors

    def embed_queries(
        self,
        queries: Inputs,
        *,
        instruction: str | None = None,
        progress: Progress = False,
        **options: Unpack[CommonOptions],
    ) -> Vectors:
        """Vectors [N, D] of questions, behind the instruction or else the checkpoint's prompt for them."""
        return self.embed(queries, progress=progress, **as_queries(options, instruction))

    def embed_documents(
        self, documents: Inputs, *, progress: Progress = False, **options: Unpack[CommonOptions]
    ) -> Vectors:
        """Vectors [N, D] of what questions are asked about, behind the checkpoint's prompt for it."""
        return self.embed(documents, progress=progress, **as_documents(options))

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top: int | None = None,
        instruction: str | None = None,
        **options: Unpack[CommonOptions],
    ) -> list[Match]:
        """The documents, nearest to `query` first; only the `top` nearest where that is given."""
        asked = self.embed_queries(query, instruction=instruction, **options)
        return ranked(asked, self.embed_documents(documents, **options), documents, top)

    def similarity(
        self, left: Inputs | Vectors, right: Inputs | Vectors, **options: Unpack[EmbedOptions]
    ) -> Vectors:
        """Cosines [N, M] of inputs, or of vectors that you have, with others."""
        one, other = (
            side if is_vectors(side) else self.embed(side, **options) for side in (left, right)
        )
        return cosines(one, other)
