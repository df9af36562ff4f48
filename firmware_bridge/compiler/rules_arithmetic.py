"""What operators of two broadcast operands must be like: ADD, SUB, MUL, MINIMUM, MAXIMUM, SQUARED_DIFFERENCE."""

from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.ir import Tensor
from tasuki.firmware_bridge.compiler.site import INT8, INT16, INT32, Site, span


def _operands(site: Site, *types: np.dtype[Any]) -> tuple[Tensor, Tensor]:
    a, b = site.arity(2)
    site.type(a, *types)
    site.same_type(a, b, site.output)
    site.broadcast(a, b)
    return a, b


def addition(site: Site) -> None:
    """ADD and SUB: both operands are shifted left by 20 (int16: 15) and brought to twice the larger scale.

    ADD of int32 (positions and ids) is taken as it is.
    """
    adds = site.operator.kind == "ADD"
    a, b = _operands(site, INT8, INT16, *((INT32,) if adds else ()))
    if a.type == INT32:
        if site.option("activation") != "NONE":
            site.fail(f"fused {site.option('activation')} on int32; put it behind")
        return
    site.activation()
    larger = max(site.grid(a)[0], site.grid(b)[0])
    shift = 20 if a.type == INT8 else 15
    scale, _ = site.grid(site.output)
    if 2 * larger / (2**shift * scale) >= 1:
        site.fail(f"scale {scale:g} is far below the operands' {larger:g}; enlarge it")
    if a.type == INT16 and site.option("pot_scale_int16"):
        site.fail("int16 with pot_scale_int16; convert with a current converter, which clears it")


def mul(site: Site) -> None:
    """MUL: the product of both differences from the zero point."""
    a, b = _operands(site, INT8, INT16)
    site.activation()
    (scale_a, zero_a), (scale_b, zero_b), (scale, _) = site.grid(a), site.grid(b), site.grid(site.output)
    site.requantised(span(a, zero_a) * span(b, zero_b), scale_a * scale_b / scale)


def extremum(site: Site) -> None:
    """MINIMUM and MAXIMUM: all on one grid, or int32 (ids)."""
    a, b = _operands(site, INT8, INT16, INT32)
    if a.type != INT32:
        site.grid(site.output)
        site.same_grid(site.output, a, b)


def squared_difference(site: Site) -> None:
    """SQUARED_DIFFERENCE: as ADD with a shift of 7, then squared."""
    a, b = _operands(site, INT8)
    larger = max(site.grid(a)[0], site.grid(b)[0])
    scale, _ = site.grid(site.output)
    if (2 * larger) ** 2 / (2**14 * scale) >= 1:
        site.fail(f"scale {scale:g} is far below the square of the operands' {larger:g}; enlarge it")
