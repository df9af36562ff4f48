"""Recipes of one operator for random graphs."""

import math

import numpy as np
from firmware.random_maker import Maker, Shape, T


def _kind(m: Maker) -> str:
    """int8, or int16 if the pool has one."""
    return "int16" if m.chance(0.75) and any(t.kind == "int16" for t in m.pool) else "int8"


def dense(m: Maker, x: T | None = None, outputs: int = 0, activation: str | None = None) -> T:
    """FULLY_CONNECTED: a scale for all outputs or for each; bias or none; rows kept or flattened."""
    x = x or m.pick(_kind(m), rank=1)
    inputs, outputs = x.shape[-1], outputs or m.size(20)
    scales = np.float32(2.0 ** m.rng.uniform(-9, -6)) * np.ones(outputs if m.chance(0.6) else 1, np.float32)
    if len(scales) > 1:
        scales = (scales * m.rng.uniform(0.2, 1, outputs)).astype(np.float32)
    weights = m.builder.constant(m.rng.integers(-127, 128, (outputs, inputs), np.int8), scales)
    bias = None
    if m.chance(0.6):
        steps = m.rng.integers(-8000, 8001, outputs).astype(np.int32 if x.kind == "int8" else np.int64)
        bias = m.builder.constant(steps, (scales * np.float32(x.scale)).astype(np.float32))
    keep = m.chance(0.7)
    shape = (*x.shape[:-1], outputs) if keep else (math.prod(x.shape) // inputs, outputs)
    reach = x.reach * float(scales.max()) * 100 * inputs**0.5
    activation = activation or str(m.one_of("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1"))
    return m.op("FULLY_CONNECTED", [x, weights, bias], shape, reach, x.kind, activation=activation, keep_num_dims=keep)


def matmul(m: Maker) -> T:
    """BATCH_MATMUL of two activations, or with a constant; turned and broadcast."""
    kind = _kind(m)
    a = m.pick(kind, rank=2)
    adj_x, adj_y = m.chance(0.4), m.chance(0.4)
    rows, k = a.shape[-2:][::-1] if adj_x else a.shape[-2:]
    n = m.size()
    batch = a.shape[:-2] if m.chance(0.7) else tuple(1 for _ in a.shape[:-2])
    shape = (*batch, n, k) if adj_y else (*batch, k, n)
    fitting = [t for t in m.pool if t.kind == kind and t.shape == shape]
    b = fitting[-1] if fitting else m.fresh(shape, kind) if m.chance(0.6) else m.constant(shape, kind)
    reach = a.reach * b.reach * k**0.5 / 2
    return m.op("BATCH_MATMUL", [a, b], (*a.shape[:-2], rows, n), reach, kind, adj_x=adj_x, adj_y=adj_y)


def softmax(m: Maker, x: T | None = None) -> T:
    """SOFTMAX on its own grid, of as many columns as the kernels take."""
    x = x or m.pick(_kind(m), rank=1)
    if x.shape[-1] > 511:
        return slice_(m)
    grid = (1 / 256, -128) if x.kind == "int8" else (1 / 32768, 0)
    beta = 1.0 if m.chance(0.8) else float(np.float32(m.rng.uniform(0.1, 3)))
    return m.op("SOFTMAX", [x], x.shape, type_=x.kind, grid=grid, beta=beta)


def _pair(m: Maker, kind: str) -> tuple[T, T, Shape]:
    """Two operands that broadcast, in either order, and the result's shape."""
    a = m.pick(kind, rank=1)
    b: T | None = None
    fitting = [t for t in m.pool if t.kind == kind and _fits(a.shape, t.shape)]
    if fitting and m.chance(0.6):
        b = fitting[int(m.rng.integers(len(fitting)))]
    if b is None:
        shape = m.broadcastable(a.shape)
        b = m.constant(shape, kind) if m.chance(0.6) or not shape else m.fresh(shape, kind)
    shape = np.broadcast_shapes(a.shape, b.shape)
    return (a, b, shape) if m.chance(0.7) else (b, a, shape)


def _fits(a: Shape, b: Shape) -> bool:
    try:
        return len(np.broadcast_shapes(a, b)) <= 4
    except ValueError:
        return False


def add(m: Maker) -> T:
    """ADD or SUB, with an activation now and then."""
    kind = _kind(m)
    a, b, shape = _pair(m, kind)
    activation = str(m.one_of("NONE", "NONE", "NONE", "RELU", "RELU6"))
    return m.op(str(m.one_of("ADD", "ADD", "SUB")), [a, b], shape, a.reach + b.reach, kind, activation=activation)


def mul(m: Maker) -> T:
    """MUL; of a tensor with itself, too."""
    kind = _kind(m)
    a, b, shape = _pair(m, kind)
    activation = str(m.one_of("NONE", "NONE", "NONE", "RELU"))
    return m.op("MUL", [a, b], shape, a.reach * b.reach / 2, kind, activation=activation)


def extremum(m: Maker) -> T:
    """MINIMUM or MAXIMUM, all on one grid."""
    a = m.pick(rank=1)
    b = m.constant(m.broadcastable(a.shape), grid=(a.scale, a.zero))
    return m.op(str(m.one_of("MINIMUM", "MAXIMUM")), [a, b], a.shape, grid=(a.scale, a.zero))


def squared_difference(m: Maker) -> T:
    """SQUARED_DIFFERENCE."""
    a, b, shape = _pair(m, "int8")
    return m.op("SQUARED_DIFFERENCE", [a, b], shape, max(a.reach, b.reach) ** 2 * 2)


def reduce(m: Maker) -> T:
    """MEAN, SUM or REDUCE_MAX over neighbouring axes."""
    x = m.pick(rank=1)
    rank = len(x.shape)
    first = int(m.rng.integers(rank))
    axes = range(first, int(m.rng.integers(first + 1, rank + 1)))
    keep = m.chance(0.5) or len(axes) == rank
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    if not keep:
        shape = [n for axis, n in enumerate(x.shape) if axis not in axes]
    count = math.prod(x.shape[axis] for axis in axes)
    numbers = [axis - rank if m.chance(0.3) else axis for axis in axes]
    kind = str(m.one_of("MEAN", "MEAN", "SUM", "REDUCE_MAX"))
    reach = x.reach * (count**0.5 if kind == "SUM" else count**-0.5)
    grid = (x.scale, x.zero) if kind == "REDUCE_MAX" else None
    return m.op(kind, [x, m.builder.ints(*numbers)], tuple(shape), reach, grid=grid, keep_dims=keep)


def sigmoid(m: Maker, x: T | None = None) -> T:
    """TANH or LOGISTIC on their own grids."""
    x = x or m.pick(_kind(m))
    tanh = m.chance(0.6)
    grid = (1 / 32768, 0) if x.kind == "int16" else (1 / 128, 0) if tanh else (1 / 256, -128)
    if x.scale >= 2.5:
        x = m.op("QUANTIZE", [x], x.shape, 4.0, x.kind)
    return m.op("TANH" if tanh else "LOGISTIC", [x], x.shape, type_=x.kind, grid=grid)


def relu(m: Maker, x: T | None = None) -> T:
    """RELU, or RELU6 on a grid that reaches 6."""
    x = x or m.pick(_kind(m))
    if m.chance(0.6):
        return m.op("RELU", [x], x.shape, x.reach, x.kind)
    zero = int(m.rng.integers(-128, 50)) if x.kind == "int8" else 0
    scale = float(np.float32(m.rng.uniform(6.1, 12) / (127 - zero if x.kind == "int8" else 32767)))
    x = m.op("QUANTIZE", [x], x.shape, type_=x.kind, grid=(scale, zero))
    return m.op("RELU6", [x], x.shape, type_=x.kind, grid=(x.scale, x.zero))


def rsqrt(m: Maker) -> T:
    """RSQRT, behind a QUANTIZE, or on int16 a square, where the input could be negative."""
    x = m.pick(_kind(m))
    if x.kind == "int16":
        x = m.op("MUL", [x, x], x.shape, x.reach**2 / 2, "int16")
    elif x.zero != -128:
        x = m.op("QUANTIZE", [x], x.shape, grid=(m.scale(x.reach), -128))
    return m.op("RSQRT", [x], x.shape, x.reach**-0.5 * 4, x.kind)


def negate(m: Maker) -> T:
    """DEQUANTIZE, NEG, QUANTIZE: how LayerNorm gets its negative mean."""
    x = m.pick()
    real = m.loose_op("DEQUANTIZE", [x], x.shape, "float32")
    minus = m.loose_op("NEG", [real], x.shape, "float32")
    return m.op("QUANTIZE", [minus], x.shape, x.reach)


def requantize(m: Maker) -> T:
    """QUANTIZE from one int8 grid to another."""
    x = m.pick()
    return m.op("QUANTIZE", [x], x.shape, x.reach)


def widen(m: Maker) -> T:
    """QUANTIZE to int16."""
    x = m.pick()
    return m.op("QUANTIZE", [x], x.shape, x.reach, "int16", version=2)


def narrow(m: Maker) -> T | None:
    """QUANTIZE from int16 to int8, if there is an int16."""
    if not any(t.kind == "int16" for t in m.pool):
        return None
    x = m.pick("int16")
    return m.op("QUANTIZE", [x], x.shape, x.reach)


def to_float(m: Maker) -> None:
    """DEQUANTIZE; or QUANTIZE of a float input."""
    if m.chance(0.6):
        x = m.pick(_kind(m))
        m.loose_op("DEQUANTIZE", [x], x.shape, "float32")
        return
    shape = tuple(m.size() for _ in range(2))
    m.op("QUANTIZE", [m.builder.input(shape, "float32")], shape, 1.0, str(m.one_of("int8", "int8", "int16")))


def arg(m: Maker) -> None:
    """ARG_MAX or ARG_MIN."""
    x = m.pick(rank=2)
    axis = int(m.rng.integers(len(x.shape)))
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    kind = str(m.one_of("ARG_MAX", "ARG_MIN"))
    m.loose_op(kind, [x, m.builder.constant(np.int32(axis))], shape, "int32", output_type="int32")


def cast(m: Maker) -> None:
    """CAST of an int32 or bool input to float32 or an integer."""
    shape = (m.size(), m.size())
    source, target = str(m.one_of("int32", "bool", "int8")), str(m.one_of("float32", "int32"))
    x = m.builder.input(shape, source)
    m.loose_op("CAST", [x], shape, target, in_data_type=source, out_data_type=target)


# Moves


def _moved(m: Maker, kind: str, x: T, rest: list[T | int | None], shape: Shape, **options: object) -> T:
    return m.op(kind, [x, *rest], shape, type_=x.kind, grid=(x.scale, x.zero), **options)


def reshape(m: Maker) -> T:
    """RESHAPE: flat, a dimension more, or neighbours joined."""
    x = m.pick(_kind(m), rank=1)
    shapes: list[Shape] = [(math.prod(x.shape),)]
    if len(x.shape) < 4:
        shapes += [(1, *x.shape), (*x.shape, 1)]
    if len(x.shape) > 1:
        shapes += [(x.shape[0] * x.shape[1], *x.shape[2:]), (*x.shape[:-2], x.shape[-2] * x.shape[-1])]
    if x.shape[-1] % 2 == 0 and len(x.shape) < 4:
        shapes += [(*x.shape[:-1], 2, x.shape[-1] // 2)] * 2
    shape = shapes[int(m.rng.integers(len(shapes)))]
    return _moved(m, "RESHAPE", x, [m.builder.ints(*shape)], shape, new_shape=list(shape))


def transpose(m: Maker) -> T:
    """TRANSPOSE."""
    x = m.pick(_kind(m), rank=2)
    order = [int(n) for n in m.rng.permutation(len(x.shape))]
    return _moved(m, "TRANSPOSE", x, [m.builder.ints(*order)], tuple(x.shape[n] for n in order))


def concatenation(m: Maker) -> T:
    """CONCATENATION of a tensor with itself, with a constant, with what else is on its grid."""
    x = m.pick(_kind(m), rank=1)
    axis = int(m.rng.integers(len(x.shape)))
    parts = [x]
    for _ in range(int(m.rng.integers(1, 4))):
        fitting = [t for t in m.pool if (t.kind, t.scale, t.zero) == (x.kind, x.scale, x.zero) and _joins(t, x, axis)]
        if m.chance(0.5):
            parts.append(fitting[int(m.rng.integers(len(fitting)))])
        else:
            shape = (*x.shape[:axis], m.size(), *x.shape[axis + 1 :])
            parts.append(m.constant(shape, x.kind, (x.scale, x.zero)))
    parts = [parts[int(n)] for n in m.rng.permutation(len(parts))]
    shape = (*x.shape[:axis], sum(t.shape[axis] for t in parts), *x.shape[axis + 1 :])
    given = axis - len(x.shape) if m.chance(0.3) else axis
    return m.op("CONCATENATION", list(parts), shape, type_=x.kind, grid=(x.scale, x.zero), axis=given)


def _joins(a: T, b: T, axis: int) -> bool:
    return len(a.shape) == len(b.shape) and all(
        n == k for place, (n, k) in enumerate(zip(a.shape, b.shape, strict=True)) if place != axis
    )


def slice_(m: Maker) -> T:
    """SLICE."""
    x = m.pick(_kind(m), rank=1)
    begin = [int(m.rng.integers(n)) for n in x.shape]
    size = [int(m.rng.integers(1, n - b + 1)) for n, b in zip(x.shape, begin, strict=True)]
    given = [-1 if b + s == n and m.chance(0.5) else s for n, b, s in zip(x.shape, begin, size, strict=True)]
    return _moved(m, "SLICE", x, [m.builder.ints(*begin), m.builder.ints(*given)], tuple(size))


def strided_slice(m: Maker) -> T:
    """STRIDED_SLICE: strides of both signs, open ends, one index."""
    x = m.pick(rank=1)
    begin, end, step, shape, masks = [], [], [], [], [0, 0, 0]
    for axis, n in enumerate(x.shape):
        stride = int(m.rng.choice([1, 1, 2, -1, -2]))
        first = int(m.rng.integers(n))
        last = int(m.rng.integers(first + 1, n + 1)) if stride > 0 else int(m.rng.integers(-n - 1, first - n))
        if len(x.shape) - len(shape) > 1 and m.chance(0.15):
            masks[2] |= 1 << axis
            stride, last = 1, first + 1
        else:
            for mask in (0, 1):
                masks[mask] |= (1 << axis) * m.chance(0.2)
            span = slice(None if masks[0] >> axis & 1 else first, None if masks[1] >> axis & 1 else last, stride)
            shape.append(len(range(*span.indices(n))))
        begin.append(first - n if m.chance(0.2) else first)
        end.append(last)
        step.append(stride)
    if 0 in shape or not shape:
        return slice_(m)
    b, e, s = (m.builder.ints(*values) for values in (begin, end, step))
    return _moved(m, "STRIDED_SLICE", x, [b, e, s], tuple(shape), begin_mask=masks[0], end_mask=masks[1],
                  shrink_axis_mask=masks[2])  # fmt: skip


def split(m: Maker) -> list[T]:
    """SPLIT into two or three."""
    x = m.pick(rank=1)
    cuts = [(axis, parts) for axis, n in enumerate(x.shape) for parts in (1, 2, 3) if n % parts == 0]
    axis, parts = cuts[int(m.rng.integers(len(cuts)))]
    shape = (*x.shape[:axis], x.shape[axis] // parts, *x.shape[axis + 1 :])
    made = [m.put(shape, x.kind, x.scale, x.zero) for _ in range(parts)]
    m.add("SPLIT", [m.builder.constant(np.int32(axis)), x], [t.number for t in made], num_splits=parts)
    return made


def pad(m: Maker) -> T:
    """PAD or PADV2."""
    x = m.pick(rank=1)
    pairs = m.rng.integers(0, 3, (len(x.shape), 2)).astype(np.int32)
    rest: list[T | int | None] = [m.builder.constant(pairs)]
    if m.chance(0.4):
        rest.append(m.constant((1,) if m.chance(0.5) else (), grid=(x.scale, x.zero)))
    shape = tuple(int(n + a + b) for n, (a, b) in zip(x.shape, pairs, strict=True))
    return _moved(m, "PADV2" if len(rest) == 2 else "PAD", x, rest, shape)


def gather(m: Maker) -> T:
    """GATHER or EMBEDDING_LOOKUP from a constant table, or GATHER from an activation along any axis."""
    ids_shape = tuple(m.size() for _ in range(int(m.rng.integers(1, 3))))
    ids = m.builder.input(ids_shape, "int32") if m.chance(0.8) else None
    if ids is None:
        ids = m.builder.constant(m.rng.integers(0, 4, ids_shape).astype(np.int32))
    table = m.constant((int(m.rng.integers(4, 12)), *(m.size() for _ in range(int(m.rng.integers(1, 3))))))
    grid = (table.scale, table.zero)
    if len(ids_shape) == 1 and m.chance(0.4):
        return m.op("EMBEDDING_LOOKUP", [ids, table], (*ids_shape, *table.shape[1:]), grid=grid)
    fitting = [t for t in m.pool if t.kind == "int8" and t.shape and max(t.shape) >= 4 and len(t.shape) <= 2]
    if fitting and m.chance(0.5):
        table = fitting[-1]
        axis = next(axis for axis, n in enumerate(table.shape) if n >= 4)
    else:
        axis = 0
    shape = (*table.shape[:axis], *ids_shape, *table.shape[axis + 1 :])
    return m.op("GATHER", [table, ids], shape, grid=(table.scale, table.zero), axis=axis, batch_dims=0)


def place(m: Maker) -> T:
    """Rows of a table by a position and what follows it, or by ids of which only the first rows count."""
    count, width = m.size(), m.size()
    if m.chance(0.5):
        operands = [m.builder.input((1,), "int32"), m.builder.constant(np.arange(count, dtype=np.int32))]
        ids = m.loose_op("ADD", operands[:: int(m.rng.choice([1, -1]))], (count,), "int32", pot_scale_int16=False)
    else:
        operands = [m.builder.input((count,), "int32"), m.builder.constant(np.array([2], np.int32))]
        ids = m.loose_op("MINIMUM", operands, (count,), "int32")
    table = m.constant((count + 4, width))
    return m.op("GATHER", [table, ids], (count, width), grid=(table.scale, table.zero), axis=0, batch_dims=0)


def select(m: Maker) -> T:
    """SELECT_V2 with a bool input; everything broadcasts."""
    x = m.pick(_kind(m), rank=1)
    condition = m.builder.input(m.broadcastable(x.shape), "bool")
    other = m.constant(m.broadcastable(x.shape), x.kind, (x.scale, x.zero))
    pair: list[T | int | None] = [x, other] if m.chance(0.5) else [other, x]
    return m.op("SELECT_V2", [condition, *pair], x.shape, type_=x.kind, grid=(x.scale, x.zero))


def update_slice(m: Maker) -> T:
    """DYNAMIC_UPDATE_SLICE, as a key-value cache; starts are input or constant, and may be too far."""
    x = m.pick(_kind(m), rank=1)
    shape = tuple(int(m.rng.integers(1, n + 1)) for n in x.shape)
    grid = (x.scale, x.zero)
    update = m.constant(shape, x.kind, grid) if m.chance(0.4) else m.put(shape, x.kind, *grid, entry=True)
    far = m.rng.integers(-2, 9, len(shape))
    starts = m.builder.input((len(shape),), "int32") if m.chance(0.7) else m.builder.ints(*far)
    return _moved(m, "DYNAMIC_UPDATE_SLICE", x, [update, starts], x.shape)
