"""The embedded model's files: package data, and where they are."""

from pathlib import Path

NAME = "hexgrid/nano"
DIRECTORY = Path(__file__).parent
TOKENIZER = DIRECTORY / "tokenizer.json"
