"""What operators that move values must be like. They change no value, so all are on one grid."""

import math
from collections.abc import Sequence

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.compiler.site import BOOL, FLOAT32, INT8, INT16, INT32, Site

_MOVED = (INT8, INT16, INT32, FLOAT32, BOOL)


def _moved(site: Site, *tensors: Tensor) -> None:
    """Type and grid of what is moved."""
    site.type(tensors[0], *_MOVED)
    site.same_type(*tensors)
    site.same_grid(*tensors)


def reshape(site: Site) -> None:
    """RESHAPE: the output's shape is in the file; the shape operand, if there is one, must agree."""
    (x,) = site.arity(2, optional=1)
    _moved(site, x, site.output)
    if x.elements != site.output.elements:
        site.fail(f"shape {x.shape} has not the values of {site.output.shape}")
    target = site.optional(1)
    wanted = site.ints(target, "shape") if target is not None else site.option("new_shape")
    rest = math.prod(n for n in wanted if n > 0)
    filled = tuple(x.elements // rest if n == -1 else n for n in wanted) if rest else wanted
    if wanted.count(-1) > 1 or ((target is not None or wanted) and filled != site.output.shape):
        site.fail(f"shape {site.output.shape}; the operand makes it {wanted}")


def transpose(site: Site) -> None:
    """TRANSPOSE: by a constant permutation."""
    x, order = site.arity(2)
    _moved(site, x, site.output)
    axes = site.ints(order, "order")
    if sorted(axes) != list(range(len(x.shape))):
        site.fail(f"order {axes} of {len(x.shape)} dimensions", order)
    site.shape([x.shape[axis] for axis in axes])


def concatenation(site: Site) -> None:
    """CONCATENATION: along one axis."""
    inputs = site.arity(len(site.operator.inputs))
    if not inputs:
        site.fail("no inputs")
    _moved(site, site.output, *inputs)
    if site.option("activation") != "NONE":
        site.fail(f"fused {site.option('activation')}; put it behind")
    axis = site.axis(site.option("axis"), len(inputs[0].shape))
    first = inputs[0].shape
    for tensor in inputs[1:]:
        if len(tensor.shape) != len(first) or _without(tensor.shape, axis) != _without(first, axis):
            site.fail(f"shape {tensor.shape} beside {first} along axis {axis}", tensor)
    site.shape([*first[:axis], sum(tensor.shape[axis] for tensor in inputs), *first[axis + 1 :]])


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def slice_(site: Site) -> None:
    """SLICE: constant begin and size; -1 takes the rest."""
    x, begin, size = site.arity(3)
    _moved(site, x, site.output)
    begins, sizes = site.ints(begin, "begin"), site.ints(size, "size")
    if not len(begins) == len(sizes) == len(x.shape):
        site.fail(f"begin {begins} and size {sizes} for {len(x.shape)} dimensions")
    taken = [n - b if s == -1 else s for n, b, s in zip(x.shape, begins, sizes, strict=True)]
    for n, b, s in zip(x.shape, begins, taken, strict=True):
        if not (b >= 0 and s >= 1 and b + s <= n):
            site.fail(f"begin {begins}, size {sizes} leave shape {x.shape}")
    site.shape(taken)


def strided_slice(site: Site) -> None:
    """STRIDED_SLICE: constant ranges as in Python; of the masks, begin, end and shrink_axis."""
    x, begin, end, step = site.arity(4)
    _moved(site, x, site.output)
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if site.option(name):
            site.fail(f"{name}; write the range of every dimension, and RESHAPE")
    begins, ends, steps = (site.ints(t, w) for t, w in ((begin, "begin"), (end, "end"), (step, "stride")))
    if not len(begins) == len(ends) == len(steps) == len(x.shape):
        site.fail(f"ranges of {len(begins)} dimensions for {len(x.shape)}")
    made = []
    for axis, n in enumerate(x.shape):
        bit = 1 << axis
        if steps[axis] == 0:
            site.fail("stride 0", step)
        if site.option("shrink_axis_mask") & bit:
            if not -n <= begins[axis] < n or steps[axis] < 0:
                site.fail(f"index {begins[axis]} of {n}", begin)
            continue
        first = None if site.option("begin_mask") & bit else begins[axis]
        last = None if site.option("end_mask") & bit else ends[axis]
        made.append(len(range(*slice(first, last, steps[axis]).indices(n))))
    if 0 in made:
        site.fail(f"the ranges leave nothing of shape {x.shape}")
    site.shape(made)


def split(site: Site) -> None:
    """SPLIT: into equal parts along a constant axis."""
    axis, x = site.arity(2, outputs=len(site.operator.outputs))
    _moved(site, x, *site.outputs)
    values = site.ints(axis, "axis")
    if len(values) != 1:
        site.fail("one axis is wanted", axis)
    along, parts = site.axis(values[0], len(x.shape)), len(site.outputs)
    if parts == 0 or site.option("num_splits") != parts or x.shape[along] % parts:
        site.fail(f"{site.option('num_splits')} parts of {x.shape[along]} in {parts} outputs")
    for tensor in site.outputs:
        site.shape([*x.shape[:along], x.shape[along] // parts, *x.shape[along + 1 :]], tensor)


def pad(site: Site) -> None:
    """PAD and PADV2: constant widths, filled with zero (its zero point) or one constant value."""
    x, widths = site.arity(3, optional=1) if site.operator.kind == "PADV2" else site.arity(2)
    _moved(site, x, site.output)
    value = site.optional(2)
    if value is not None:
        site.constant(value, "values to pad with")
        site.same_type(x, value)
        site.same_grid(x, value)
        if value.elements != 1:
            site.fail(f"{value.elements} values to pad with; one is wanted", value)
    pairs = site.ints(widths, "paddings")
    if len(pairs) != 2 * len(x.shape) or min(pairs, default=0) < 0:
        site.fail(f"paddings {pairs} for {len(x.shape)} dimensions", widths)
    site.shape([n + before + after for n, before, after in zip(x.shape, pairs[::2], pairs[1::2], strict=True)])


def gather(site: Site) -> None:
    """GATHER: rows of a table by int32 ids. Constant ids are checked here, the others when they come."""
    table, ids = site.arity(2)
    _moved(site, table, site.output)
    if not table.shape:
        site.fail("a single value is no table", table)
    axis = site.axis(site.option("axis"), len(table.shape))
    if site.option("batch_dims") != 0:
        site.fail(f"batch_dims {site.option('batch_dims')}; 0 is supported")
    site.shape([*table.shape[:axis], *ids.shape, *table.shape[axis + 1 :]])
    _ids(site, ids, table.shape[axis])


def embedding_lookup(site: Site) -> None:
    """EMBEDDING_LOOKUP: rows of a table by a list of int32 ids."""
    ids, table = site.arity(2)
    _moved(site, table, site.output)
    if len(ids.shape) != 1 or len(table.shape) < 2:
        site.fail(f"ids of shape {ids.shape} in a table of shape {table.shape}; a list and rows are wanted", ids)
    site.shape([*ids.shape, *table.shape[1:]])
    _ids(site, ids, table.shape[0])


def _ids(site: Site, ids: Tensor, count: int) -> None:
    site.type(ids, INT32)
    if ids.data is not None and not (int(ids.data.min()) >= 0 and int(ids.data.max()) < count):
        site.fail(f"ids from {ids.data.min()} to {ids.data.max()} in a table of {count}", ids)


def select(site: Site) -> None:
    """SELECT_V2: a where the condition holds, else b; all broadcast."""
    condition, a, b = site.arity(3)
    site.type(condition, BOOL)
    site.type(a, INT8, INT16, FLOAT32, INT32)
    _moved(site, site.output, a, b)
    site.broadcast(condition, a, b)


def dynamic_update_slice(site: Site) -> None:
    """DYNAMIC_UPDATE_SLICE: an update goes into the operand at int32 starts, which are clamped."""
    operand, update, start = site.arity(3)
    site.type(operand, INT8, INT16, INT32, FLOAT32)
    _moved(site, operand, update, site.output)
    site.type(start, INT32)
    rank = len(operand.shape)
    if start.shape != (rank,) or len(update.shape) != rank or rank == 0:
        site.fail(f"starts of shape {start.shape} and an update of shape {update.shape} for {operand.shape}", start)
    if any(u > n for u, n in zip(update.shape, operand.shape, strict=True)):
        site.fail(f"an update of shape {update.shape} is larger than {operand.shape}", update)
    site.shape(operand.shape)
