"""Small programs made by hand, for tests of what comes after lowering: a table, a dense layer in tiles, a sum."""

from dataclasses import replace
from typing import Any

import numpy as np

from tasuki.firmware_bridge.compiler.ir import Graph, Operator, Tensor
from tasuki.firmware_bridge.compiler.program import Buffer, Loop, Operand, Plan, Port, Program, Step

INT8 = np.dtype(np.int8)
ROWS, WIDTH, TILE = 8, 12, 6


def buffer(number: int, place: Any, size: int, name: str = "", data: Any = None, kind: Any = INT8) -> Buffer:
    """A buffer; a constant's size is its data's."""
    return Buffer(number, name or f"b{number}", place, np.dtype(kind), size, data)


def fc(x: Operand, y: Operand, rows: int) -> Step:
    """A dense layer of constants 10, 11, 12 and 13 (weights, bias, multiplier, shift)."""
    params = {
        "weights": Operand(10), "bias": Operand(11), "multiplier": Operand(12), "shift": Operand(13), "scale": None,
        "lut": None, "in": WIDTH, "out": WIDTH, "channels": 0, "out_zero": 3, "min": -128, "max": 127,
    }  # fmt: skip
    scratch = 2 * 6 * -(-WIDTH // 4) * 4
    return Step("fc_s8", params, (x,), (y,), rows, scratch, source=(0,))


def add(a: Operand, b: Operand, y: Operand, rows: int, overlap: tuple[tuple[int, int], ...] = ()) -> Step:
    """A sum of two dense operands on equal grids."""
    params = {
        "columns": WIDTH, "a_row": WIDTH, "a_column": 1, "b_row": WIDTH, "b_column": 1, "a_offset": 0, "b_offset": 0,
        "out_offset": 0, "left_shift": 20, "a_multiplier": 1 << 30, "a_shift": 0, "b_multiplier": 1 << 30, "b_shift": 0,
        "out_multiplier": 1 << 30, "out_shift": -18, "min": -128, "max": 127, "subtract": 0,
    }  # fmt: skip
    return Step("add_s8", params, (a, b), (y,), rows, overlap=overlap, source=(1,))


def lut(x: Operand, y: Operand, rows: int, overlap: tuple[tuple[int, int], ...] = ()) -> Step:
    """A table, constant 14."""
    return Step("lut_s8", {"columns": WIDTH, "lut": Operand(14)}, (x,), (y,), rows, overlap=overlap, source=(2,))


def product(**strides: int) -> Step:
    """A product of 2 by 3 and 3 by 4 of the input, to the output, dense but for `strides`."""
    params = {
        "m": 2, "n": 4, "k": 3, "batch": (1, 1), "a_batch": (0, 0), "b_batch": (0, 0), "y_batch": (0, 0), "a_row": 3,
        "a_column": 1, "b_row": 4, "b_column": 1, "y_row": 4, "y_column": 1, "lut": None,
    }  # fmt: skip
    return Step("matmul_s8", {**params, **strides}, (Operand(0), Operand(0)), (Operand(1),), scratch=8 * (4 + 12))


def program(name: str = "small") -> Program:
    """``out = lut(x) + fc(lut(x))`` over 8 rows of 12, in tiles of 6: 2 is lut(x), 3 is a tile of fc(...)."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    constants = {
        10: weights, 11: rng.integers(-99, 99, WIDTH).astype(np.int32), 12: np.array([1 << 30], np.int32),
        13: np.array([-6], np.int8),
    }  # fmt: skip
    table = np.roll(np.arange(-128, 128), 128).astype(np.int8)[::-1].copy()
    size = ROWS * WIDTH
    buffers = (
        buffer(0, "input", size, "x"), buffer(1, "output", size, "y"), buffer(2, "arena", size, "u"),
        buffer(3, "arena", TILE * WIDTH, "tile"),
        *(buffer(n, "model", d.nbytes, data=d, kind=d.dtype) for n, d in constants.items()),
        buffer(14, "table", 256, "table", table),
    )  # fmt: skip
    whole, tile = Operand(2, row=WIDTH), Operand(3)
    loop = Loop(
        ROWS, TILE, (fc(whole, tile, TILE), add(whole, tile, Operand(1, row=WIDTH), TILE))
    )  # fmt: skip
    ports = (Port(0, "x", INT8, (ROWS, WIDTH), 0.5, 0),), (Port(1, "y", INT8, (ROWS, WIDTH), 0.25, -1),)
    return Program(name, "tflm", buffers, (lut(Operand(0), Operand(2), ROWS), loop), *ports, ("a note",))


def plan() -> Plan:
    """A plan for `program` that is sound: no byte twice but the last tile's."""
    return Plan({2: 0, 3: 96}, 176, 320)


def graph() -> Graph:
    """Operators for the comments of `program`; it is not what the program computes."""
    kinds = ("FULLY_CONNECTED", "ADD", "TANH")
    tensors = [Tensor(n, f"tensor {n}", INT8, (ROWS, WIDTH)) for n in range(4)]
    operators = [Operator(n, kind, (n,), (n + 1,)) for n, kind in enumerate(kinds)]
    return Graph("main", tuple(tensors), tuple(operators), (0,), (3,))


def with_steps(original: Program, *body: Step | Loop) -> Program:
    """The same buffers and ports with another body."""
    return replace(original, body=body)
