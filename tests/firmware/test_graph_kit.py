"""Each operator made once by the kit: both interpreters run it, and agree to a step or two."""

from collections.abc import Callable

import numpy as np
import pytest
from firmware.every_operator import BOTH, LITERT, MICRO, sum_
from firmware.graph_kit import Builder, litert_reference, random_inputs, tflm


@pytest.mark.parametrize("make", BOTH, ids=lambda make: make.__name__)
def test_both_interpreters_agree(make: Callable[[Builder], int]) -> None:
    g = Builder()
    g.output(make(g))
    data = g.build()
    inputs = random_inputs(data, np.random.default_rng(7), ids=3)
    for mine, theirs in zip(tflm(data, inputs), litert_reference(data, inputs), strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert np.abs(mine.astype(np.float64) - theirs.astype(np.float64)).max() <= 2
        assert mine.size == 1 or len(np.unique(theirs)) > 1


@pytest.mark.parametrize("make", LITERT, ids=lambda make: make.__name__)
def test_what_tflm_lacks(make: Callable[[Builder], int]) -> None:
    g = Builder()
    g.output(make(g))
    data = g.build()
    inputs = random_inputs(data, np.random.default_rng(7))
    assert len(np.unique(litert_reference(data, inputs)[0])) > 1
    with pytest.raises(RuntimeError):
        tflm(data, inputs)


@pytest.mark.parametrize("make", MICRO, ids=lambda make: make.__name__)
def test_what_litert_lacks(make: Callable[[Builder], int]) -> None:
    g = Builder()
    g.output(make(g))
    data = g.build()
    inputs = random_inputs(data, np.random.default_rng(7))
    assert len(np.unique(tflm(data, inputs)[0])) > 1
    with pytest.raises((RuntimeError, ValueError)):
        litert_reference(data, inputs)


def test_sum_is_right_in_tflm_alone() -> None:
    # LiteRT's reference takes int8 for uint8.
    g = Builder()
    g.output(sum_(g))
    data = g.build()
    (x,) = random_inputs(data, np.random.default_rng(7))
    real = (x.astype(np.float64) - 3).sum(1) * 0.05 / 0.15 + 1
    assert np.abs(tflm(data, [x])[0] - real).max() <= 1
    wrong = (x.view(np.uint8) - 3.0).sum(1) * 0.05 / 0.15 + 1
    assert np.abs(litert_reference(data, [x])[0].view(np.uint8) - np.clip(wrong, 0, 255)).max() <= 1
    assert np.abs(litert_reference(data, [x])[0] - real).max() > 50
