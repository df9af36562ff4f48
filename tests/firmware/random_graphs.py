"""Random valid graphs over every operator that TensorFlow Lite Micro has: same seed, same bytes.

A graph is grown from a pool of tensors by recipes, most of one operator, some of the chains that invite a compiler to
fuse, to share memory or to work in place. What nobody reads becomes an output, now and then with something else.
"""

import numpy as np
from firmware import random_blocks as blocks
from firmware import random_recipes as recipes
from firmware.graph_kit import random_inputs
from firmware.random_maker import Maker
from hypothesis import strategies as st
from numpy.typing import NDArray

# Recipes and how often they are drawn.
_RECIPES = (
    (recipes.dense, 8), (recipes.matmul, 4), (recipes.softmax, 4), (recipes.add, 8), (recipes.mul, 7),
    (recipes.extremum, 2), (recipes.squared_difference, 2), (recipes.reduce, 5), (recipes.sigmoid, 6),
    (recipes.relu, 4), (recipes.rsqrt, 2), (recipes.negate, 2), (recipes.requantize, 3), (recipes.to_float, 1),
    (recipes.arg, 1), (recipes.reshape, 4), (recipes.transpose, 4), (recipes.concatenation, 3), (recipes.slice_, 2),
    (recipes.strided_slice, 2), (recipes.split, 2), (recipes.pad, 2), (recipes.gather, 3), (recipes.place, 2),
    (recipes.cast, 1), (recipes.select, 2), (recipes.update_slice, 2), (recipes.widen, 4), (recipes.narrow, 3),
    (blocks.chain, 5), (blocks.feed_forward, 4), (blocks.attention, 2), (blocks.normalise, 3), (blocks.residual, 5),
)  # fmt: skip
_MOST = 12

seeds = st.integers(0, 2**32 - 1)


def graph(seed: int) -> bytes:
    """A model of 1 to 12 operators and what the last recipe adds."""
    rng = np.random.default_rng(seed)
    maker = Maker(rng)
    wanted = int(rng.integers(1, _MOST + 1))
    weights = np.array([weight for _, weight in _RECIPES], np.float64)
    while len(maker.builder.operators) < wanted:
        recipe = _RECIPES[int(rng.choice(len(_RECIPES), p=weights / weights.sum()))][0]
        recipe(maker)
    return maker.finish()


def inputs(data: bytes, seed: int) -> list[NDArray[np.generic]]:
    """Inputs for `graph`'s models: the whole range of integers, ids that every table has."""
    return random_inputs(data, np.random.default_rng(seed), ids=4)
