"""What the Grafana dashboard shows: its rows, their panels, and the PromQL of each."""

from typing import NamedTuple

HERE = 'instance=~"$instance"'
_MODEL = f'{HERE}, model_name=~"$model"'
_WINDOW = "[$__rate_interval]"


class Query(NamedTuple):
    """One PromQL expression, and what its lines are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph over time; `unit` is Grafana's name of it."""

    title: str
    unit: str
    queries: list[Query]
    text: str = ""


def _rate(metric: str, by: str, labels: str = _MODEL) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}{_WINDOW}))"


def _ratio(part: str, whole: str, by: str = "instance, model_name") -> str:
    return f"{_rate(part, by)} / {_rate(whole, by)}"


def _latency(title: str, histogram: str, labels: str = _MODEL, text: str = "") -> Panel:
    """p50, p95 and p99 of a histogram, by model where it has one."""
    by_model = "model_name" in labels
    rate = _rate(f"{histogram}_bucket", "model_name, le" if by_model else "le", labels)
    queries = [
        Query(
            f"histogram_quantile({share}, {rate})",
            f"p{round(share * 100)}" + " {{model_name}}" * by_model,
        )
        for share in (0.5, 0.95, 0.99)
    ]
    return Panel(title, "s", queries, text)


def _ours(expression: str) -> str:
    """Of hexgrid's processes alone: other servers have metrics of that name, too."""
    return f"{expression} and on (job, instance) hexgrid_build_info"


def _phase(phase: str, text: str) -> Panel:
    labels = f'{_MODEL}, phase="{phase}"'
    return _latency(phase.capitalize(), "hexgrid_phase_duration_seconds", labels, text)


