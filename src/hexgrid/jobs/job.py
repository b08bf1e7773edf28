"""What a bulk job is: what it reads, how it embeds, what it writes; and what its result depends on."""

from pathlib import Path
from typing import Any

import msgspec

from hexgrid import __version__
from hexgrid.jobs.inputs import InputFile
from hexgrid.jobs.journal import Beginning
from hexgrid.jobs.outputs import DuplicateIds, OutputFormat
from hexgrid.jobs.parts import EmbedDtype, IdType
from hexgrid.jobs.rows import Columns
from hexgrid.jobs.source import Origin, Wish

_ADDED_TO_NAME = ".job"


class BulkJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is read, how it is embedded, and what is written."""

    inputs: list[InputFile]
    columns: Columns
    output: Path
    output_format: OutputFormat
    wish: Wish = msgspec.field(default_factory=Wish)
    embed_dtype: EmbedDtype = "float32"
    id_type: IdType | None = None  # None: as the first window has them
    duplicate_ids: DuplicateIds = "error"
    window_rows: int = 8192

    @property
    def directory(self) -> Path:
        """Where the job keeps what it has done."""
        return self.output.with_name(self.output.name + _ADDED_TO_NAME)

    @property
    def num_bytes(self) -> int:
        """Of all inputs; 0 where nobody knows."""
        return sum(file.size for file in self.inputs)

    def beginning(self, origin: Origin) -> Beginning:
        """What the job's result depends on, by the words in which a change is told."""
        wish = {
            "--" + name.replace("_", "-"): value
            for name, value in msgspec.structs.asdict(self.wish).items()
        }
        files = {
            f"input {file.path}": f"{file.size} bytes, written at {file.mtime_ns} ns"
            for file in self.inputs
        }
        return {
            "--model": origin.model,
            "the fingerprint of the model": origin.fingerprint,
            "the prompt": origin.prompt,
            "the vectors' length": origin.dimensions,
            **wish,
            "--embed-dtype": self.embed_dtype,
            "--text-column": self.columns.text,
            "--id-column": self.columns.id,
            "--id-type": self.id_type,
            "--window-rows": self.window_rows,
            "the list of inputs": [[file.path, file.format] for file in self.inputs],
            **files,
        }

    def metadata(self, origin: Origin) -> dict[str, Any]:
        """What a reader of the vectors must know of them."""
        return msgspec.structs.asdict(self.wish) | {
            "model": origin.model,
            "fingerprint": origin.fingerprint,
            "dimensions": origin.dimensions,
            "prompt": origin.prompt,
            "embed_dtype": self.embed_dtype,
            "normalized": True,
            "hexgrid": __version__,
        }
