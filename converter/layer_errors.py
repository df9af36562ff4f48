"""The error of one layer, taken apart: sums over examples, and what they say in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tasuki.converter.flatbuffer import Grid
from tasuki.converter.graph import Floats
from tasuki.converter.quantise import on_grid

# What an error comes from, in the order in which it arises.
CAUSES: Final = ("inherited", "lowering", "weights", "clipping", "rounding", "arithmetic")
# Ratios past this are not told apart (dB); JSON has no infinity.
_LOWEST: Final = -200.0
# A layer says where most of its error was made, by at most so many layers.
_SOURCES: Final = 8
# A smaller share is not spoken of.
_NOTED: Final = 0.01


@dataclass(frozen=True)
class Layer:
    """One computing operator, over all held-out tokens that count.

    `snr` (dB) and `cosine` compare what the integers give with the float network; `own_snr` (dB) is that of the error
    that the layer adds itself. A ratio is None where there is no error. `errors` has the mean square of each of
    `CAUSES` as a share of the signal's, and `made_good` what the weights, moved for that, take off the inherited one.
    `clipped` is the share of values outside the range; `step` the distance of two integers divided by the signal's root
    mean square, None for a float tensor. `share` is the part of the error of the model's last output that was made
    here, as if errors were not correlated: a layer can be bad and do no harm. `cause` is the largest of `CAUSES`, or
    `none`; `sources` the layers where most of the error was made, each with its share, largest first. In words,
    `reason` says where the error comes from and `adds` what the layer adds to it.
    """

    name: str
    operator: str
    type: str
    snr: float | None
    cosine: float
    own_snr: float | None
    errors: Mapping[str, float]
    made_good: float
    clipped: float
    step: float | None
    share: float
    cause: str
    sources: Mapping[str, float]
    reason: str
    adds: str


@dataclass
class Sums:
    """Sums over the values of one layer. `alone` has the squares of the error that each input would bring alone."""

    operator: str
    grid: Grid | None
    count: int = 0
    signal: float = 0.0
    given: float = 0.0
    product: float = 0.0
    error: float = 0.0
    clipped: int = 0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    alone: dict[str, float] = field(default_factory=dict)

    def add(self, exact: Floats, inherited: Floats, lowered: Floats, weighted: Floats, found: Floats) -> None:
        """Values of the same tokens: in the float network; what the layer stands for, of the integers that came in; the
        operator in float, of the same; also with the integers of its weights; as the runtime gives them."""
        inside, stepped = weighted, weighted
        if self.grid is not None:
            limits = np.iinfo(self.grid.type)
            # Half a step past the last integer is still rounding.
            low, high = ((edge - self.grid.zero) * self.grid.scale[0] for edge in (limits.min - 0.5, limits.max + 0.5))
            inside = np.clip(weighted, low, high)
            stepped = on_grid(weighted, self.grid)
            self.clipped += int(np.count_nonzero(inside != weighted))
        # The weights' error is what they change of the whole: they may have been moved towards the float network.
        self.stages["inherited"] += power(inherited - exact)
        self.stages["lowering"] += power(lowered - inherited)
        self.stages["weights"] += power(weighted - exact) - power(lowered - exact)
        self.stages["clipping"] += power(inside - weighted)
        self.stages["rounding"] += power(stepped - inside)
        self.stages["arithmetic"] += power(found - stepped)
        self.count += exact.size
        self.signal += power(exact)
        self.given += power(found)
        self.product += float(exact.astype(np.float64) @ found)
        self.error += power(found - exact)

    def add_alone(self, source: str, error: Floats) -> None:
        """`error` is what the input `source` alone would change."""
        self.alone[source] = self.alone.get(source, 0.0) + power(error)

    @property
    def made_good(self) -> float:
        """What the weights take off the inherited error."""
        return min(max(0.0, -self.stages["weights"]), self.stages["inherited"])

    @property
    def parts(self) -> dict[str, float]:
        """By cause; what the weights make good is off the inherited one."""
        left = self.stages["inherited"] - self.made_good
        return {**self.stages, "inherited": left, "weights": max(0.0, self.stages["weights"])}

    @property
    def own(self) -> float:
        """What the layer adds itself."""
        return sum(value for cause, value in self.parts.items() if cause != "inherited")


def power(values: Floats) -> float:
    """The sum of squares of a vector."""
    wide = values.astype(np.float64)
    return float(wide @ wide)


def ratio(signal: float, error: float) -> float | None:
    """Signal to noise in dB, None without noise."""
    if error == 0:
        return None
    return max(_LOWEST, 10 * math.log10(max(signal / error, 1e-30)))


def layers(sums: Mapping[str, Sums], origins: Mapping[str, str], output: str) -> list[Layer]:
    """In the order of `sums`, which has every layer that computes, and so the model's last `output`.

    `origins` leads from a tensor that was only moved to where it was made.
    """
    shares = sources(origins.get(output, output), sums, origins)
    return [_layer(name, sums, origins, shares.get(name, 0.0)) for name in sums]


def worst(found: Sequence[Layer], count: int = 10) -> list[Layer]:
    """The `count` layers with the lowest signal-to-noise ratio, the lowest first."""
    return sorted((x for x in found if x.snr is not None), key=lambda x: 0.0 if x.snr is None else x.snr)[:count]


def harmful(found: Sequence[Layer], count: int = 10) -> list[Layer]:
    """The `count` layers where most of the last output's error was made, the largest share first."""
    return sorted((x for x in found if x.share), key=lambda x: -x.share)[:count]


