"""A Qwen3 checkpoint in Hugging Face layout -> the GGUF file that llama.cpp reads."""

import json
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes  # noqa: F401 (with it numpy knows bfloat16)
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(checkpoint: Path, file: Path, precision: str) -> None:
    """Write `file`, matrices in `precision` (a name of GGMLQuantizationType), the rest in float32."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(file.with_suffix(".part"), "qwen3")
    _add_shape(writer, config)
    _add_vocabulary(writer, checkpoint, config["vocab_size"])
    kind = gguf.GGMLQuantizationType[precision]
    for weights in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(weights, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                _add_tensor(writer, name, tensors.get_tensor(name).astype(np.float32), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.with_suffix(".part").rename(file)


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_pooling_type(gguf.PoolingType.LAST)


def _add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Path, size: int) -> None:
    """Every id by its name: inputs are ids, but llama.cpp wants a vocabulary."""
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    tokens = [f"<unused{number}>" for number in range(size)]
    for text, number in tokenizer["model"]["vocab"].items():
        tokens[number] = text
    kinds = [gguf.TokenType.NORMAL] * size
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])


def _add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    values: NDArray[np.float32],
    kind: gguf.GGMLQuantizationType,
) -> None:
    name = _gguf_name(name.removeprefix("model."))
    if values.ndim == 1:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _gguf_name(name: str) -> str:
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, number, rest = name.split(".", 2)
    return f"blk.{number}.{_NAMES[rest.removesuffix('.weight')]}.weight"