# The paths that embed, of whichever API.
_EMBEDDINGS = f'{HERE}, path=~".*(embed|embeddings|pooling|score|rerank|similarity|invocations)"'
_BY_MODEL = "{{instance}} {{model_name}}"
ROWS: dict[str, list[Panel]] = {
    "Traffic": [
        Panel(
            "Embedding requests",
            "reqps",
            [Query(_rate("hexgrid_http_requests_total", "status", _EMBEDDINGS), "{{status}}")],
        ),
        Panel(
            "Tokens",
            "short",
            [
                Query(
                    _rate("hexgrid_prompt_tokens_total", "model_name"), "answered {{model_name}}"
                ),
                Query(_rate("hexgrid_batch_tokens_sum", "model_name"), "computed {{model_name}}"),
            ],
            "A second. Answered beyond computed came from a cache or from an equal input.",
        ),
        Panel(
            "Inputs",
            "short",
            [
                Query(_rate("hexgrid_inputs_total", "model_name"), "answered {{model_name}}"),
                Query(_rate("hexgrid_truncated_inputs_total", "model_name"), "cut {{model_name}}"),
            ],
            "A second.",
        ),
        Panel(
            "In flight",
            "short",
            [
                Query(
                    f"sum by (instance) (hexgrid_http_requests_in_flight{{{HERE}}})",
                    "{{instance}}",
                )
            ],
            "HTTP requests being answered, those of Prometheus among them.",
        ),
    ],
    "Latency": [
        _latency(
            "Whole request",
            "hexgrid_request_duration_seconds",
            text="Answered embedding requests, from their first byte to their vectors.",
        ),
        _phase("tokenize", "All inputs of a request."),
        _phase("queue", "From a request's arrival in the engine to the batch that has its input."),
        _phase("forward", "One forward pass, whatever number of inputs it has."),
        _phase("encode", "Cutting, normalising and writing the vectors of a request."),
        _latency(
            "HTTP, all paths",
            "hexgrid_http_request_duration_seconds",
            HERE,
            "From the first byte in to the last byte out.",
        ),
    ],
    "Queue": [
        Panel(
            "Inputs that wait",
            "short",
            [Query(f"hexgrid_queue_sequences{{{_MODEL}}}", _BY_MODEL)],
        ),
        Panel(
            "Tokens that wait",
            "short",
            [Query(f"hexgrid_queue_tokens{{{_MODEL}}}", _BY_MODEL)],
        ),
        Panel(
            "How full it is",
            "percentunit",
            [
                Query(
                    f"hexgrid_queue_tokens{{{_MODEL}}} / hexgrid_queue_max_tokens{{{_MODEL}}}",
                    _BY_MODEL,
                )
            ],
            "At 100% requests get 429.",
        ),
    ],
    "Batches": [
        Panel(
            "Tokens of a forward pass",
            "short",
            [
                Query(_ratio("hexgrid_batch_tokens_sum", "hexgrid_batch_tokens_count"), _BY_MODEL),
                Query(f"hexgrid_batch_max_tokens{{{_MODEL}}}", f"at most {_BY_MODEL}"),
            ],
            "Mean.",
        ),
        Panel(
            "Inputs of a forward pass",
            "short",
            [
                Query(
                    _ratio("hexgrid_batch_sequences_sum", "hexgrid_batch_sequences_count"),
                    _BY_MODEL,
                )
            ],
            "Mean.",
        ),
        Panel(
            "Computing rate",
            "short",
            [Query(f"hexgrid_tokens_per_second{{{_MODEL}}}", _BY_MODEL)],
            "Tokens a second of the last forward passes; it stays while there are none.",
        ),
        Panel(
            "Tokens of an input",
            "short",
            [
                Query(
                    f"histogram_quantile({share}, "
                    f"{_rate('hexgrid_input_tokens_bucket', 'model_name, le')})",
                    f"p{round(share * 100)} {{{{model_name}}}}",
                )
                for share in (0.5, 0.95)
            ],
        ),
    ],
    "Caches": [
        Panel(
            "Where inputs were answered from",
            "short",
            [
                Query(
                    _rate("hexgrid_result_cache_hits_total", "model_name"), "memory {{model_name}}"
                ),
                Query(
                    _rate("hexgrid_result_store_hits_total", "model_name"), "disk {{model_name}}"
                ),
                Query(
                    _rate("hexgrid_joined_inputs_total", "model_name"),
                    "an equal one {{model_name}}",
                ),
                Query(
                    _rate("hexgrid_result_cache_misses_total", "model_name"),
                    "queued {{model_name}}",
                ),
            ],
            "Inputs a second; those from disk were queued before.",
        ),
        Panel(
            "Tokens from the prefix cache",
            "percentunit",
            [
                Query(
                    _ratio("hexgrid_prefix_cache_tokens_total", "hexgrid_batch_tokens_sum"),
                    _BY_MODEL,
                )
            ],
            "Share of the tokens of all forward passes.",
        ),
        Panel(
            "Memory of the caches",
            "bytes",
            [
                Query(f"hexgrid_result_cache_bytes{{{_MODEL}}}", f"results {_BY_MODEL}"),
                Query(f"hexgrid_prefix_cache_bytes{{{_MODEL}}}", f"prefixes {_BY_MODEL}"),
            ],
        ),
    ],
    "Errors": [
        Panel(
            "Refused or failed, by reason",
            "reqps",
            [Query(_rate("hexgrid_rejections_total", "reason"), "{{reason}}")],
            "docs/observe.md tells what each reason means.",
        ),
        Panel(
            "Server errors",
            "percentunit",
            [
                Query(
                    _rate(
                        "hexgrid_http_requests_total", "instance", f'{_EMBEDDINGS}, status=~"5.."'
                    )
                    + " / "
                    + _rate("hexgrid_http_requests_total", "instance", _EMBEDDINGS),
                    "{{instance}}",
                )
            ],
            "Share of the embedding requests that were answered with a 5xx.",
        ),
        Panel(
            "Failed forward passes",
            "short",
            [
                Query(
                    f"sum by (instance, model_name) (increase({metric}{{{_MODEL}}}{_WINDOW}))",
                    f"{name} {_BY_MODEL}",
                )
                for metric, name in (
                    ("hexgrid_failed_batches_total", "failed"),
                    ("hexgrid_float32_retries_total", "again in float32"),
                )
            ],
        ),
    ],
    "Process": [
        Panel(
            "Memory",
            "bytes",
            [Query(_ours(f"process_resident_memory_bytes{{{HERE}}}"), "{{instance}}")],
            "Resident; not that of a GPU.",
        ),
        Panel(
            "Processor",
            "percentunit",
            [Query(_ours(f"rate(process_cpu_seconds_total{{{HERE}}}{_WINDOW})"), "{{instance}}")],
            "100% is one core.",
        ),
        Panel(
            "Open files and connections",
            "short",
            [Query(_ours(f"process_open_fds{{{HERE}}}"), "{{instance}}")],
        ),
        Panel(
            "Models that can answer",
            "short",
            [Query(f"hexgrid_model_ready{{{_MODEL}}}", _BY_MODEL)],
            "1, or 0 while /ready answers 503.",
        ),
    ],
}
