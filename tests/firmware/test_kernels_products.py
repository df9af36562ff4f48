"""FULLY_CONNECTED and BATCH_MATMUL in C, as the interpreters."""

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from firmware.graph_kit import ROUNDINGS, Builder
from firmware.kernel_kit import At, call
from firmware.kernel_ops import expect, integers, read, same
from firmware.oracles import scale, zero
from numpy.typing import NDArray

from tasuki.firmware_bridge.semantics import matmul
from tasuki.firmware_bridge.semantics.fixed_point import Rounding

_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def fc_scratch(size: int) -> int:
    """TSK_FC_S8_SCRATCH."""
    return 2 * 6 * ((size + 3) // 4 * 4)


def matmul_scratch(n: int, k: int) -> int:
    """TSK_MATMUL_S8_SCRATCH."""
    return (k + 7) // 4 * 4 * (n + 12)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("seed", range(12))
def test_fully_connected_on_int8(rounding: Rounding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, size, out = (int(n) for n in rng.integers(1, [9, 140, 40]))
    # Zero points of the weights are 0 and their scale is one, or one for each output.
    weights = rng.integers(-127, 128, (out, size)).astype(np.int8)
    w_scale = rng.uniform(1e-3, 1e-1, out if seed % 2 else 1).astype(np.float32)
    bias = rng.integers(-4000, 4000, out).astype(np.int32) if seed % 3 else None
    x_scale, x_zero = scale(rng, 1e-2, 1.0), zero(rng)
    g = Builder()
    x = g.input((rows, size), "int8", x_scale, x_zero)
    w = g.constant(weights, w_scale, 0)
    b = None if bias is None else g.constant(bias, x_scale * w_scale, 0)
    y_scale = float(x_scale * w_scale.mean() * 60 * np.sqrt(size) * scale(rng, 0.3, 3))
    g.output(
        g.op("FULLY_CONNECTED", [x, w, b], (rows, out), "int8", y_scale, zero(rng), activation=_ACTIVATIONS[seed % 4])
    )
    graph, op = read(g)
    p = vars(matmul.fully_connected_params(op, graph, rounding))
    folded = matmul.folded_bias(weights, bias, p.pop("in_zero"))
    params = {**p, "weights": weights, "bias": folded, "lut": None, "in": size, "out": out}
    given, y = integers(rng, (rows, size)), np.zeros((rows, out), np.int8)
    call("fc_s8", params, [given], [y], rows, fc_scratch(size), rounding)
    wanted = expect(g, rounding, [given])
    same(y, wanted)
    lut = rng.permutation(256).astype(np.uint8).view(np.int8)
    call("fc_s8", {**params, "lut": lut}, [given], [y], rows, fc_scratch(size), rounding)
    same(y, lut[wanted.view(np.uint8)])


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("bias_type", [None, np.int32, np.int64])
@pytest.mark.parametrize("channels", [0, 1])
def test_fully_connected_on_int16(rounding: Rounding, bias_type: type | None, channels: int) -> None:
    rng = np.random.default_rng(channels)
    rows, size, out = 5, 131, 23
    weights = rng.integers(-127, 128, (out, size)).astype(np.int8)
    w_scale = rng.uniform(1e-3, 1e-1, out if channels else 1).astype(np.float32)
    bias = None if bias_type is None else rng.integers(-(10**6), 10**6, out).astype(bias_type)
    g = Builder()
    x = g.input((rows, size), "int16", 1e-4)
    w = g.constant(weights, w_scale, 0)
    b = None if bias is None else g.constant(bias, 1e-4 * w_scale, 0)
    y_scale = float(1e-4 * w_scale.mean() * 900)
    # LiteRT goes by this option alone, not by the bias's own type.
    accumulator = schema.TensorType.INT32 if bias_type is np.int32 else schema.TensorType.INT64
    g.output(g.op("FULLY_CONNECTED", [x, w, b], (rows, out), "int16", y_scale, quantized_bias_type=accumulator))
    graph, op = read(g)
    p = vars(matmul.fully_connected_params(op, graph, rounding))
    del p["in_zero"], p["out_zero"]
    # An int32 accumulator must not overflow, in the interpreters either.
    given = integers(rng, (rows, size), "int16") // (64 if bias_type is np.int32 else 1)
    wide = None if bias is None else bias.astype(np.int64)
    params = {**p, "weights": weights, "bias": wide, "in": size, "out": out, "narrow": int(bias_type is np.int32)}
    y = np.zeros((rows, out), np.int16)
    call("fc_s16", params, [given], [y], rows, rounding=rounding)
    same(y, expect(g, rounding, [given]))


def _matmul(
    rng: np.random.Generator, type_: str, adj: tuple[bool, bool], shared: bool, rounding: Rounding
) -> tuple[Builder, dict[str, Any], list[NDArray[Any]], tuple[int, ...]]:
    """A graph of BATCH_MATMUL, its struct, its inputs and its output's shape; `shared`: one b for all of axis 0."""
    batch = tuple(int(n) for n in rng.integers(1, 4, 2))
    m, n, k = (int(n) for n in rng.integers(1, 20, 3))
    a_shape = (*batch, k, m) if adj[0] else (*batch, m, k)
    b_shape = (1 if shared else batch[0], batch[1], *((n, k) if adj[1] else (k, n)))
    wide = type_ == "int16"
    zeros = [0 if wide else zero(rng) for _ in range(3)]
    g = Builder()
    ends = [g.input(s, type_, 0.02, z) for s, z in zip((a_shape, b_shape), zeros, strict=False)]
    y_scale = 0.02 * 0.02 * (9000 if wide else 60) * np.sqrt(k)
    y_shape = (*batch, m, n)
    g.output(g.op("BATCH_MATMUL", ends, y_shape, type_, float(y_scale), zeros[2], adj_x=adj[0], adj_y=adj[1]))
    graph, op = read(g)
    params = {
        "m": m, "n": n, "k": k, "batch": batch, "a_batch": (batch[1] * m * k, m * k),
        "b_batch": (0 if shared else batch[1] * n * k, n * k), "y_batch": (batch[1] * m * n, m * n),
        "a_row": 1 if adj[0] else k, "a_column": m if adj[0] else 1,
        "b_row": 1 if adj[1] else n, "b_column": k if adj[1] else 1, "y_row": n, "y_column": 1, "lut": None,
        **vars(matmul.matmul_params(op, graph, rounding)),
    }  # fmt: skip
    return g, params, [integers(rng, a_shape, type_), integers(rng, b_shape, type_)], y_shape


@pytest.mark.parametrize("adj", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_batch_matmul_on_int8(adj: tuple[bool, bool], shared: bool, seed: int) -> None:
    rng = np.random.default_rng([seed, *adj])
    g, params, inputs, shape = _matmul(rng, "int8", adj, shared, ROUNDINGS[seed % 2])
    wanted = expect(g, ROUNDINGS[seed % 2], inputs)
    scratch = matmul_scratch(params["n"], params["k"])
    y = np.zeros(shape, np.int8)
    call("matmul_s8", params, inputs, [y], scratch=scratch)
    same(y, wanted)
    # Transposed as it is written, into the middle of other memory, and through a table.
    lut = rng.permutation(256).astype(np.uint8).view(np.int8)
    room = np.full(y.size + 10, 77, np.int8)
    turned = {**params, "y_row": 1, "y_column": params["m"], "lut": lut}
    call("matmul_s8", turned, inputs, [At(room, 5)], scratch=scratch)
    same(room[5:-5].reshape(*shape[:2], shape[3], shape[2]), lut[wanted.view(np.uint8)].swapaxes(2, 3))
    assert (room[:5] == 77).all()
    assert (room[-5:] == 77).all()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("adj", [(False, False), (True, False), (False, True), (True, True)])
def test_batch_matmul_on_int16(rounding: Rounding, adj: tuple[bool, bool]) -> None:
    rng = np.random.default_rng([7, *adj])
    g, params, inputs, shape = _matmul(rng, "int16", adj, False, rounding)
    y = np.zeros(shape, np.int16)
    call("matmul_s16", params, inputs, [y], rounding=rounding)
    same(y, expect(g, rounding, inputs))
