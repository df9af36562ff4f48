"""FULLY_CONNECTED, BATCH_MATMUL and SOFTMAX on random values: the reference has the interpreters' bits."""

import numpy as np
import pytest
from firmware.graph_kit import Builder
from firmware.oracles import agree, scale, zero

_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_fully_connected(channels: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inner, outer = int(rng.integers(1, 200)), int(rng.integers(2, 60))
    x_scale = scale(rng, 1e-3, 0.1)
    w_scale = np.array([scale(rng, 1e-4, 1e-2) for _ in range(outer)]) if channels else np.array([scale(rng, 1e-4)])
    g = Builder()
    x = g.input((3, 4, inner), "int8", x_scale, zero(rng))
    w = g.constant(rng.integers(-127, 128, (outer, inner), np.int8), w_scale)
    bias = g.constant(rng.integers(-20000, 20000, outer).astype(np.int32), x_scale * w_scale)
    out_scale = float(np.median(w_scale)) * x_scale * 70 * np.sqrt(inner) * scale(rng, 0.3, 3)
    out = g.op("FULLY_CONNECTED", [x, w, bias if seed % 3 else None], (3, 4, outer), "int8", out_scale, zero(rng),
               activation=_ACTIVATIONS[seed % 4], keep_num_dims=True)  # fmt: skip
    g.output(out)
    agree(g, [rng.integers(-128, 128, (3, 4, inner), np.int8)])


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("bias_type", ["int32", "int64", None])
@pytest.mark.parametrize("seed", range(4))
def test_fully_connected_on_int16(channels: bool, bias_type: str | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inner, outer = int(rng.integers(1, 100)), 40
    x_scale = scale(rng, 1e-5, 1e-3)
    w_scale = np.array([scale(rng, 1e-4, 1e-2) for _ in range(outer)]) if channels else np.array([scale(rng, 1e-4)])
    g = Builder()
    x = g.input((50, inner), "int16", x_scale)
    w = g.constant(rng.integers(-127, 128, (outer, inner), np.int8), w_scale)
    bias = None
    if bias_type is not None:
        bias = g.constant(rng.integers(-200000, 200000, outer).astype(bias_type), x_scale * w_scale)
    out_scale = float(np.median(w_scale)) * x_scale * 70 * np.sqrt(inner) * scale(rng, 0.5, 2)
    options = {"quantized_bias_type": 2} if bias_type == "int32" else {}  # TensorType.INT32
    g.output(g.op("FULLY_CONNECTED", [x, w, bias], (50, outer), "int16", out_scale, activation=_ACTIVATIONS[seed],
                  **options))  # fmt: skip
    agree(g, [rng.integers(-32768, 32768, (50, inner)).astype(np.int16)])


@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(4))
def test_batch_matmul(adj_x: bool, adj_y: bool, type_: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k, n = (int(v) for v in rng.integers(1, 40, 3))
    batch = [(2, 3), (1, 4), (5,), ()][seed % 4]
    a_shape, b_shape = (*batch, *((k, m) if adj_x else (m, k))), (*batch, *((n, k) if adj_y else (k, n)))
    wide = type_ == "int16"
    a_scale, b_scale = scale(rng, 1e-4, 0.1), scale(rng, 1e-4, 0.1)
    out_scale = a_scale * b_scale * (15000 if wide else 60) * np.sqrt(k) * scale(rng, 0.5, 4)
    g = Builder()
    a = g.input(a_shape, type_, a_scale, 0 if wide else zero(rng))
    b = g.input(b_shape, type_, b_scale, 0 if wide else zero(rng))
    out = g.op("BATCH_MATMUL", [a, b], (*batch, m, n), type_, out_scale, 0 if wide else zero(rng),
               adj_x=adj_x, adj_y=adj_y)  # fmt: skip
    g.output(out)
    low, high = np.iinfo(type_).min, np.iinfo(type_).max + 1
    agree(g, [rng.integers(low, high, shape).astype(type_) for shape in (a_shape, b_shape)])


@pytest.mark.parametrize("type_", ["int8", "int16"])
@pytest.mark.parametrize("seed", range(12))
def test_softmax(type_: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.iinfo(type_).min, np.iinfo(type_).max + 1
    wide = type_ == "int16"
    shape = (60, int(rng.integers(1, 300)))
    g = Builder()
    x = g.input(shape, type_, scale(rng, 1e-6, 1e-3) if wide else scale(rng, 1e-3, 4.0), 0 if wide else zero(rng))
    out = (1 / 32768, 0) if wide else (1 / 256, -128)
    g.output(g.op("SOFTMAX", [x], shape, type_, *out, beta=1.0 if seed % 3 else scale(rng, 0.1, 2)))
    values = rng.integers(low, high, shape)
    # Rows that are narrow, and one that is flat.
    values[20:40] = np.clip(values[20:40] // 40, low, high - 1)
    values[40] = 5
    agree(g, [values.astype(type_)])
