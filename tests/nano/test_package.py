"""What is shipped: every file that other software looks for, with notices, in 32 MB."""

import io
import json
import zipfile

from hexgrid import nano
from hexgrid.model.checkpoint import open_checkpoint

FILES = {
    "1_Pooling/config.json",
    "LICENSE",
    "NOTICE",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
MOST_BYTES = 32_000_000


def test_the_files_are_those_of_a_published_checkpoint_and_the_notices() -> None:
    found = {
        path.relative_to(nano.DIRECTORY).as_posix()
        for path in nano.DIRECTORY.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }

    assert found == FILES


def test_compressed_they_are_small_enough_for_a_wheel() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in FILES:
            wheel.write(nano.DIRECTORY / name, name)

    assert archive.tell() <= MOST_BYTES


def test_the_table_is_compact_and_the_prompts_are_those_of_the_published_models() -> None:
    checkpoint = open_checkpoint(nano.DIRECTORY)

    assert "embed_tokens.rows" in checkpoint.tensors
    assert checkpoint.config.max_position_embeddings == 32_768
    assert checkpoint.config.matryoshka_dimensions == ()  # any
    assert checkpoint.prompts == {
        "query": "Instruct: Given a web search query, retrieve relevant passages that answer the "
        "query\nQuery:",
        "document": "",
    }


def test_other_servers_are_told_that_it_can_be_cut() -> None:
    # vLLM refuses `dimensions` without it.
    assert json.loads((nano.DIRECTORY / "config.json").read_text())["is_matryoshka"] is True


def test_the_notice_names_the_teacher_the_tokenizer_and_the_texts() -> None:
    notice = (nano.DIRECTORY / "NOTICE").read_text()

    for owed in ("all-MiniLM-L6-v2", "Qwen3-Embedding", "CC BY 4.0", "CC BY-SA 4.0", "WordNet"):
        assert owed in notice


def test_the_model_card_says_what_it_is_for_and_what_it_is_not() -> None:
    card = " ".join((nano.DIRECTORY / "README.md").read_text().split())

    assert "English and code" in card
    assert "stands in for none of Qwen's models" in card
