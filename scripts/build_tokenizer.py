"""Rebuild the official Qwen3-Embedding tokenizer, byte for byte, from a resource that PyPI carries.

The vocabulary is `qwen.tiktoken` inside the package dashscope (Apache-2.0): one line a token, base64 of its
bytes and its rank. Everything else in `tokenizer.json` (added tokens, regular expression, post-processor) is
written out below. The result is refused unless its SHA-256 is the published one.

Run: pip download --no-deps dashscope, then: python scripts/build_tokenizer.py dashscope-*.whl
"""

import argparse
import base64
import hashlib
import itertools
import json
import zipfile
from pathlib import Path

PUBLISHED_SHA256 = "def76fb086971c7867b829c23a26261e38d9d74e02139253b38aeb9df8b4b50a"
RESOURCE = "dashscope/resources/qwen.tiktoken"
TARGET = Path(__file__).parents[1] / "src/hexgrid/nano/tokenizer.json"

# The ids after the vocabulary, in order. The first fourteen are control tokens ("special"); the others are
# ordinary markers that a decoder keeps.
SPECIAL_TOKENS = """endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start
quad_end vision_start vision_end vision_pad image_pad video_pad""".split()
MARKERS = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|>
<|file_sep|> <tool_response> </tool_response> <think> </think>""".split()
END_OF_TEXT = "<|endoftext|>"
PRE_TOKENIZER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_alphabet() -> list[str]:
    """The printable character that stands for each of the 256 bytes (the GPT-2 byte-level alphabet)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(0x100 + len(alphabet) - len(printable))
    return [alphabet[byte] for byte in range(256)]


def read_ranks(wheel: Path) -> dict[bytes, int]:
    """Token bytes -> rank, from the wheel's resource; ranks are 0..151642 without a gap."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(RESOURCE).splitlines()
    ranks = {}
    for line in lines:
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise SystemExit(f"{wheel}: ranks in {RESOURCE} are not 0..{len(ranks) - 1}")
    return ranks


def split_at_last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that byte-pair encoding joins last to make `token`."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pair_ranks = [ranks.get(a + b, len(ranks)) for a, b in itertools.pairwise(parts)]
        best = min(range(len(pair_ranks)), key=pair_ranks.__getitem__)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def added_tokens(first_id: int) -> list[dict[str, object]]:
    """The 26 entries of `added_tokens`."""
    names = [(f"<|{name}|>", True) for name in SPECIAL_TOKENS] + [(name, False) for name in MARKERS]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": first_id + offset, "content": content, **flags, "special": special}
        for offset, (content, special) in enumerate(names)
    ]


def build(ranks: dict[bytes, int]) -> bytes:
    """The whole `tokenizer.json`."""
    alphabet = byte_alphabet()

    def text(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    tokens = sorted(ranks, key=ranks.__getitem__)
    merges = [
        [text(part) for part in split_at_last_merge(token, ranks)]
        for token in tokens
        if len(token) > 1
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": PRE_TOKENIZER_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    end = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [first, end],
        "pair": [first, second, end],
        "special_tokens": {
            END_OF_TEXT: {"id": END_OF_TEXT, "ids": [len(ranks)], "tokens": [END_OF_TEXT]}
        },
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {text(token): ranks[token] for token in tokens},
        "merges": merges,
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(len(ranks)),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "Sequence", "processors": [byte_level, template]},
        "decoder": byte_level,
        "model": model,
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild tokenizer.json from the dashscope wheel.")
    parser.add_argument(
        "wheel", type=Path, help="dashscope-*.whl, downloaded with pip download --no-deps"
    )
    parser.add_argument("--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    content = build(read_ranks(arguments.wheel))
    digest = hashlib.sha256(content).hexdigest()
    if digest != PUBLISHED_SHA256:
        raise SystemExit(
            f"SHA-256 is {digest}, published is {PUBLISHED_SHA256}: the resource has changed"
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(content)
    print(f"{arguments.output}: {len(content):,} bytes, SHA-256 as published")


if __name__ == "__main__":
    main()
