"""llama.cpp by llama-cpp-python, on a GGUF file that is made of the checkpoint first."""

import json
import os
import sys
from pathlib import Path

from llama_cpp import LLAMA_POOLING_TYPE_LAST, Llama

from peers.gguf_file import write_gguf
from peers.worker import serve

_TOKENS = 2048  # of a batch


def main(checkpoint: str, precision: str) -> None:
    directory = Path(checkpoint)
    file = directory.parent / f"{directory.name}-{precision}.gguf"
    if not file.exists():
        write_gguf(directory, file, precision)
    model = Llama(
        str(file),
        embedding=True,
        pooling_type=LLAMA_POOLING_TYPE_LAST,
        n_ctx=_TOKENS,
        n_batch=_TOKENS,
        n_ubatch=_TOKENS,
        n_seq_max=64,
        n_threads=os.cpu_count(),
        n_threads_batch=os.cpu_count(),
        verbose=False,
    )
    model.tokenize = json.loads  # a text is the JSON of its token ids: all engines get the same

    def embed(inputs: list[list[int]]) -> list[list[float]]:
        vectors: list[list[float]] = model.embed([json.dumps(ids) for ids in inputs])
        return vectors

    serve(embed)


if __name__ == "__main__":
    main(*sys.argv[1:])