def sources(name: str, sums: Mapping[str, Sums], origins: Mapping[str, str]) -> dict[str, float]:
    """Where the error of `name` was made: the share of each layer or input, largest first, as if none were correlated.

    Each layer keeps the part that it adds itself and hands the rest on to its inputs, by what each would bring alone.
    """
    left, made = {name: 1.0}, dict[str, float]()
    for layer in reversed(list(sums)):
        share = left.pop(layer, 0.0)
        parts = sums[layer].parts
        total, brought = sum(parts.values()), sum(sums[layer].alone.values())
        if not share or not total:
            continue
        inherited = parts["inherited"] / total if brought else 0.0
        made[layer] = share * (1 - inherited)
        for source, square in sums[layer].alone.items():
            if square:
                at = origins.get(source, source)
                left[at] = left.get(at, 0.0) + share * inherited * square / brought
    made |= left  # inputs of the model
    return {at: made[at] for at in sorted(made, key=lambda at: -made[at]) if made[at]}


def _layer(name: str, sums: Mapping[str, Sums], origins: Mapping[str, str], share: float) -> Layer:
    s = sums[name]
    lengths = (s.signal * s.given) ** 0.5
    made = sources(name, sums, origins)
    floor = max(s.signal, 1e-300)
    return Layer(
        name=name,
        operator=s.operator,
        type="float32" if s.grid is None else str(s.grid.type),
        snr=ratio(s.signal, s.error),
        cosine=s.product / lengths if lengths else float(s.signal == s.given),
        own_snr=ratio(s.signal, s.own),
        errors={cause: value / floor for cause, value in s.parts.items()},
        made_good=s.made_good / floor,
        clipped=s.clipped / max(s.count, 1),
        step=_step(s),
        share=share,
        cause=_cause(s),
        sources=dict(list(made.items())[:_SOURCES]),
        reason=_reason(name, made, sums),
        adds=_adds(s),
    )


def _cause(s: Sums, own: bool = False) -> str:
    parts = s.parts
    largest = max(CAUSES[1:] if own else CAUSES, key=parts.__getitem__)
    return largest if parts[largest] else "none"


def _step(s: Sums) -> float | None:
    if s.grid is None or not s.signal:
        return None
    return float(s.grid.scale[0]) / math.sqrt(s.signal / s.count)


def _reason(name: str, made: Mapping[str, float], sums: Mapping[str, Sums]) -> str:
    s = sums[name]
    cause, parts = _cause(s), s.parts
    if cause == "none":
        return "exact"
    share = percent(parts[cause] / sum(parts.values()))
    if cause != "inherited":
        return f"{_words(s, cause)} ({share} of the error)"
    good = s.made_good / s.stages["inherited"]
    words = f"inherited ({share} of the error"
    words += f", after its weights made good {percent(good)} of it)" if good >= _NOTED else ")"
    source = next((at for at in made if at != name), None)
    if source is None:
        return words
    how = _words(sums[source], _cause(sums[source], own=True)) if source in sums else "an input in integers"
    return f"{words}, the largest share ({percent(made[source])}) made at {source}: {how}"


def _adds(s: Sums) -> str:
    cause = _cause(s, own=True)
    return "nothing" if cause == "none" else f"{_words(s, cause)} ({percent(s.parts[cause] / s.own)} of what it adds)"


def _words(s: Sums, cause: str) -> str:
    match cause:
        case "lowering":
            return "the operators that stand for what the model has"
        case "weights" if s.operator == "GATHER":
            return "the table's entries in integers"
        case "weights":
            return "weights and constants in integers"
        case "clipping":
            return f"clipping, {percent(s.clipped / max(s.count, 1))} of the values lie outside the range"
        case "rounding":
            step = _step(s)
            return "rounding" + ("" if step is None else f", a step is {percent(step)} of the signal's rms")
    return "the kernel's own arithmetic"


def percent(share: float) -> str:
    """A share in words."""
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"
