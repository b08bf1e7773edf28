"""Vectors of a model that is loaded in this process: the hops of a request without HTTP."""

from hexgrid.engine.served_model import ServedModel
from hexgrid.evaluation.run import Answer, Embed
from hexgrid.tokenizer import Truncation


def embed_with(model: ServedModel) -> Embed:
    """The model as a source of vectors; what is too long for it loses its end, and is counted."""
    truncation = Truncation(model.max_model_len, "right")

    def embed(texts: list[str]) -> Answer:
        encoded = model.tokenizer.encode(texts, truncation=truncation)
        model.tokenizer.check_ids(encoded.token_ids)
        return Answer(model.engine.submit(encoded.token_ids).result(), encoded.num_truncated)

    return embed
