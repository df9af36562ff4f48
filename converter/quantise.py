"""A float graph and calibration inputs become integers: one walk through the nodes, each after what came before it.

At every node there are two values for the calibration inputs: the float network's, and that of the network quantised up
to here. Weights are rounded so that the second comes as near to the first as they can (`rounding`); the range of the
result is that estimator's (`ranges`) which leaves the least error for the layer that reads it, measured on the half of
the calibration rows that the estimators did not see.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import execute, ranges, rounding
from tasuki.converter.flatbuffer import Grid, Section
from tasuki.converter.graph import SCORES, Floats, Graph, Node
from tasuki.sdk.errors import ConversionError

INT8: Final = np.dtype(np.int8)
INT16: Final = np.dtype(np.int16)
INT32: Final = np.dtype(np.int32)
_LIMITS: Final = {INT8: (-128, 127), INT16: (-32767, 32767)}
# Scales that the kernels prescribe, by operator and type.
_FIXED: Final = {
    ("SOFTMAX", INT8): (1 / 256, -128), ("SOFTMAX", INT16): (1 / 32768, 0),
    ("LOGISTIC", INT8): (1 / 256, -128), ("LOGISTIC", INT16): (1 / 32768, 0),
    ("TANH", INT8): (1 / 128, 0), ("TANH", INT16): (1 / 32768, 0),
}  # fmt: skip
# Operators that move values and leave them as they are.
_MOVES: Final = {"RESHAPE", "TRANSPOSE", "SLICE", "CONCATENATION", "REDUCE_MAX"}
# A score this far below the largest of its row adds nothing to a softmax in steps of 1/256.
_REACH: Final = 8.0
# Scores below this are masked (the architectures add -40 or less).
_MASKED: Final = -20.0
_ROWS: Final = 8192
_JUDGED: Final = 1024


@dataclass(frozen=True)
class Options:
    """`wide` makes activations int16; `adapt` rounds weights by their effect; `estimate` chooses among estimators."""

    wide: bool = False
    adapt: bool = True
    estimate: bool = True


@dataclass
class Plan:
    """What the walk decides. `estimators` says which one each range came from."""

    types: dict[str, np.dtype[Any]] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    estimators: dict[str, str] = field(default_factory=dict)

    def complete(self, graph: Graph) -> None:
        """Add the constants of `graph` that the calibrated graph has not: tables of another size, a constant cache.

        What is moved or gathered has the grid of what it becomes, the rest a grid of its own.
        """
        for node in graph.nodes:
            for name in node.inputs:
                if name not in graph.constants or name in self.constants:
                    continue
                value = graph.constants[name]
                if value.dtype == np.int32:
                    self.constants[name] = value
                    continue
                grid = self.grids[node.output]
                if node.operator not in _MOVES and node.operator != "GATHER":
                    grid = grid_of(float(value.min()), float(value.max()), self.types[node.output])
                self.types[name], self.grids[name] = grid.type, grid
                self.constants[name] = integers(value, grid)

    def section(self, name: str, graph: Graph) -> Section:
        """What `flatbuffer.write` takes."""
        return Section(name, graph, execute.shapes(graph), self.types, self.grids, self.constants)


def calibrate(
    graph: Graph,
    feeds: Mapping[str, NDArray[Any]],
    real: NDArray[np.bool_],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Grids and integers of `graph` for inputs like `feeds`; `real` bool [n, tokens] marks what is not padding.

    Raises ConversionError if a value is not finite, or there is no token to calibrate on.
    """
    if not real.any():
        raise ConversionError("there is no text to calibrate on, or none with a token")
    walk = _Walk(graph, feeds, real, options)
    for number, node in enumerate(graph.nodes):
        walk.step(node)
        progress(number + 1, len(graph.nodes))
    return walk.plan


def on_grid(value: NDArray[Any], grid: Grid) -> Floats:
    """`value` rounded to the grid, float32."""
    low, high = _LIMITS[grid.type]
    steps = np.clip(np.rint(value / grid.scale[0]) + grid.zero, low, high)
    return np.asarray((steps - grid.zero) * grid.scale[0], np.float32)


