"""What each field means, for /openapi.json: struct -> field -> text.

Fields that are only known to be refused have none.
"""

FIELD_TEXTS: dict[str, dict[str, str]] = {
    "EmbeddingRequest": {
        "input": "What to embed: a text, texts, token ids, or lists of them",
        "model": "A served name; absent or empty means the first one",
        "encoding_format": "Numbers (float, the default), base64 of the raw vector, or raw bytes with or "
        "without their header",
        "dimensions": "Cut the vector to so many and normalise it again; the full width by default",
        "truncate_prompt_tokens": "Keep at most so many tokens of each input, EOS included; -1 is the "
        "model's maximum. By default nothing is cut and too long an input is refused",
        "truncation_side": "The side that is cut off: right (the default) keeps the first tokens",
        "add_special_tokens": "false leaves the EOS out; true by default",
        "use_activation": "false gives the raw hidden state, not normalised; true by default",
        "embed_dtype": "Of base64 and bytes; float32 by default",
        "endianness": "Of base64 and bytes; the server's own by default",
        "request_id": "Becomes the answer's id; the header X-Request-Id wins over it",
        "priority": "Lower numbers run earlier, nobody starves; 0 by default",
        "user": "Accepted and ignored",
        "cache_salt": "Caches are shared only with requests of the same salt; changes no vector",
        "input_type": "Puts the checkpoint's own prompt for queries or documents before each text",
        "prompt_name": "Puts the checkpoint's prompt of that name before each text",
        "instruction": "Puts 'Instruct: INSTRUCTION\\nQuery:' before each text",
        "messages": "A conversation or a list of them, in place of input; the template makes texts of them",
        "add_generation_prompt": "Of conversations: the beginning of the next answer stands at the end",
        "continue_final_message": "Of conversations: the last message stays open",
        "chat_template": "A template of the request's own; only where the server trusts it",
        "chat_template_kwargs": "More variables for the chat template",
    },
    "Embedding": {
        "index": "Of the input, from 0",
        "embedding": "The vector: numbers, or base64 where that was asked for",
    },
    "Usage": {
        "prompt_tokens": "Tokens that the model read: EOS included, after truncation",
        "total_tokens": "The same",
    },
    "TokenizeRequest": {
        "prompt": "The text, of any length",
        "model": "A served name; absent or empty means the first one",
        "add_special_tokens": "false leaves the EOS out; true by default",
        "return_token_strs": "Whether to tell the vocabulary's pieces, too",
    },
    "TokenizeResponse": {
        "count": "How many tokens there are",
        "max_model_len": "How many an input may have",
        "token_strs": "Each byte of a piece as one printable character, as GPT-2 has them",
    },
    "DetokenizeRequest": {
        "tokens": "Ids; unknown ones are dropped",
        "model": "A served name; absent or empty means the first one",
    },
    "ModelCard": {
        "id": "The served name",
        "root": "Where the model comes from",
        "max_model_len": "Longest input in tokens, EOS included",
        "embedding_dimension": "The full width of its vectors",
    },
    "ErrorDetail": {
        "message": "What was wrong, the limit, what was found, and which input",
        "type": "A stable word",
        "param": "The request's field at fault",
        "code": "The HTTP status",
    },
}
