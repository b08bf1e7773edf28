"""From a student to checkpoints: float32 in the published form, and the compact one that is shipped."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from designs import Shape
from hexgrid import nano
from hexgrid.model import layout, synthetic
from hexgrid.model.checkpoint import COMPACT_EMBEDDING, EMBEDDING, SINGLE_FILE
from hexgrid.model.embedding_table import quantise
from student import Student
from tokens import EOS, VOCABULARY, Vocabulary

MAX_POSITIONS = 32_768
_FREQUENT = 50  # readings of a row after which training has surely placed it
_RIDGE = 1e-3
SHIPPED_FILES = (SINGLE_FILE, "config.json")
COMPACT, FLOAT32 = "compact", "float32"
# What a checkpoint needs beside those and its modules, whatever it has learnt.
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "config_sentence_transformers.json")


def write(
    student: Student, vocabulary: Vocabulary, first: Tensor, target: Path, *, form: str
) -> None:
    """A checkpoint in the new directory `target`: COMPACT (int8 rows, bfloat16 layers) or all FLOAT32.

    `first` [K, H] is the table before training, by which rows are placed that training never read.
    """
    layout.new_directory(target)
    rows = place_unread(student.embed_tokens.weight.detach().float().cpu(), first, vocabulary)
    dtype = torch.bfloat16 if form == COMPACT else torch.float32
    tensors = {
        name: weight.detach().to("cpu", dtype).contiguous()
        for name, weight in student.named_parameters()
        if name != EMBEDDING
    }
    row_of_token = torch.from_numpy(vocabulary.row_of_token)
    if form == COMPACT:
        table = quantise(rows)
        table = table._replace(row_of_token=table.row_of_token[row_of_token.long()].contiguous())
        tensors |= zip(COMPACT_EMBEDDING, table, strict=True)
    else:
        tensors[EMBEDDING] = rows[row_of_token.long()]
    save_file(tensors, target / SINGLE_FILE, metadata={"format": "pt"})
    (target / SINGLE_FILE).chmod(0o644)  # save_file keeps others from reading
    layout.write_json(target / "config.json", config(student.shape, dtype))
    layout.write_modules(target, student.shape.hidden)
    for name in _BESIDE:
        shutil.copyfile(nano.DIRECTORY / name, target / name)


def config(shape: Shape, dtype: torch.dtype) -> dict[str, object]:
    """config.json of nano."""
    numbers = synthetic.Shape(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=VOCABULARY,
        max_position_embeddings=MAX_POSITIONS,
        eos_token_id=EOS,
        tie_word_embeddings=True,
    )
    return synthetic.config_json(numbers, shape.layers, dtype) | {"is_matryoshka": True}


def place_unread(rows: Tensor, first: Tensor, vocabulary: Vocabulary) -> Tensor:
    """`rows` [K, H] with those that no text of the corpus reads put where the others moved.

    They go by the linear map that takes the first table to the trained one best, over rows that were read
    often; left where they began, they would speak another language than the rest.
    """
    counts = torch.from_numpy(vocabulary.counts)
    unread = counts.eq(0) & first.ne(0).any(dim=1)
    if not unread.any():
        return rows
    often = counts.ge(_FREQUENT) & first.ne(0).any(dim=1)
    x = torch.nn.functional.normalize(first[often]).double()
    y = rows[often].double()
    square = x.T @ x
    square += _RIDGE * square.trace() / len(square) * torch.eye(len(square))
    mapped = torch.nn.functional.normalize(first[unread]).double() @ torch.linalg.solve(
        square, x.T @ y
    )
    placed = rows.clone()
    # The map shrinks what it cannot predict: give back the size of rare rows.
    rare = counts.gt(0) & counts.lt(_FREQUENT)
    size = rows[rare].norm(dim=1).median() if rare.any() else rows[often].norm(dim=1).median()
    placed[unread] = torch.nn.functional.normalize(mapped).float() * size
    return placed
