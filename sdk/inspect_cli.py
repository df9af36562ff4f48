"""`tasuki inspect`: what an artifact holds."""

from pathlib import Path

import click

from tasuki.sdk import artifact as artifacts
from tasuki.sdk.console import emit, json_option


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@json_option
def inspect(artifact: Path, as_json: bool) -> None:
    """Check an artifact's parts against its manifest, and show them.

    Example: tasuki inspect lamp.tflite
    """
    parts = artifacts.load(artifact)
    manifest = parts.manifest
    figures = {
        "sha256": parts.hash.hex(),
        "bytes": parts.size,
        "model_bytes": len(parts.model),
        "name": manifest.get("name"),
        "tier": manifest.get("tier"),
        "tokens": parts.tokens,
        "features": parts.features,
        "vocabulary": len(parts.vocabulary),
        "temperature": parts.temperature,
        "adapter_kinds": manifest.get("adapter_kinds"),
        "rounding": manifest.get("rounding"),
        "operators": manifest.get("operators"),
        "labels": list(parts.labels),
        "accuracy": manifest.get("accuracy"),
        "origin": manifest.get("origin"),
    }
    emit(figures, as_json)
