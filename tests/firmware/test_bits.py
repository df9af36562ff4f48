"""Bit for bit: what the compiled C answers is what TensorFlow Lite Micro answers, or LiteRT's reference for `single`.

The whole chain runs: reader, checks, lowering, memory plan and its proof, emitted C, plain kernels, with the address
and undefined-behaviour sanitizers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import causal_kit
import numpy as np
import pytest
from firmware import graph_kit, host_kit
from firmware.bits_kit import bare, graphs
from firmware.graph_kit import ORACLES
from numpy.typing import NDArray

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.emit import vectors
from tasuki.sdk import artifact

TEXTS = 8
BATCH = 50
BATCHES = 10


def _differences(model: Generated, data: bytes, image: host_kit.Image | host_kit.Library, runs: int) -> int:
    """How many output values differ from the oracle's, over all functions of `model`."""
    rng, count = np.random.default_rng(7), 0
    for graph, function in zip(model.graphs, model.functions, strict=True):
        given = [vectors.random_inputs(graph, rng) for _ in range(runs)]
        found = image.run(function.name, given)
        for inputs, outputs in zip(given, found, strict=True):
            wanted = ORACLES[model.rounding](data, inputs)
            for mine, theirs in zip(outputs, wanted, strict=True):
                count += int(np.sum(mine.view(np.uint8) != np.ascontiguousarray(theirs).view(np.uint8).ravel()))
    return count


def _check(datas: Sequence[bytes], rounding: str, runs: int) -> None:
    models = [build.generate(data, f"m{place}", rounding) for place, data in enumerate(datas)]
    image = host_kit.image(models)
    for model, data in zip(models, datas, strict=True):
        assert _differences(model, bare(model, data), image, runs) == 0, model.name
        assert image.selftest(model.name) == 0


@pytest.mark.parametrize("rounding", ["tflm", "single"])
def test_small_transformers(rounding: str) -> None:
    _check([made(3, firmware_models.SMALL) for made in firmware_models.MODELS.values()], rounding, TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["tflm", "single"])
@pytest.mark.parametrize("which", firmware_models.MODELS)
def test_transformers_of_the_reference_shape(which: str, rounding: str) -> None:
    _check([firmware_models.MODELS[which](0, firmware_models.REFERENCE)], rounding, 4)


@pytest.mark.parametrize("rounding", ["tflm", "single"])
def test_a_classifier_of_the_converter(tiny_artifact: Path, rounding: str) -> None:
    _check([tiny_artifact.read_bytes()], rounding, TEXTS)


def test_a_causal_student_of_the_converter() -> None:
    _check([causal_kit.student()], "tflm", 4)


@pytest.mark.parametrize("rounding", ["tflm", "single"])
def test_random_graphs(rounding: str) -> None:
    _check(graphs(0, BATCH if rounding == "tflm" else BATCH // 3), rounding, 2)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["tflm", "single"])
@pytest.mark.parametrize("batch", range(BATCHES))
def test_five_hundred_random_graphs(batch: int, rounding: str) -> None:
    _check(graphs(1000 + BATCH * batch, BATCH), rounding, 2)


def test_an_operator_that_only_litert_has() -> None:
    """GELU: TensorFlow Lite Micro has none, so LiteRT's reference is the oracle."""
    g = graph_kit.Builder()
    x = g.input((3, 16), "int8", scale=0.05, zero=-3)
    y = g.op("GELU", [x], (3, 16), "int8", scale=0.04, zero=-20)
    g.output(y)
    _check([g.build()], "single", 4)


@pytest.mark.boards
def test_clang_gives_the_same_bits() -> None:
    data = firmware_models.layernorm(3, firmware_models.SMALL)
    model = build.generate(data, "m")
    library = host_kit.shared_library([model], ("-O3", "-fPIC"), "clang")
    assert _differences(model, data, library, 2) == 0


def test_ids_outside_the_table_are_refused() -> None:
    model = build.generate(firmware_models.dyt(3, firmware_models.SMALL), "m")
    ids: NDArray[Any] = np.zeros((1, firmware_models.SMALL.tokens), np.int32)
    library = host_kit.shared_library([model])
    for bad in (-1, firmware_models.SMALL.vocabulary, 2**31 - 1, -(2**31)):
        for place in (0, firmware_models.SMALL.tokens - 1):
            ids[:] = 0
            ids[0, place] = bad
            with pytest.raises(AssertionError, match="returned -2"):
                library.run("m", [[ids]])


def test_a_model_in_an_artifact_is_the_model_alone(tiny_artifact: Path) -> None:
    packed = build.generate(tiny_artifact)
    alone = build.generate(bytes(artifact.load(tiny_artifact).model))
    for name in ("model.h", "model.c"):
        first, second = (files[name].split(b"\n", 3)[3] for files in (packed.files, alone.files))
        assert first == second
