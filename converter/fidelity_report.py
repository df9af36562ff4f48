"""The fidelity report: `fidelity.json` and `fidelity.html`, one page without scripts or outside parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasuki.converter import fidelity_plot, pack
from tasuki.converter.fidelity import CAUSES, Layer

# What a row is: `plain` are other converters' models, `baseline` is no language model (hashed n-grams).
Kind = Literal["teacher", "float", "plain", "ours", "baseline"]


class Row(TypedDict):
    """One model on the held-out texts. What was not measured is None.

    `accuracy` and `same_answer` (as the float model; 0 to 1) are by role of the held-out texts; `cosine` is of the
    features to the float model's, mean and least; `milliseconds` are medians of one run in turns with the others.
    """

    name: str
    kind: Kind
    bytes: int | None
    accuracy: dict[str, float]
    same_answer: dict[str, float]
    cosine: float | None
    cosine_min: float | None
    perplexity: float | None
    milliseconds: float | None
    note: str


class Confidence(TypedDict):
    """`conformal` has rows of error level and threshold, `held_out` is the number of texts that both were fitted on."""

    temperature: float
    conformal: list[list[float]]
    held_out: int


class Figures(TypedDict):
    """Everything that the report shows, ready for JSON.

    `conversion` is what `fidelity.summary` gives; `layers` are what `layer_rows` makes of `fidelity.layers`, in the
    graph's order, found on `layer_texts` held-out texts (chunks, if causal). `roles` says of each role of held-out
    texts how many there are and what: ``{"unseen": {"texts": 300, "about": "templates that nobody trained on"}}``; the
    accuracy on each is a column. `confidence` is None for a causal model. `calibration` and `notes` are names and
    values, as in the manifest; `origin` lists sources as the manifest does. `command` makes the report again.
    """

    name: str
    tier: str
    task: str
    activations: str
    artifact_bytes: int | None
    conversion: dict[str, Any]
    rows: list[Row]
    roles: dict[str, dict[str, Any]]
    confidence: Confidence | None
    calibration: dict[str, Any]
    origin: list[dict[str, str]]
    notes: dict[str, Any]
    command: str
    layer_texts: int
    layers: list[dict[str, Any]]


def row(
    name: str,
    kind: Kind,
    size_bytes: int | None = None,
    accuracy: Mapping[str, float] | None = None,
    same_answer: Mapping[str, float] | None = None,
    cosine: tuple[float, float] | None = None,
    perplexity: float | None = None,
    milliseconds: float | None = None,
    note: str = "",
) -> Row:
    """A row with what was measured; `cosine` is mean and least."""
    mean, least = cosine or (None, None)
    return {
        "name": name, "kind": kind, "bytes": size_bytes, "accuracy": dict(accuracy or {}),
        "same_answer": dict(same_answer or {}), "cosine": mean, "cosine_min": least, "perplexity": perplexity,
        "milliseconds": milliseconds, "note": note,
    }  # fmt: skip


def layer_rows(found: Sequence[Layer]) -> list[dict[str, Any]]:
    """Layers as the report has them."""
    return [asdict(layer) for layer in found]


def write(figures: Figures, folder: Path) -> tuple[Path, Path]:
    """Write ``fidelity.json`` and ``fidelity.html`` into `folder` and return their paths. Same figures, same bytes.

    Raises ValueError if a figure is not finite.
    """
    text = json.dumps(figures, indent=1, sort_keys=True, allow_nan=False)
    page = html(figures)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "fidelity.json", folder / "fidelity.html"
    for path, content in zip(paths, (text + "\n", page), strict=True):
        pack.write(path, content.encode())
    return paths


def html(figures: Figures) -> str:
    """The page. Every name and value in it is escaped."""
    environment = Environment(
        loader=PackageLoader("tasuki.converter", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    layers = figures["layers"]
    return environment.get_template("fidelity.html.j2").render(
        f=figures,
        causes=CAUSES,
        plot=fidelity_plot.depth(layers),
        bar=_bar,
        worst=sorted((x for x in layers if x["snr"] is not None), key=lambda x: x["snr"])[:_SHOWN],
        harmful=sorted((x for x in layers if x["share"]), key=lambda x: -x["share"])[:_SHOWN],
        measured={name: any(r[name] is not None for r in figures["rows"]) for name in _OPTIONAL},
    )


_OPTIONAL: Final = ("bytes", "cosine", "perplexity", "milliseconds")
_SHOWN: Final = 10


def _bar(errors: Mapping[str, float]) -> list[tuple[str, float]]:
    """Causes and their share of the layer's error, 0 to 1, where there is any."""
    total = sum(errors.values())
    return [(cause, errors[cause] / total) for cause in CAUSES if total and errors[cause]]


def _size(value: float | None) -> str:
    if value is None:
        return "–"
    for unit, large in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= large:
            return f"{value / large:.3g} {unit}"
    return f"{value:.0f} "


def _value(value: Any) -> str:
    """A value of the calibration or the notes, for people."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case Mapping():
            return ", ".join(f"{name} {_value(item)}" for name, item in value.items()) or "none"
        case list() | tuple():
            return ", ".join(map(_value, value)) or "none"
    return "none" if value is None else str(value)


_FILTERS: Final[dict[str, Any]] = {
    "db": lambda value: "exact" if value is None else f"{value:.1f}",
    "points": lambda value: "–" if value is None else f"{100 * value:.1f}",
    "cosine": lambda value: "–" if value is None else f"{value:.4f}",
    "number": lambda value: "–" if value is None else f"{value:.4g}",
    "thousands": lambda value: "–" if value is None else f"{value:,.0f}",
    "size": _size,
    "words": _value,
}
