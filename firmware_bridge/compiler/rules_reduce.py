"""What operators that reduce a dimension must be like: MEAN, SUM, REDUCE_MAX, ARG_MAX, ARG_MIN."""

import math

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.compiler.site import INT8, INT16, INT32, Site, span


def _reduced(site: Site, x: Tensor, axes: Tensor) -> int:
    """How many values become one. The axes must be neighbours."""
    site.type(axes, INT32)
    rank = len(x.shape)
    chosen = sorted({site.axis(axis, rank) for axis in site.ints(axes, "axis")})
    if not chosen or chosen != list(range(chosen[0], chosen[0] + len(chosen))):
        site.fail(f"axes {chosen}; they must be neighbours: use TRANSPOSE before")
    kept = [1 if axis in chosen else n for axis, n in enumerate(x.shape)]
    site.shape(kept if site.option("keep_dims") else [n for axis, n in enumerate(x.shape) if axis not in chosen])
    return math.prod(x.shape[axis] for axis in chosen)


def total(site: Site) -> None:
    """MEAN and SUM: a sum in int32, then requantised."""
    x, axes = site.arity(2)
    site.type(x, INT8, INT16)
    site.same_type(x, site.output)
    litert = site.operator.kind == "SUM" and site.rounding == "single"
    if litert and x.type == INT16:
        site.fail("LiteRT has no SUM on int16, so rounding single has none; use MEAN and MUL, or rounding tflm", x)
    count = _reduced(site, x, axes)
    (scale_in, zero), (scale_out, _) = site.grid(x), site.grid(site.output)
    ratio = scale_in / scale_out / (count if site.operator.kind == "MEAN" else 1)
    # LiteRT's SUM reads int8 as uint8.
    site.requantised(count * (255 - zero if litert else span(x, zero)), ratio)


def reduce_max(site: Site) -> None:
    """REDUCE_MAX: on one grid."""
    x, axes = site.arity(2)
    site.type(x, INT8)
    site.same_type(x, site.output)
    _reduced(site, x, axes)
    site.grid(x)
    site.same_grid(x, site.output)


def arg(site: Site) -> None:
    """ARG_MAX and ARG_MIN: the place of the first extremum, int32."""
    x, axis = site.arity(2)
    site.type(x, INT8)
    site.type(axis, INT32)
    site.type(site.output, INT32)
    (chosen,) = site.ints(axis, "axis") if axis.elements == 1 else site.fail("one axis is wanted", axis)
    chosen = site.axis(chosen, len(x.shape))
    site.shape([n for place, n in enumerate(x.shape) if place != chosen])
