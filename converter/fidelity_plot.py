"""The signal-to-noise ratio along the depth of a model: where its dots and lines are, for the template to draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 900
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 34
_LINES: Final = 6
_NARROW: Final = 26.0
# Ratios past these are drawn at the edge.
_LEAST, _MOST = -40.0, 80.0


def depth(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coordinates in a box of `WIDTH` by `HEIGHT`: `line` of the whole ratio, `dots` of the layers' own ratios, `lines`
    with their decibels and `blocks` of layers whose names begin alike."""
    known = [_seen(value) for layer in layers for value in (layer["snr"], layer["own_snr"]) if value is not None]
    step = _nice((max(known, default=1) - min(known, default=0)) / _LINES)
    low = math.floor(min(known, default=0) / step) * step
    high = max(math.ceil(max(known, default=1) / step) * step, low + step)

    def x(number: float) -> float:
        return round(_LEFT + (number + 0.5) * (WIDTH - _LEFT - _RIGHT) / max(len(layers), 1), 1)

    def y(ratio: float) -> float:
        return round(_TOP + (high - _seen(ratio)) * (HEIGHT - _TOP - _BOTTOM) / (high - low), 1)

    def dots(key: str) -> list[dict[str, Any]]:
        return [
            {"x": x(number), "y": y(layer[key]), "name": layer["name"], "ratio": layer[key]}
            for number, layer in enumerate(layers)
            if layer[key] is not None
        ]

    whole = dots("snr")
    return {
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - _RIGHT, "top": _TOP, "foot": HEIGHT - _BOTTOM,
        "line": " ".join(f"{dot['x']},{dot['y']}" for dot in whole),
        "whole": whole,
        "dots": dots("own_snr"),
        "lines": [{"y": y(low + n * step), "ratio": low + n * step} for n in range(round((high - low) / step) + 1)],
        "blocks": [
            {"from": x(first - 0.5), "to": x(last + 0.5), "name": name if x(last + 1) - x(first) > _NARROW else ""}
            for name, first, last in _blocks(layers)
        ],
    }  # fmt: skip


def _seen(ratio: float) -> float:
    return min(max(ratio, _LEAST), _MOST)


def _blocks(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Name, first and last of each run of layers whose names have the same first part."""
    found: list[tuple[str, int, int]] = []
    for number, layer in enumerate(layers):
        name = str(layer["name"]).partition(".")[0]
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], number)
        else:
            found.append((name, number, number))
    return found


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... decibels."""
    power = 10.0 ** math.floor(math.log10(max(step, 1)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)
