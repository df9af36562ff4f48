"""Weights to int8 so that the layer's output, not the weights, changes least."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.graph import Floats

_DAMPING = 0.01
_PULL = 0.03
# Rows for each input channel before weights are moved, not only rounded.
_ENOUGH = 8
_LIMIT = 127
_BLOCK = 64
_ROWS = 4096


@dataclass(frozen=True)
class Rounded:
    """int8 [out, in], float32 scales [out] and the corrected bias float32 [out], if there is one."""

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: Floats | None


def blocks(weight: Floats, bias: Floats | None) -> Iterator[tuple[Floats, Floats | None]]:
    """Rows of a large layer in parts, each of which fits in memory several times."""
    for start in range(0, len(weight), _ROWS):
        rows = slice(start, start + _ROWS)
        yield weight[rows], None if bias is None else bias[rows]


def joined(parts: Sequence[Rounded]) -> Rounded:
    """The layer of these parts."""
    biases = [part.bias for part in parts if part.bias is not None]
    return Rounded(
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.scale for part in parts]),
        np.concatenate(biases) if biases else None,
    )


def nearest(weight: Floats, bias: Floats | None, step: float = np.inf) -> Rounded:
    """Each weight to the nearest step of its row's range. `step` is that of the layer's input."""
    scale = _scales(weight, 0 if bias is None else np.abs(bias), step)
    return Rounded(_steps(weight, scale).astype(np.int8), scale, bias)


def adaptive(weight: Floats, bias: Floats | None, inputs: Floats, wanted: Floats, step: float = np.inf) -> Rounded:
    """Weights rounded one input channel after the other, each error made good by the channels that follow.

    GPTQ (Frantar et al. 2023) with the asymmetric target of GPTAQ (Li et al. 2025): `inputs` [n, in] are those that the
    quantised network really has here, in steps of `step`, `wanted` [n, out] the float network's outputs. Where `inputs`
    already differ from the float network's, weights and bias first move (ridge regression towards `weight`) to undo
    what they can. A row for which the nearest steps leave less error on `inputs` keeps those.
    """
    x = inputs.astype(np.float64)
    # A bias takes care of the mean; without one the weights must.
    mean = x.mean(0) if bias is not None else np.zeros(x.shape[1])
    x = x - mean
    gram = x.T @ x / len(x)
    power = max(float(np.trace(gram)) / len(gram), 1e-12)
    moved = weight.astype(np.float64)
    error = (wanted - inputs @ weight.T - (0 if bias is None else bias)).astype(np.float64)
    error -= error.mean(0) if bias is not None else 0
    toward = x.T @ error / len(x)
    if len(x) >= _ENOUGH * len(gram):
        pulled = gram + _PULL * power * np.eye(len(gram))
        moved = weight + np.linalg.solve(pulled, toward).T
    # No bias will be larger than this, whatever is corrected below.
    most = 0 if bias is None else np.abs(wanted).mean(0) + 2 * np.abs(moved) @ np.abs(mean)
    scale = _scales(moved.astype(np.float32), most, step)
    quantised = _gptq(moved, scale.astype(np.float64), gram + _DAMPING * power * np.eye(len(gram)))
    plain_scale = _scales(weight, most, step)
    plain = _steps(weight, plain_scale)
    worse = _loss(quantised, scale, weight, gram, toward) > _loss(plain, plain_scale, weight, gram, toward)
    quantised[worse], scale[worse] = plain[worse], plain_scale[worse]
    # What is left of the mean error goes into the bias (Nagel et al. 2019, "bias correction").
    if bias is None:
        return Rounded(quantised.astype(np.int8), scale, None)
    left = wanted.astype(np.float64).mean(0) - mean @ (quantised * scale[:, None].astype(np.float64)).T
    return Rounded(quantised.astype(np.int8), scale, left.astype(np.float32))


def _scales(weight: Floats, bias: NDArray[Any] | float, step: float) -> NDArray[np.float32]:
    """Of each row, large enough that a `bias` [out] fits in int32 beside it, in steps of scale times `step`."""
    return np.asarray(np.maximum(np.maximum(np.abs(weight).max(1) / _LIMIT, 1e-9), bias / (step * 2**30)), np.float32)


def _steps(weight: Floats, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.clip(np.rint(weight / scale[:, None]), -_LIMIT, _LIMIT), np.float32)


def _loss(
    steps: NDArray[Any], scale: NDArray[np.float32], weight: Floats, gram: NDArray[np.float64],
    toward: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Mean squared error of each row's output on the calibration inputs, but for a constant."""
    change = steps * scale[:, None].astype(np.float64) - weight
    return np.asarray(((change @ gram) * change).sum(1) - 2 * (change * toward.T).sum(1), np.float64)


def _gptq(weight: NDArray[np.float64], scale: NDArray[np.float64], gram: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(-np.diag(gram), kind="stable")
    w = weight[:, order].copy()
    inverse = np.linalg.inv(gram[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    quantised = np.empty_like(w)
    for start in range(0, w.shape[1], _BLOCK):
        stop = min(start + _BLOCK, w.shape[1])
        errors = np.empty((w.shape[0], stop - start))
        for i in range(start, stop):
            q = np.clip(np.rint(w[:, i] / scale), -_LIMIT, _LIMIT)
            quantised[:, i] = q
            error = (w[:, i] - q * scale) / upper[i, i]
            w[:, i:stop] -= np.outer(error, upper[i, i:stop])
            errors[:, i - start] = error
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    result = np.empty_like(quantised)
    result[:, order] = quantised
    return np.asarray(result, np.float64)