def integers(value: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """The steps of `value` on the grid."""
    low, high = _LIMITS[grid.type]
    return np.asarray(np.clip(np.rint(value / grid.scale[0]) + grid.zero, low, high), grid.type)


def grid_of(low: float, high: float, kind: np.dtype[Any]) -> Grid:
    """The grid that covers [`low`, `high`] and has a step at zero; int16 is symmetric, as the kernels want it."""
    low, high = min(low, 0.0), max(high, 1e-9)
    if kind == INT16:
        return Grid(np.array([max(-low, high) / 32767], np.float32), 0, INT16)
    scale = np.float32((high - low) / 255)
    zero = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return Grid(np.array([scale], np.float32), zero, INT8)


def _same(a: Grid, b: Grid) -> bool:
    return (a.type, a.zero, a.scale[0]) == (b.type, b.zero, b.scale[0])


def _swish(x: Floats) -> Floats:
    """What a product with its own sigmoid makes of `x`: far below zero nothing is left, however coarse the steps."""
    return np.asarray(x / (1 + np.exp(np.minimum(-x, 80.0))), np.float32)


class _Walk:
    def __init__(
        self, graph: Graph, feeds: Mapping[str, NDArray[Any]], real: NDArray[np.bool_], options: Options
    ) -> None:
        self.graph, self.real, self.options = graph, real, options
        self.users = graph.users()
        self.left = {name: len(nodes) for name, nodes in self.users.items()}
        self.float: dict[str, NDArray[Any]] = dict(feeds)
        self.plan = Plan(types=dict.fromkeys(feeds, INT32))
        self.simulated: dict[str, NDArray[Any]] = dict(feeds)

    def step(self, node: Node) -> None:
        for name in node.inputs:
            if name in self.graph.cached and name not in self.plan.grids:
                grid = self.plan.grids[self.graph.cached[name]]
                self.plan.types[name], self.plan.grids[name] = grid.type, grid
                self.simulated[name] = on_grid(self.float[name], grid)
        exact = np.asarray(execute.wanted(node, [self.of(self.float, name) for name in node.inputs]))
        if exact.dtype == np.int32:
            self.whole(node, exact)
        else:
            if not np.isfinite(exact).all():
                raise ConversionError(f"{node.output}: the float model gives values that are not finite")
            self.constants(node, exact)
            value = np.asarray(execute.apply(node, [self.of(self.simulated, name) for name in node.inputs]))
            if node.operator == "RSQRT":  # of a variance that rounds to zero the kernels give the largest step
                value = np.nan_to_num(value, nan=exact.max(), posinf=exact.max())
            grid = self.grid(node, value, exact)
            self.plan.types[node.output], self.plan.grids[node.output] = grid.type, grid
            self.float[node.output], self.simulated[node.output] = exact, on_grid(value, grid)
        for name in node.inputs:
            self.left[name] -= 1
            if not self.left[name]:
                self.float.pop(name, None)
                self.simulated.pop(name, None)

    def of(self, values: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
        return values[name] if name in values else self.graph.constants[name]

    def whole(self, node: Node, value: NDArray[Any]) -> None:
        """An operator on ids."""
        self.plan.types[node.output] = INT32
        self.float[node.output] = self.simulated[node.output] = value
        for name in node.inputs:
            if name in self.graph.constants:
                self.plan.constants[name] = self.graph.constants[name]

    def kind(self, name: str) -> np.dtype[Any]:
        return INT16 if self.options.wide or name in self.graph.wide else INT8

    def used(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        return execute.token_rows(self.graph, name, value, self.real)

    # Constants

    def constants(self, node: Node, exact: NDArray[Any]) -> None:
        if node.operator == "FULLY_CONNECTED":
            self.dense(node)
            return
        for name in node.inputs:
            if self.plan.types.get(name, INT32) not in (INT32, self.kind(node.output)) and name in self.plan.constants:
                raise ConversionError(f"{node.output}: {name} is used in int8 and in int16; give each its own name")
            if name in self.graph.constants and name not in self.plan.constants:
                value = self.graph.constants[name]
                if value.dtype == np.int32:
                    self.plan.constants[name] = value
                    continue
                low, high, kind = float(value.min()), float(value.max()), self.kind(node.output)
                if node.operator == "GATHER" and value.ndim == 2 and self.options.estimate and kind == INT8:
                    low, high = ranges.least_square(ranges.thin(value), 256)
                grid = grid_of(low, high, kind)
                self.plan.types[name], self.plan.grids[name] = grid.type, grid
                self.plan.constants[name] = integers(value, grid)
                self.simulated[name] = on_grid(value, grid)

    def dense(self, node: Node) -> None:
        source, name = node.inputs[:2]
        if name in self.plan.constants:
            raise ConversionError(f"{node.output}: {name} is used twice; a dense layer needs weights of its own name")
        weight = self.graph.constants[name]
        grid = self.plan.grids[source]
        stride = float(grid.scale[0]) if grid.type == INT8 else np.inf
        bias_name = node.inputs[2] if len(node.inputs) == 3 else None
        bias = self.graph.constants[bias_name] if bias_name else None
        if self.options.adapt and weight.shape[1] > 1:
            # The rows that matter are those of the output: a blind one may read what is not blind.
            inputs, exact = (self.used(node.output, v[source]) for v in (self.simulated, self.float))
            chosen = slice(None, None, max(1, -(-len(inputs) // _ROWS)))
            parts = [
                rounding.adaptive(w, b, inputs[chosen], exact[chosen] @ w.T + (0 if b is None else b), stride)
                for w, b in rounding.blocks(weight, bias)
            ]
            rounded = rounding.joined(parts)
        else:
            rounded = rounding.nearest(weight, bias, stride)
        step = grid.scale[0] * rounded.scale
        self.plan.constants[name] = rounded.weight
        self.plan.grids[name] = Grid(rounded.scale, 0, INT8)
        self.simulated[name] = rounded.weight * rounded.scale[:, None]
        if bias_name and rounded.bias is not None:
            limit = 2.0**31 - 1 if grid.type == INT8 else 2.0**39
            whole = np.clip(np.rint(rounded.bias.astype(np.float64) / step), -limit, limit)
            self.plan.constants[bias_name] = whole.astype(np.int32 if grid.type == INT8 else np.int64)
            self.plan.grids[bias_name] = Grid(step.astype(np.float32), 0, INT32)
            self.simulated[bias_name] = np.asarray(whole * step, np.float32)

    # Ranges

    def grid(self, node: Node, value: NDArray[Any], exact: NDArray[Any]) -> Grid:
        kind, name = self.kind(node.output), node.output
        if node.operator in _MOVES or node.operator == "GATHER":
            first, *others = (self.plan.grids[x] for x in node.inputs if x in self.plan.grids)
            if all(_same(other, first) for other in others):
                return first
        if (node.operator, kind) in _FIXED:
            scale, zero = _FIXED[node.operator, kind]
            return Grid(np.array([scale], np.float32), zero, kind)
        if "low" in node.attributes:
            return grid_of(node.attributes["low"], 0.0, kind)
        mine, truth = self.used(name, value), self.used(name, exact)
        if node.attributes.get("masked"):
            seen = truth > _MASKED
            mine, truth = mine[seen], truth[seen]
        if kind == INT16 or not self.options.estimate or node.attributes.get("minmax"):
            low, high = float(mine.min()), float(mine.max())
            chosen = "minmax"
        else:
            chosen, low, high = self.estimate(node, mine, truth)
        if node.attributes.get("masked"):
            low = self.floor(name, value)
        self.plan.estimators[name] = chosen
        return grid_of(low, high, kind)

    def floor(self, name: str, scores: NDArray[Any]) -> float:
        """Below this a masked score counts as nothing. Rows in which all is masked do not matter."""
        largest = self.used(name, np.broadcast_to(scores.max(-1, keepdims=True), scores.shape))
        return float(np.percentile(largest[largest > _MASKED], 0.1)) - _REACH

    def estimate(self, node: Node, mine: NDArray[Any], exact: NDArray[Any]) -> tuple[str, float, float]:
        if len(mine) < 4:
            return "minmax", float(mine.min()), float(mine.max())
        # Not every other row: where texts have an even number of tokens, that would be every other place.
        seen = np.zeros(len(mine), np.bool_)
        seen[np.random.default_rng(len(mine)).permutation(len(mine))[::2]] = True
        rest = np.flatnonzero(~seen)
        rest = rest[:: max(1, len(rest) // _JUDGED)]
        judged, truth = mine[rest], exact[rest]
        weight = self.reader(node.output, mine.shape[-1])
        gated = any("stands_for" in user.attributes for user in self.users.get(node.output, ()))
        truth = _swish(truth) if gated else truth
        best: tuple[float, str, float, float] | None = None
        for name, low, high in ranges.candidates(mine[seen], 256):
            rounded = on_grid(judged, grid_of(low, high, INT8))
            error = (_swish(rounded) if gated else rounded) - truth
            if weight is not None:
                error = error.reshape(-1, weight.shape[1]) @ weight.T
            found = (float(np.mean(error.astype(np.float64) ** 2)), name, low, high)
            best = found if best is None or found[0] < best[0] else best
        assert best is not None  # noqa: S101  (there is always minmax)
        return best[1], best[2], best[3]

    def reader(self, name: str, width: int) -> Floats | None:
        """The weight of the first dense layer that reads `name`."""
        for user in self.users.get(name, ()):
            if user.operator == "FULLY_CONNECTED" and self.graph.layout[name] != SCORES:
                weight: Floats = self.graph.constants[user.inputs[1]]
                return weight[:1024] if weight.shape[1] == width else None
        return None
