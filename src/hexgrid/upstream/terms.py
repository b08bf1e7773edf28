"""What every upstream of a model must agree on, and how one that is asked is found to fit.

The first that fits sets the terms: the others must take inputs as long, and give the same vector for the same
tokens, so that it does not matter who computes.
"""

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.model.pooling import finish
from hexgrid.upstream.answers import NORM_TOLERANCE, SPARE_TOKENS, Asking
from hexgrid.upstream.upstream import (
    CallFailedError,
    CallRefusedError,
    Upstream,
    UpstreamBusyError,
)
from hexgrid.wire import TokenIds

# Of the same tokens on two upstreams; bfloat16 against float32 is above 0.9999.
_LEAST_COSINE = 0.999
_QUESTION_SECONDS = 30.0


class MisfitError(Exception):
    """An upstream cannot stand in for the model: waiting will not help, an operator can."""


class Terms:
    """Of one model."""

    def __init__(self, *, model: str | None, hidden_size: int, question: TokenIds) -> None:
        """`model` is what it is called upstream, if that is known; `question` is what each is asked for."""
        self.hidden_size = hidden_size
        # Tokens of the longest input that is sent: until it is settled, the least that an upstream takes.
        self.longest: int | None = None
        self._is_settled = False
        self.raw = True
        self.answer: Vectors | None = None
        self._model = model
        self._question = [question]

    def settle(self, longest: int) -> None:
        """Let inputs have so many tokens; who takes fewer does not fit from here on."""
        self.longest, self._is_settled = longest, True

    async def meet(self, upstream: Upstream) -> None:
        """Ask who it is and for a vector; it can be used if nothing is raised.

        Raises:
            MisfitError: it is not the model.
            CallFailedError: it cannot be asked at the moment.
        """
        cards = await upstream.cards()
        name = self._model_at(upstream, [card.id for card in cards])
        longest = next((card.max_model_len for card in cards if card.id == name), None)
        if longest is not None:
            self._agree_on_length(upstream, longest - SPARE_TOKENS)
        try:
            asking, answer = await self._ask(upstream, name)
        except UpstreamBusyError:
            if upstream.asking is None:
                raise CallFailedError("It is too busy to be asked for a vector") from None
            return
        except CallRefusedError as error:
            raise MisfitError(
                f"Upstream {upstream.number} refuses token ids for the model {name!r}: {error}"
            ) from error
        self._agree_on_vector(upstream, asking, answer)
        upstream.asking = asking

    def _model_at(self, upstream: Upstream, names: list[str]) -> str:
        """What the model is called there."""
        if self._model is not None and (not names or self._model in names):
            return self._model
        if self._model is None and len(names) == 1:
            return names[0]
        listed = ", ".join(name[:100] for name in names[:10]) or "none"
        asked = f"not {self._model!r}" if self._model is not None else f"{len(names)} models"
        raise MisfitError(
            f"Upstream {upstream.number} lists {asked}: {listed}. Say which with --upstream-model"
        )

    def _agree_on_length(self, upstream: Upstream, longest: int) -> None:
        if not self._is_settled:
            self.longest = longest if self.longest is None else min(self.longest, longest)
        elif self.longest is not None and longest < self.longest:
            raise MisfitError(
                f"Upstream {upstream.number} takes inputs of {longest + SPARE_TOKENS} tokens, of which we "
                f"use {longest}; {self.longest} are served. Set a lower --max-model-len here, or a higher "
                "one there"
            )

    async def _ask(self, upstream: Upstream, name: str) -> tuple[Asking, Vectors]:
        """Hidden states as they are, where it gives those; else vectors that it has normalised."""
        asking = Asking(name, self.hidden_size, raw=True)
        if self.raw:
            try:
                vectors = await self._vectors(upstream, asking)
            except CallRefusedError:
                pass  # it does not know use_activation
            else:
                if abs(float(np.linalg.norm(vectors)) - 1) > NORM_TOLERANCE:
                    return asking, vectors
        asking = asking._replace(raw=False)
        return asking, await self._vectors(upstream, asking)

    async def _vectors(self, upstream: Upstream, asking: Asking) -> Vectors:
        vectors = await upstream.vectors(asking, self._question, b"", _QUESTION_SECONDS)
        if not np.isfinite(vectors).all():
            raise CallFailedError("It gave a vector with NaN or infinity")
        return vectors

    def _agree_on_vector(self, upstream: Upstream, asking: Asking, answer: Vectors) -> None:
        if self.answer is None:
            self.answer, self.raw = answer, asking.raw
            return
        if asking.raw != self.raw:
            raise MisfitError(
                f"Upstream {upstream.number} gives normalised vectors only, others give them as they are"
            )
        cosine = float(np.sum(_unit(answer) * _unit(self.answer)))
        if cosine < _LEAST_COSINE:
            raise MisfitError(
                f"Upstream {upstream.number} computes other vectors than the rest (cosine {cosine:.4f}): it "
                "serves another model, or other weights"
            )


def _unit(vectors: Vectors) -> Vectors:
    return finish(vectors, dimensions=None, normalize=True)
