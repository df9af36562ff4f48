"""Whole graphs through the lowering, the plan and the plain C kernels: bit for bit what the interpreters compute."""

import numpy as np
import pytest
from firmware import executor, random_graphs
from firmware.graph_kit import tflm

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge.compiler import check, lower_products, plan_check
from tasuki.firmware_bridge.compiler.lower import lower
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.reader import read
from tasuki.firmware_bridge.semantics.run import run
from tasuki.sdk.errors import FirmwareError

MODELS = {"dyt": firmware_models.dyt, "layernorm": firmware_models.layernorm, "rmsnorm": firmware_models.rmsnorm}
# The seeds come in groups, so that a failure is found again quickly and the report stays short.
GROUP = 20


def _random(seed: int) -> None:
    data = random_graphs.graph(seed)
    graph = read(data, "random")[0]
    check.check(graph)
    inputs = random_graphs.inputs(data, seed)
    for rounding in ("tflm", "single"):
        program = lower(graph, "random", rounding)
        where = plan(program)
        plan_check.check(program, where)
        wanted = tflm(data, inputs) if rounding == "tflm" else run(graph, inputs, "single")
        for got, want in zip(executor.execute(program, where, inputs), wanted, strict=True):
            np.testing.assert_array_equal(got, want, f"seed {seed}, {rounding}")


@pytest.mark.parametrize("group", range(3))
def test_random_graphs(group: int) -> None:
    for seed in range(group * GROUP, (group + 1) * GROUP):
        _random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(3, 28))
def test_more_random_graphs(group: int) -> None:
    for seed in range(group * GROUP, (group + 1) * GROUP):
        _random(seed)


def test_a_damaged_graph_is_lowered_soundly_or_refused_by_name() -> None:
    rng = np.random.default_rng(9)
    sound = 0
    for seed in range(400):
        data = bytearray(random_graphs.graph(seed % 40))
        for place in rng.integers(len(data), size=2):
            data[place] = rng.integers(256)
        try:
            graph = read(bytes(data), "damaged")[0]
            check.check(graph)
            program = lower(graph, "damaged", "tflm")
        except FirmwareError:
            continue
        plan_check.check(program, plan(program))
        sound += 1
    assert 0 < sound < 400


@pytest.mark.parametrize("name", MODELS)
def test_small_transformers(name: str) -> None:
    data = MODELS[name](2, firmware_models.SMALL)
    for ids in firmware_models.ids(5, firmware_models.SMALL, texts=3):
        for got, want in zip(executor.outputs(data, [ids]), tflm(data, [ids]), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", MODELS)
def test_transformers_of_the_reference_shape(name: str) -> None:
    """The arena is what the attention needs: a residual, three projections, one head's scores, and scratch."""
    data = MODELS[name]()
    program = lower(read(data, name)[0], name, "tflm")
    where = plan(program)
    plan_check.check(program, where)
    assert where.arena == 4 * 32 * 128 + 32 * 32 + lower_products.matmul_scratch(32, 32)
    assert sum(buffer.bytes for buffer in program.buffers if buffer.place == "model") <= 1.02 * len(data)
    (ids,) = firmware_models.ids(5)
    for got, want in zip(executor.execute(program, where, [ids]), tflm(data, [ids]), strict=True):
        np.testing.assert_array_equal(got, want)
