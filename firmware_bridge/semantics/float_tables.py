"""int8 tables of functions of a real number as LiteRT makes them: in float32, operation by operation.

exp, tanh and erfc are taken in float64 and rounded once, so that every machine makes the same table. A C library whose
float32 function is off in the last bit can make another: the entry then lies within 2**-16 of a tie.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Operator, Tensor
from tasuki.firmware_bridge.semantics import grids
from tasuki.firmware_bridge.semantics.fixed_point import Integers, round_away

Floats = NDArray[np.float32]
_ONE: Final = np.float32(1)
_HALF: Final = np.float32(0.5)
_MINUS_ROOT_HALF: Final = np.float32(-math.sqrt(0.5))
_ROOT_2_OF_PI: Final = np.float32(math.sqrt(2 / math.pi))
_CUBIC: Final = np.float32(0.044715)


def table(op: Operator, x: Tensor, y: Tensor, inputs: Integers) -> NDArray[np.int8]:
    """int8, of the shape of `inputs`: the operator's values on the grid of `y` for integers on the grid of `x`."""
    real = np.float32(grids.scale(x)) * (inputs - grids.zero(x)).astype(np.float32)
    found = _function(op)(real)
    placed = round_away(found * (_ONE / np.float32(grids.scale(y)))) + np.float32(grids.zero(y))
    made: NDArray[np.int8] = np.clip(placed, -128, 127).astype(np.int8)
    return made


def _function(op: Operator) -> Callable[[Floats], Floats]:
    if op.kind == "GELU":
        return _gelu_tanh if op.options.get("approximate") else _gelu
    return _tanh if op.kind == "TANH" else _logistic


def _tanh(x: Floats) -> Floats:
    return _rounded(np.tanh(x.astype(np.float64)))


def _logistic(x: Floats) -> Floats:
    # Beyond float32's range exp is infinite, and its inverse 0.
    exponential = _rounded(np.exp(np.minimum(-x.astype(np.float64), 700)))
    return _rounded(_ONE / (_ONE + exponential))


def _gelu(x: Floats) -> Floats:
    tail = np.array([math.erfc(float(value)) for value in (x * _MINUS_ROOT_HALF).flat])
    return _rounded(_HALF * x * _rounded(tail).reshape(x.shape))


def _gelu_tanh(x: Floats) -> Floats:
    return _rounded(_HALF * x * (_ONE + _tanh(_ROOT_2_OF_PI * (x + _CUBIC * x * x * x))))


def _rounded(x: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):
        return x.astype(np.float32)
