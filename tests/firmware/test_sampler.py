"""The sampler in C: the picks of the SDK's, for the same seeds."""

import ctypes
import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from firmware.kernel_kit import library
from firmware.text_kit import compiled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasuki.sdk.sampling import Sampler

_ARGUMENT = -1


@dataclass
class InC:
    """`tsk_sampler_pick` on the grid of `scale` and `zero`."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    scale: float = 0.05
    zero: int = 3
    _memory: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(1024, np.uint64))

    def __post_init__(self) -> None:
        self._library = library()
        self._at = ctypes.c_void_p(self._memory.ctypes.data)
        self.status = self._library.tsk_sampler_start(
            self._at, ctypes.c_double(self.temperature), ctypes.c_uint32(self.top_k), ctypes.c_double(self.top_p),
            ctypes.c_uint64(self.seed),
        )  # fmt: skip

    def pick(self, codes: NDArray[np.int8]) -> int:
        picked: int = self._library.tsk_sampler_pick(
            self._at, ctypes.c_void_p(codes.ctypes.data), len(codes), ctypes.c_float(self.scale), self.zero
        )
        return picked

    def real(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """The logits as the SDK sees them."""
        return (codes.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)

    def same(self, codes: NDArray[np.int8], picks: int = 1) -> None:
        """Both pick the same, `picks` times in a row."""
        theirs = Sampler(self.temperature, self.top_k, self.top_p, self.seed)
        for _ in range(picks):
            assert self.pick(codes) == theirs.pick(self.real(codes))


_codes = st.lists(st.integers(-128, 127), min_size=1, max_size=80).map(lambda c: np.array(c, np.int8))


@given(
    _codes, st.floats(0, 100), st.integers(0, 90), st.floats(0, 1, exclude_min=True), st.integers(0, 2**64 - 1),
    st.floats(2**-13, 10, width=32), st.integers(-128, 127),
)  # fmt: skip
@example(np.array([5, 5, 5, 5, 5], np.int8), 1.0, 3, 0.5, 1, 0.1, 0)
@example(np.array([127, -128], np.int8), 1e-300, 0, 1.0, 1, 1.0, 0)
@settings(deadline=None, max_examples=400)
def test_any_logits_and_any_numbers(
    codes: NDArray[np.int8], temperature: float, top_k: int, top_p: float, seed: int, scale: float, zero: int
) -> None:
    InC(temperature, top_k, top_p, seed, scale, zero).same(codes)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (40, 1.0), (0, 0.9), (20, 0.8), (1, 1.0), (300, 0.01)])
def test_ten_thousand_draws_of_one_seed(top_k: int, top_p: float) -> None:
    rng = np.random.default_rng(top_k)
    for round_ in range(10):
        codes = np.clip(rng.normal(-20, 40, 300), -128, 127).astype(np.int8)
        InC(0.8, top_k, top_p, round_, 0.034, 127).same(codes, 200)


@functools.cache
def _exponential() -> Any:
    """The function is static: the file is made a part of the test's own."""
    code = '#include "tsk_sampler.c"\ndouble exponential(double x);\n'
    found = compiled(code + "double exponential(double x) {\n    return exp_negative(x);\n}\n").exponential
    found.restype, found.argtypes = ctypes.c_double, [ctypes.c_double]
    return found


def test_exponentials_are_right_to_one_unit_in_the_last_place() -> None:
    for x in [*np.random.default_rng(0).uniform(-708, 0, 2000).tolist(), 0.0, -1e-300, -0.5, -707.999, -708.0]:
        assert abs(_exponential()(x) - math.exp(x)) <= math.ulp(math.exp(x)), x
    assert _exponential()(-708.001) == _exponential()(-math.inf) == 0.0


@pytest.mark.parametrize("top_p", [0.991, 0.999])
def test_a_large_nucleus_is_one(top_p: float) -> None:
    codes = np.arange(-60, 68, dtype=np.int8)
    InC(1.0, 0, top_p, 5, 0.05).same(codes, 500)


def test_a_nucleus_ends_where_its_share_is_reached_exactly() -> None:
    for top_p, kept in ((0.5, 2), (0.25, 1), (0.75, 3)):
        c = InC(1.0, 0, top_p, 3)
        c.same(np.full(4, 5, np.int8), 100)
        assert {c.pick(np.full(4, 5, np.int8)) for _ in range(100)} == set(range(kept))


def test_the_random_numbers_are_numpys() -> None:
    # Equal logits and every token kept: the pick is the number itself.
    codes = np.zeros(60_000, np.int8)
    for seed in (0, 1, 2**32, 2**64 - 1, 12345678901234567890):
        drawn = np.random.Generator(np.random.PCG64(seed)).random(50)
        c = InC(1.0, 0, 1.0, seed)
        for number in drawn:
            assert c.pick(codes) == int(number * 60_000)


def test_numbers_out_of_range_are_refused() -> None:
    for temperature, top_p in ((-0.1, 1), (100.1, 1), (1, 0), (1, 1.1), (float("nan"), 1), (1, float("nan"))):
        assert InC(temperature, 0, top_p).status == _ARGUMENT
    assert InC(100.0, 0, 1.0).status == InC(0.0, 2**32 - 1, 1e-9).status == 0
