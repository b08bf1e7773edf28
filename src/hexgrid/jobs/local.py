"""A model of this process as the source of a job's vectors: the hops of a request without HTTP."""

from msgspec.structs import replace

from hexgrid.config import EngineConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.jobs.embedding import Embedded
from hexgrid.jobs.source import Origin, Source, Wish
from hexgrid.model import pooling
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.fingerprint import fingerprint
from hexgrid.model.hub import resolve
from hexgrid.model.loading import pick_device, pick_dtype
from hexgrid.server.embedding_call import RequestIds, truncation_of, with_prompt
from hexgrid.server.forms.openai import parse_embeddings

# So many calls are tokenized or wait for the engine, which then always has more than a batch to choose from.
_CALLS = 6


def local_source(served: ServedModel, config: EngineConfig, wish: Wish) -> Source:
    """`served`, which was opened with `config`, for texts as `wish` says.

    Raises:
        RequestError: the model does not go with the wish.
        CheckpointError: its files cannot be read.
    """
    # As of a request with an empty text, which stands for each.
    request = replace(wish.request(), input="")
    (part,) = parse_embeddings(request, RequestIds(None, "bulk")).parts
    served.check_dimensions(wish.dimensions)
    truncation = truncation_of(part.cut, served)
    (prompt,) = with_prompt(part, served)

    def embed(texts: list[str]) -> Embedded:
        inputs = with_prompt(replace(part, inputs=texts), served)
        encoded = served.tokenizer.encode(inputs, truncation=truncation)
        served.tokenizer.check_ids(encoded.token_ids)
        hidden = served.engine.submit(encoded.token_ids).result()
        vectors = pooling.finish(hidden, dimensions=wish.dimensions, normalize=True)
        return Embedded(vectors, [len(ids) for ids in encoded.token_ids], encoded.num_tokens)

    origin = Origin(
        served.name,
        _fingerprint(served, config),
        str(prompt),
        wish.dimensions or served.embedding_dimension,
    )
    return Source(origin, embed, _CALLS)


def _fingerprint(served: ServedModel, config: EngineConfig) -> str:
    checkpoint = open_checkpoint(
        resolve(served.root, revision=config.revision, download_dir=config.download_dir)
    )
    device = pick_device(config.device)
    dtype = pick_dtype(config.dtype, device, checkpoint.config, config.quantization)
    return fingerprint(checkpoint, device, dtype, config.quantization)
