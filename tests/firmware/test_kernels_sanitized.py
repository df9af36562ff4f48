"""The kernels' own tests again under AddressSanitizer and UndefinedBehaviorSanitizer, both roundings."""

import numpy as np
import pytest
from firmware import test_kernels_binary as binary
from firmware import test_kernels_convert as convert
from firmware import test_kernels_move as move
from firmware import test_kernels_products as products
from firmware import test_kernels_rows as rows
from firmware.graph_kit import ROUNDINGS
from firmware.kernel_kit import Call, Compiler, kernels, recording
from firmware.kernel_sanitized import replay
from hypothesis import given, settings

_ADJ = ((False, False), (True, False), (False, True), (True, True))


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """Hundreds of calls, of every kernel."""
    with recording() as made:
        for seed in range(4):
            _binary(seed)
            _products(seed)
            _rows(seed)
            _convert(seed)
        _move()
    return made


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("compiler", ["cc", pytest.param("clang", marks=pytest.mark.boards)])
def test_no_kernel_leaves_its_memory(calls: list[Call], rounding: str, compiler: Compiler) -> None:
    assert replay(calls, rounding, compiler) > 40


def test_every_kernel_was_called(calls: list[Call]) -> None:
    assert {call.kernel for call in calls} == set(kernels())


def test_a_call_beyond_its_memory_is_caught(calls: list[Call]) -> None:
    short = next(call for call in calls if call.kernel == "lut_s8")
    broken = Call(**{**vars(short), "params": {**short.params, "columns": short.params["columns"] + 1}})
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        replay([broken], short.rounding)


def _binary(seed: int) -> None:
    for kind in ("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE"):
        for ways in range(seed, 16, 4):
            binary.test_ways_of_broadcasting(kind, ways)
        if kind != "SQUARED_DIFFERENCE":
            binary.test_pairs_of_int16(kind, ROUNDINGS[seed % 2], seed)
    binary.test_extremes("MAXIMUM", ("int8", "int16", "int32")[seed % 3])
    binary.test_sums_of_int32(seed)


def _products(seed: int) -> None:
    for rounding in ROUNDINGS:
        products.test_fully_connected_on_int8(rounding, seed)
        products.test_fully_connected_on_int16(rounding, (None, np.int32, np.int64)[seed % 3], seed % 2)
        products.test_batch_matmul_on_int16(rounding, _ADJ[seed])
    products.test_batch_matmul_on_int8(_ADJ[seed], bool(seed % 2), seed)


def _rows(seed: int) -> None:
    for rounding in ROUNDINGS:
        rows.test_softmax_on_int8(rounding, seed)
        rows.test_softmax_on_int16(rounding, (1, 3, 64, 700)[seed])
    for kind in ("TANH", "LOGISTIC"):
        rows.test_sigmoids_of_every_int16(kind, (2.0**-12, 2.0**-11, 1e-5, 1e-2)[seed])
    for type_ in ("int8", "int16"):
        rows.test_mean_and_sum(("MEAN", "SUM")[seed % 2], type_, seed)
        rows.test_reduce_max(type_, ((1, 1, 1), (3, 50, 1), (2, 9, 7))[seed % 3])
    rows.test_rsqrt_of_every_int16(seed)
    rows.test_lut_of_every_int8()
    rows.test_arg_is_the_first_of_equals(("ARG_MAX", "ARG_MIN")[seed % 2], (5, 40, 1))


def _convert(seed: int) -> None:
    for from_ in convert.TYPES:
        for to in convert.TYPES:
            convert.test_cast(from_, to)
    for from_ in ("int8", "int16", "int32"):
        convert.test_requantize(from_, ("int8", "int16", "int32")[seed % 3], seed)
    for type_ in ("int8", "int16"):
        convert.test_quantize(type_, seed)
        convert.test_dequantize_every_value(type_)
    convert.test_quantize_saturates_beyond_int32()


def _move() -> None:
    settings(max_examples=150, database=None, deadline=None)(given(move.views())(move.check_copy))()
    for kind in (np.int8, np.int16, np.int32, np.int64):
        move.test_copy_repeats_and_takes_one(kind)
        move.test_fill(kind, -3)
        for ways in range(4):
            move.test_select(kind, ways)
    move.test_gather(3, 5)
    move.test_gather_refuses_an_id_outside(9)
    move.test_update_slice_clamps_its_start((-5, 3, 100), np.float32)
