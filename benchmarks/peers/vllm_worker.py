"""vLLM as its users call it without a server: LLM.embed on token ids."""

import os
import sys

from peers.worker import serve

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
# By itself it leaves one core to a server, which is half of a small machine.
_CORES = sorted(os.sched_getaffinity(0))
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, _CORES)))


def main(checkpoint: str, dtype: str) -> None:
    from vllm import LLM

    model = LLM(
        model=checkpoint,
        runner="pooling",
        dtype=dtype,
        max_model_len=4096,
        enable_prefix_caching=True,
    )

    def embed(inputs: list[list[int]]) -> list[list[float]]:
        answers = model.embed([{"prompt_token_ids": ids} for ids in inputs], use_tqdm=False)
        return [answer.outputs.embedding for answer in answers]

    serve(embed)


if __name__ == "__main__":
    main(*sys.argv[1:])
