"""Score a served model with mteb: an adapter for hexgrid, and a retrieval task over files of your own.

pip install openai mteb
python examples/mteb_task.py DIRECTORY    # paragraphs.jsonl (id, text) and questions.jsonl (id, text, doc)

mteb's own tasks take the same model: mteb.evaluate(Hexgrid(...), mteb.get_tasks(tasks=["SciFact"])).
"""

import json
import os
import sys
from pathlib import Path

import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType
from openai import OpenAI

URL = os.environ.get("HEXGRID_URL", "http://127.0.0.1:8000")


class Hexgrid(AbsEncoder):
    """Documents as they are; queries with the task's instruction, which the server puts in front."""

    def __init__(self, model: str, url: str) -> None:
        self.model = model
        self.client = OpenAI(
            base_url=f"{url}/v1", api_key=os.environ.get("HEXGRID_API_KEY", "none")
        )
        self.mteb_model_meta = ModelMeta.create_empty({"name": model, "revision": "served"})

    def encode(self, inputs, *, task_metadata, prompt_type=None, **_) -> np.ndarray:
        fields = {}
        if prompt_type == PromptType.query:
            fields["instruction"] = self.get_instruction(task_metadata, prompt_type)
        vectors = []
        for batch in inputs:
            answer = self.client.embeddings.create(
                model=self.model, input=batch["text"], extra_body=fields
            )
            vectors += [item.embedding for item in answer.data]
        return np.array(vectors, dtype=np.float32)


class Household(AbsTaskRetrieval):
    """One paragraph answers each question."""

    metadata = TaskMetadata(
        name="Household",
        description="Questions about things at home, each answered by one paragraph.",
        prompt={"query": "Given a question, retrieve passages that answer it"},
        dataset={"path": "local", "revision": "1"},  # not read: load_data() is ours
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, **_) -> None:
        directory = Path(sys.argv[1])
        paragraphs = _rows(directory / "paragraphs.jsonl")
        questions = _rows(directory / "questions.jsonl")
        split = {
            "corpus": Dataset.from_list([{"title": ""} | paragraph for paragraph in paragraphs]),
            "queries": Dataset.from_list([{"id": q["id"], "text": q["text"]} for q in questions]),
            "relevant_docs": {q["id"]: {q["doc"]: 1} for q in questions},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


result = mteb.evaluate(
    Hexgrid("hexgrid/nano", URL),
    tasks=[Household()],
    encode_kwargs={"batch_size": 256},
    cache=None,
    show_progress_bar=False,
)
(scores,) = result.task_results[0].scores["test"]
print(f"nDCG@10 {scores['ndcg_at_10']:.3f}  recall@1 {scores['recall_at_1']:.3f}")
