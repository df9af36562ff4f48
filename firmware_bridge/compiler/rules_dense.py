"""What FULLY_CONNECTED, BATCH_MATMUL and SOFTMAX must be like."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.compiler.site import INT8, INT16, INT32, INT64, Site, span

# How far the bias's steps may be from those of the products, in steps of the output (as TensorFlow Lite has it).
_BIAS: Final = 0.02


def fully_connected(site: Site) -> None:
    """x [..., in], weights [out, in], bias [out] or none. Weights have zero point 0, and one scale or one for each
    output."""
    x, weights = site.arity(3, optional=1)
    y, bias = site.output, site.optional(2)
    site.type(x, INT8, INT16)
    site.type(weights, INT8)
    site.same_type(x, y)
    values = site.constant(weights, "weights")
    if weights.quantization is None:
        site.fail("weights without a scale", weights)
    scales, zeros = weights.quantization.scale, weights.quantization.zero
    if zeros.any():
        site.fail("weights with a zero point; it must be 0", weights)
    if weights.quantization.axis != 0:
        site.fail("a scale for each input; weights have one for each output, or one", weights)
    if site.option("weights_format") != 0:
        site.fail("shuffled weights; the default format is supported", weights)
    site.activation()
    _shape(site, x, weights)
    (scale_in, zero), (scale_out, _) = site.grid(x), site.grid(y)
    magnitudes = np.abs(values.astype(np.int64)).sum(1) * span(x, zero)
    if bias is not None:
        magnitudes = magnitudes + _bias(site, x, weights, bias, scale_in / scale_out)
    largest = int(magnitudes.max())
    ratio = scale_in * float(scales.max()) / scale_out
    if x.type == INT8 or (bias is not None and bias.type == INT32):
        site.requantised(largest, ratio)
    elif largest >= 2**47 or ratio >= 2**7:
        site.fail(f"its sum can reach {largest:,}, times {ratio:g} more than the kernel holds; enlarge the scale")


def _shape(site: Site, x: Tensor, weights: Tensor) -> None:
    if len(weights.shape) != 2:
        site.fail(f"weights of shape {weights.shape}; [outputs, inputs] is supported", weights)
    outputs, inputs = weights.shape
    if x.elements % inputs or (site.option("keep_num_dims") and (not x.shape or x.shape[-1] != inputs)):
        site.fail(f"shape {x.shape} does not divide into rows of {inputs}", x)
    site.shape((*x.shape[:-1], outputs) if site.option("keep_num_dims") else (x.elements // inputs, outputs))


def _bias(site: Site, x: Tensor, weights: Tensor, bias: Tensor, ratio: float) -> NDArray[np.int64]:
    """The magnitudes of the bias; `ratio` is the input's scale in steps of the output."""
    site.type(bias, *((INT32,) if x.type == INT8 else (INT64, INT32)))
    values = site.constant(bias, "biases")
    if bias.shape != weights.shape[:1]:
        site.fail(f"bias of shape {bias.shape} for {weights.shape[0]} outputs", bias)
    if bias.quantization is None or weights.quantization is None:
        site.fail("bias without a scale", bias)
    if bias.quantization.zero.any():
        site.fail("bias with a zero point; it must be 0", bias)
    steps = bias.quantization.scale.astype(np.float64) / site.grid(x)[0]
    if (np.abs(weights.quantization.scale - steps) * ratio > _BIAS).any():
        site.fail("the bias's scale is not that of input times weights", bias)
    # The magnitude of the least int64 is not an int64.
    return np.abs(np.maximum(values.astype(np.int64), -(2**62)))


def batch_matmul(site: Site) -> None:
    """a [..., m, k] and b [..., k, n], each turned round if adj_x or adj_y; batches broadcast."""
    a, b = site.arity(2)
    site.type(a, INT8, INT16)
    site.same_type(a, b, site.output)
    for tensor in (a, b):
        if not 2 <= len(tensor.shape) <= 4:
            site.fail(f"shape {tensor.shape}; 2 to 4 dimensions are supported", tensor)
    m, k = a.shape[-2:][::-1] if site.option("adj_x") else a.shape[-2:]
    other, n = b.shape[-2:][::-1] if site.option("adj_y") else b.shape[-2:]
    if k != other:
        site.fail(f"shapes {a.shape} and {b.shape}: {k} columns meet {other} rows")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        site.fail(f"shapes {a.shape} and {b.shape} do not broadcast")
    site.shape((*batch, m, n))
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, _) = site.grid(a), site.grid(b), site.grid(site.output)
    ratio, largest = scale_a * scale_b / scale_y, k * span(a, zero_a) * span(b, zero_b)
    if a.type == INT8:
        site.requantised(largest, ratio)
    elif largest >= 2**47 or ratio >= 2**7:
        site.fail(f"its sum can reach {largest:,}, times {ratio:g} more than the kernel holds; enlarge the scale")


def softmax(site: Site) -> None:
    """Over the last dimension; the output's grid is prescribed."""
    (x,) = site.arity(1)
    site.type(x, INT8, INT16)
    site.same_type(x, site.output)
    scale, _ = site.grid(x)
    site.shape(x.shape)
    if not x.shape:
        site.fail("a single value has no softmax", x)
    beta = site.option("beta")
    if not (np.isfinite(beta) and beta > 0):
        site.fail(f"beta {beta}; it must be positive")
    if beta * scale * 2**26 <= 1:
        site.fail(f"scale {scale:g} times beta {beta:g} is below what the kernel resolves", x)
    # On int8 the kernel's reciprocal is of a sum below 2^9, and each column adds up to 1; TensorFlow Lite aborts above.
    most = 511 if x.type == INT8 else 4096
    if x.shape[-1] > most:
        site.fail(f"{x.shape[-1]} columns; at most {most:,} are supported on {x.type.name}", x)
    site.fixed_grid(site.output, *((1 / 256, -128) if x.type == INT8 else (1 / 32768, 0)))
