"""`tasuki inspect`: what an artifact holds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tasuki.sdk import artifact as artifacts
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.console import emit, json_option

# Which figures stand under which heading, and which have a heading of their own.
_SECTIONS = {
    "artifact": ("name", "task", "tier", "format", "sha256", "bytes", "signature", "signed_by"),
    "model": ("model_bytes", "activations", "rounding", "tokens", "pad", "tokenizer", "vocabulary", "features",
              "logits", "last_layer", "shapes", "operators", "cache"),
    "answers": ("labels", "adapter_kinds", "low_rank", "temperature", "conformal"),
}  # fmt: skip
_OWN = ("accuracy", "calibration", "rounding_difference", "origin", "notes", "parts")


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--verify", type=click.Path(path_type=Path), metavar="KEY",
              help="Check the signature with this public key (PEM, from `tasuki key`).")  # fmt: skip
@json_option
def inspect(artifact: Path, verify: Path | None, as_json: bool) -> None:
    """Check an artifact's parts against its manifest, and show them.

    Example: tasuki inspect lamp.tflite --verify signing.pub
    """
    trusted = None if verify is None else artifacts.trusted_key(verify)
    parts = artifacts.load(artifact, trusted, mapped=True)
    figures = _figures(parts)
    if trusted is not None:
        figures |= {"signature": "verified", "signed_by": trusted.public_bytes_raw().hex()}
    if as_json:
        emit(figures, True)
        return
    for heading, section in _sections(figures):
        click.secho(heading, bold=True)
        for line in _lines(section):
            click.echo(f"  {line}")


def _figures(parts: Artifact) -> dict[str, Any]:
    """The whole manifest, and what the file itself tells."""
    return {
        **parts.manifest,
        "sha256": parts.hash.hex(),
        "bytes": parts.size,
        "model_bytes": parts.manifest["parts"]["model"]["bytes"],
        "tokenizer": artifacts.VOCABULARY if parts.tokenizer_json is None else artifacts.TOKENIZER_JSON,
        "vocabulary": len(parts.vocabulary) or None,
        "last_layer": parts.manifest.get("vocabulary"),
        "signature": "none" if parts.signature is None else "there, not checked: give --verify KEY",
    }


def _sections(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for heading, names in _SECTIONS.items():
        yield heading, {name: figures[name] for name in names if figures.get(name) is not None}
    own = {**figures, "rounding_difference": _difference(figures)}
    own["calibration"] = {k: v for k, v in figures["calibration"].items() if k != "rounding_difference"}
    for name in _OWN:
        if own.get(name):
            yield name.replace("_", " "), own[name]


def _difference(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """How many steps lie between the kernels that may run the model, for the tiers of microcontrollers."""
    found = figures["calibration"].get("rounding_difference")
    if isinstance(found, Mapping) and found:
        return found
    if figures["tier"].startswith("mcu") and figures["activations"] != "float":
        return {"not recorded": "convert again to have it measured"}
    return {}


def _lines(value: Any) -> Iterator[str]:
    """One line an entry of an object or list; what is inside an entry stays on its line."""
    if isinstance(value, Mapping):
        width = max(len(name) for name in value)
        for name, item in value.items():
            yield f"{_plain(name.replace('_', ' ')):<{width}}  {_words(item)}"
    else:
        yield from map(_words, value)


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(name)} {_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        nested = any(isinstance(item, (list, Mapping)) for item in value)
        return ("; " if nested else ", ").join(map(_words, value)) or "none"
    return _plain(str(value))


def _plain(text: str) -> str:
    """The file's author must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
