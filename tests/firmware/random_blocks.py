"""Recipes of several operators for random graphs: the chains that a compiler fuses."""

from firmware import random_recipes as recipes
from firmware.random_maker import Maker, T


def chain(m: Maker) -> T:
    """Functions of one int8, one behind the other: a compiler makes them one table."""
    x = m.pick()
    for _ in range(int(m.rng.integers(2, 5))):
        step = m.rng.integers(5)
        if step == 0:
            x = recipes.sigmoid(m, x)
        elif step == 1:
            x = recipes.relu(m, x)
        elif step == 2:
            c = m.constant(() if m.chance(0.5) else (1,))
            x = m.op("MUL", [x, c] if m.chance(0.6) else [c, x], x.shape or c.shape, x.reach * c.reach / 2)
        elif step == 3:
            c = m.constant(() if m.chance(0.5) else (1,))
            kind = "ADD" if m.chance(0.6) else "SUB"
            x = m.op(kind, [x, c] if m.chance(0.6) else [c, x], x.shape or c.shape, x.reach + c.reach)
        else:
            x = m.op("QUANTIZE", [x], x.shape, x.reach)
    return x


def feed_forward(m: Maker) -> T:
    """Two dense layers with a function between them, and the residual where shapes allow."""
    x = m.pick(rank=2)
    inner = recipes.dense(m, x, m.size(24), "RELU" if m.chance(0.5) else "NONE")
    if m.chance(0.6):
        inner = recipes.sigmoid(m, inner)
    y = recipes.dense(m, inner, x.shape[-1], "NONE")
    if y.shape == x.shape:
        return m.op("ADD", [x, y] if m.chance(0.5) else [y, x], x.shape, x.reach + y.reach)
    return y


def residual(m: Maker) -> T:
    """x + f(x), f one function or one dense layer: the sum may go where f's result was, x may not."""
    x = m.pick(rank=2)
    y = recipes.sigmoid(m, x) if m.chance(0.5) else recipes.dense(m, x, x.shape[-1], "NONE")
    if y.shape != x.shape:
        y = m.op("RESHAPE", [y, m.builder.ints(*x.shape)], x.shape, grid=(y.scale, y.zero), new_shape=list(x.shape))
    return m.op("ADD" if m.chance(0.8) else "MUL", [x, y], x.shape, x.reach + y.reach)


def attention(m: Maker) -> T:
    """Multi-head attention with every transposition written out, one order or the other for K."""
    tokens, heads, head = m.size(8), m.size(3), m.size(6)
    width = heads * head
    x = m.fresh((1, tokens, width)) if m.chance(0.5) else m.pick(rank=2)
    if x.shape != (1, tokens, width):
        x = recipes.dense(m, m.fresh((1, tokens, m.size())), width, "NONE")
        x = m.op("RESHAPE", [x, m.builder.ints(1, tokens, width)], (1, tokens, width), grid=(x.scale, x.zero))

    def apart(order: tuple[int, ...]) -> T:
        y = recipes.dense(m, x, width, "NONE")
        split = (1, tokens, heads, head)
        y = m.op("RESHAPE", [y, m.builder.ints(*split)], split, grid=(y.scale, y.zero), new_shape=list(split))
        shape = tuple(split[axis] for axis in order)
        return m.op("TRANSPOSE", [y, m.builder.ints(*order)], shape, grid=(y.scale, y.zero))

    turned = m.chance(0.5)
    k = apart((0, 2, 3, 1) if turned else (0, 2, 1, 3))
    q = apart((0, 2, 1, 3))
    shape = (1, heads, tokens, tokens)
    scores = m.op("BATCH_MATMUL", [q, k], shape, q.reach * k.reach * head**0.5 / 2, adj_y=not turned)
    if m.chance(0.6):
        c = m.constant(())
        scores = m.op("MUL", [scores, c], shape, scores.reach * c.reach / 2)
    if m.chance(0.4):
        mask = m.constant((1, 1, 1, tokens))
        scores = m.op("ADD", [scores, mask], shape, scores.reach + mask.reach)
    weights = recipes.softmax(m, scores)
    v = apart((0, 2, 1, 3))
    mixed = m.op("BATCH_MATMUL", [weights, v], (1, heads, tokens, head), v.reach)
    grid = (mixed.scale, mixed.zero)
    back = m.op("TRANSPOSE", [mixed, m.builder.ints(0, 2, 1, 3)], (1, tokens, heads, head), grid=grid)
    joined = (tokens, width) if m.chance(0.5) else (1, tokens, width)
    flat = m.op("RESHAPE", [back, m.builder.ints(*joined)], joined, grid=grid, new_shape=list(joined))
    y = recipes.dense(m, flat, width, "NONE")
    return m.op("ADD", [x, y], x.shape, x.reach + y.reach)


def normalise(m: Maker) -> T:
    """The middle of LayerNorm or RMSNorm: row by row, all but the gain."""
    x = m.pick(rank=2)
    last, column = m.builder.ints(-1), (*x.shape[:-1], 1)
    if m.chance(0.5):
        mean = m.op("MEAN", [x, last], column, x.reach, keep_dims=True)
        square = m.op("SQUARED_DIFFERENCE", [x, mean], x.shape, grid=(m.scale(x.reach**2 * 2), -128))
    else:
        square = m.op("MUL", [x, x], x.shape, grid=(m.scale(x.reach**2), -128))
    mean = m.op("MEAN", [square, last], column, grid=(m.scale(square.reach), -128), keep_dims=True)
    factor = m.op("RSQRT", [mean], column, mean.reach**-0.5 * 4)
    return m.op("MUL", [x, factor], x.shape, x.reach * factor.reach / 2)
