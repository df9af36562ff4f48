"""What operators of one operand must be like: activations, and changes of type and grid."""

import math
from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.compiler.site import BOOL, FLOAT32, INT8, INT16, INT32, Site, span


def _operand(site: Site, *types: np.dtype[Any]) -> Tensor:
    (x,) = site.arity(1)
    site.type(x, *types)
    site.shape(x.shape)
    return x


def _activation(site: Site, *, wide: bool = True) -> Tensor:
    x = _operand(site, *((INT8, INT16) if wide else (INT8,)))
    site.same_type(x, site.output)
    site.grid(x)
    site.grid(site.output)
    return x


def tanh(site: Site) -> None:
    """TANH: the output's grid is prescribed."""
    x = _activation(site)
    site.fixed_grid(site.output, *((1 / 128, 0) if x.type == INT8 else (1 / 32768, 0)))
    _sigmoid_input(site, x)


def logistic(site: Site) -> None:
    """LOGISTIC: the output's grid is prescribed."""
    x = _activation(site)
    site.fixed_grid(site.output, *((1 / 256, -128) if x.type == INT8 else (1 / 32768, 0)))
    _sigmoid_input(site, x)


def _sigmoid_input(site: Site, x: Tensor) -> None:
    """The fixed-point kernels bring the input to a range of ±16 (int8) or ±10.7 (int16) by one multiplication."""
    scale, _ = site.grid(x)
    if not (2.0**-27 < scale < 16 if x.type == INT8 else 2.0**-28 < scale < 2.6):
        site.fail(f"scale {scale:g} is out of the kernel's range", x)


def relu(site: Site) -> None:
    """RELU: requantises."""
    x = _activation(site)
    (scale_in, zero), (scale_out, _) = site.grid(x), site.grid(site.output)
    site.requantised(span(x, zero), scale_in / scale_out)


def relu6(site: Site) -> None:
    """RELU6: clamps, on one grid, which must reach 6."""
    x = _activation(site)
    site.same_grid(x, site.output)
    scale, zero = site.grid(x)
    if zero + round(6 / scale) > (127 if x.type == INT8 else 32767):
        site.fail(f"scale {scale:g}, zero point {zero} do not reach 6; use RELU", x)


def relu_n1_to_1(site: Site) -> None:
    """RELU_N1_TO_1: as RELU, which TensorFlow Lite Micro has only fused into another operator."""
    x = _activation(site, wide=False)
    (scale_in, zero), (scale_out, _) = site.grid(x), site.grid(site.output)
    site.requantised(span(x, zero), scale_in / scale_out)


def gelu(site: Site) -> None:
    """GELU: a table of the 256 inputs."""
    _activation(site, wide=False)


def rsqrt(site: Site) -> None:
    """RSQRT: of values that are not negative, so on int8 the input's zero point is the least step. int16 has no such
    grid: there negative values give the largest step, where the interpreters stop."""
    x = _activation(site)
    (scale_in, zero), (scale_out, _) = site.grid(x), site.grid(site.output)
    if x.type == INT8 and zero != -128:
        site.fail(f"zero point {zero} lets it be negative; it must be -128 for a reciprocal square root", x)
    largest = 1 / (math.sqrt(scale_in) * scale_out)
    if x.type == INT16 and not 2.0**-10 < largest < 2.0**30:
        site.fail(f"its largest result is {largest:g} steps of the output; choose the scale so that int16 can hold it")


def neg(site: Site) -> None:
    """NEG: of float32 (between a DEQUANTIZE and a QUANTIZE), as the converter lowers LayerNorm."""
    x = _operand(site, FLOAT32)
    site.same_type(x, site.output)


def quantize(site: Site) -> None:
    """QUANTIZE: from float32, or from one grid to another."""
    x, y = _operand(site, FLOAT32, INT8, INT16, INT32), site.output
    site.type(y, *{FLOAT32: (INT8, INT16), INT32: (INT8, INT16)}.get(x.type, (INT8, INT16, INT32)))
    scale_out, _ = site.grid(y)
    if x.type == FLOAT32:
        return
    scale_in, zero = site.grid(x)
    if x.type == INT32 or y.type == INT32:
        if scale_in / scale_out >= 1 and x.type == INT32:
            site.fail(f"from int32 to a finer grid, {scale_in:g} to {scale_out:g}; it can leave int32")
        if x.type == INT32 and zero != 0:
            site.fail(f"zero point {zero}; int32 needs 0", x)
    if x.type != INT32:
        site.requantised(span(x, zero), scale_in / scale_out)


def dequantize(site: Site) -> None:
    """DEQUANTIZE: to float32."""
    x = _operand(site, INT8, INT16)
    site.type(site.output, FLOAT32)
    site.grid(x)


def cast(site: Site) -> None:
    """CAST: between numbers, except from float32 to integers, where C leaves open what becomes of large ones."""
    x = _operand(site, BOOL, INT8, INT16, INT32, FLOAT32)
    site.type(site.output, INT8, INT16, INT32, FLOAT32)
    if x.type == FLOAT32 and site.output.type != FLOAT32:
        site.fail(f"float32 to {site.output.type.name}; use QUANTIZE")
