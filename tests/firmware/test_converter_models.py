"""Whatever the converter makes for TensorFlow Lite Micro, the compiler takes, and the C has Micro's bits.

The toys are those of the converter's own tests, in int8 and in int16. `check_micro` decides which Micro can run; those
that it refuses, for an int16 GATHER, have the bits of LiteRT's reference kernels.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import causal_kit
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from firmware import graph_kit, host_kit
from firmware.graph_kit import ORACLES

from tasuki.converter import causal_artifact, causal_student, causal_toy, decoder, encoder, keras_model, student
from tasuki.converter.compile import MICRO, MICRO_WIDE, check_micro, compile_graphs
from tasuki.converter.graph import Graph
from tasuki.converter.quantise import Options
from tasuki.firmware_bridge import build
from tasuki.firmware_bridge.compiler import check, reader
from tasuki.firmware_bridge.emit import vectors
from tasuki.sdk.errors import ConversionError, ModelUnsupported

sys.path[:0] = [str(Path(__file__).parents[1] / "converter")]

from bert_kit import BERT, DISTILBERT, checkpoint, texts  # noqa: E402
from test_flatbuffer import BUILD, Start  # noqa: E402
from test_keras_model import MODELS, PIECES, TOKENS, shaken  # noqa: E402

ACTIVATIONS: Final[tuple[Literal["int8", "int16"], ...]] = ("int8", "int16")
RUNS: Final = 3


@dataclass(frozen=True, eq=False)
class Toy:
    """A converted model, and what `check_micro` judged it by."""

    name: str
    graphs: Mapping[str, Graph]
    options: Options
    model: bytes

    @property
    def on_micro(self) -> bool:
        """Whether `check_micro` takes it."""
        try:
            check_micro(self.graphs, self.options)
        except ConversionError:
            return False
        return True


def _toys(name: str, graph: Graph, ids: np.ndarray[Any, Any]) -> Iterator[Toy]:
    """The graph with activations of either type."""
    for kind in ACTIVATIONS:
        options = Options(wide=kind == "int16")
        made = compile_graphs({"classify": graph}, {"ids": ids}, np.ones(ids.shape, np.bool_), options)
        yield Toy(f"{name} {kind}", {"classify": graph}, options, made.model)


def students(_: Path) -> Iterator[Toy]:
    """A classifier in both, and a causal one, which exists in int8 alone."""
    rng = np.random.default_rng(7)
    shape = student.StudentShape(40, tokens=8, labels=4, width=16, layers=2, heads=2, inner=32)
    weights = student.initial(shape, rng.standard_normal((40, 16)).astype(np.float32), 7)
    yield from _toys("student", student.lower(shape, weights), rng.integers(0, 40, (48, 8)).astype(np.int32))
    causal = causal_student.CausalShape(vocabulary=60, context=8, width=16, layers=1, heads=2, inner=24)
    weights = causal_student.initial(causal, 1)
    windows = rng.integers(0, 60, (32, causal.context + 1)).astype(np.int32)
    made = causal_artifact.compile_student(causal, weights, windows, 0)
    yield Toy("causal student", causal_artifact.graphs(causal, weights), Options(), made.model)


def decoders(_: Path) -> Iterator[Toy]:
    """A Llama: its residual stream is int16 in any case."""
    for kind in ACTIVATIONS:
        settings = decoder.DecoderSettings(
            context=causal_kit.CONTEXT, chunk=causal_kit.CHUNK, windows=8, tokens=20, measured=4, activations=kind
        )
        made = decoder.convert(causal_toy.teacher(3), causal_toy.talk(3).train, settings)
        yield Toy(f"decoder {kind}", made.graphs, Options(wide=kind == "int16"), made.compiled.model)


def encoders(folder: Path) -> Iterator[Toy]:
    """BERT with GELU and with RELU, and DistilBERT, of two layers."""
    for name, config in {"bert": BERT, "relu": BERT | {"hidden_act": "relu"}, "distilbert": DISTILBERT}.items():
        found = checkpoint(folder / name, config, ("on", "off"))
        for kind in ACTIVATIONS:
            settings = encoder.EncoderSettings(tokens=8, activations=kind, adapt=False, estimate=False)
            made = encoder.convert(found, settings, texts(24))
            yield Toy(f"{name} {kind}", {"classify": made.graph}, Options(wide=kind == "int16"), made.compiled.model)


def keras_models(_: Path) -> Iterator[Toy]:
    """Masks, both norms, maximum and mean over tokens, and plain arithmetic."""
    ids = np.random.default_rng(1).integers(1, len(PIECES), (24, TOKENS)).astype(np.int32)
    ids[:12, 4:] = 0
    for name in ("mask_lost", "rms_and_maximum", "arithmetic"):
        graph, _, _ = keras_model._graphs(shaken(MODELS[name]), ids)
        yield from _toys(name, graph, ids)


def operators(_: Path) -> Iterator[Toy]:
    """Each operator by itself, on int8 and on int16 that a QUANTIZE makes."""

    def minimum(s: Start) -> None:
        y = s.second()
        parts = [s.g.add(kind, [s.x, y], f"part.{kind}", wide=s.wide, low=-4.0) for kind in ("ADD", "SUB")]
        s.add("MINIMUM", *parts, low=-4.0)

    for name, add in {**BUILD, "MINIMUM": minimum}.items():
        for kind in ACTIVATIONS:
            rng = np.random.default_rng(3)
            start = Start(rng, kind == "int16", positive=name == "RSQRT")
            add(start)
            start.g.outputs["out"] = "out"
            ids = rng.integers(0, 40, (24, 6)).astype(np.int32)
            made = compile_graphs({"serve": start.g}, {"ids": ids}, np.ones(ids.shape, np.bool_))
            yield Toy(f"{name} {kind}", {"serve": start.g}, Options(), made.model)


FAMILIES: Final[Mapping[str, Callable[[Path], Iterator[Toy]]]] = {
    "students": students, "decoders": decoders, "encoders": encoders, "keras models": keras_models,
    "operators": operators,
}  # fmt: skip


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Toy, ...]]:
    """All of them by family."""
    return {name: tuple(make(tmp_path_factory.mktemp("toys"))) for name, make in FAMILIES.items()}


def _alone(data: bytes, signature: str) -> bytes:
    """The model with the subgraph of one signature, which is the one that the interpreters run."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    (entry,) = (s for s in model.signatureDefs if s.signatureKey.decode() == signature)
    model.subgraphs = [model.subgraphs[entry.subgraphIndex]]
    entry.subgraphIndex, model.signatureDefs = 0, [entry]
    return graph_kit.pack(model)


def _same_bits(made: Sequence[Toy], rounding: str) -> None:
    models = [build.generate(toy.model, f"m{place}", rounding) for place, toy in enumerate(made)]
    image = host_kit.image(models)
    rng = np.random.default_rng(5)
    for toy, model in zip(made, models, strict=True):
        for graph, function in zip(model.graphs, model.functions, strict=True):
            data = _alone(toy.model, graph.name)
            given = [vectors.random_inputs(graph, rng) for _ in range(RUNS)]
            for inputs, outputs in zip(given, image.run(function.name, given), strict=True):
                for mine, theirs in zip(outputs, ORACLES[rounding](data, inputs), strict=True):
                    np.testing.assert_array_equal(mine, theirs.ravel(), f"{toy.name}, {graph.name}")
        assert image.selftest(model.name) == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_what_micro_runs_has_its_bits(toys: dict[str, tuple[Toy, ...]], name: str) -> None:
    made = [toy for toy in toys[name] if toy.on_micro]
    assert made
    _same_bits(made, "tflm")


def test_what_micro_lacks_has_the_bits_of_litert(toys: dict[str, tuple[Toy, ...]]) -> None:
    """Whole models in int16 begin with a GATHER in int16; Micro refuses them as `check_micro` says."""
    refused = [toy for name in toys for toy in toys[name] if not toy.on_micro]
    assert {"student int16", "decoder int16", "bert int16", "mask_lost int16"} <= {toy.name for toy in refused}
    for toy in refused:
        inputs = vectors.random_inputs(reader.read(toy.model, toy.name)[0], np.random.default_rng(0))
        with pytest.raises(RuntimeError):
            graph_kit.tflm(toy.model, inputs)
    # REDUCE_MAX on int16 is in none of them.
    _same_bits([toy for toy in refused if not _has_wide_maximum(toy)], "single")


def _has_wide_maximum(toy: Toy) -> bool:
    return "REDUCE_MAX" in _kinds(toy)["int16"]


def _kinds(toy: Toy) -> dict[str, set[str]]:
    """The operators of a model by the type of their results."""
    found: dict[str, set[str]] = defaultdict(set)
    for graph in reader.read(toy.model, toy.name):
        for operator in graph.operators:
            found[graph.tensors[operator.outputs[0]].type.name].add(operator.kind)
    return found


def test_check_micro_and_the_compiler_agree(toys: dict[str, tuple[Toy, ...]]) -> None:
    """Every operator that `check_micro` knows was compiled above, in each type; what it lacks the compiler lacks too,
    but for GATHER, which only copies."""
    seen: dict[str, set[str]] = defaultdict(set)
    lacked = set()
    for toy in (toy for name in toys for toy in toys[name]):
        kinds = _kinds(toy)
        if toy.on_micro:
            for kind, names in kinds.items():
                seen[kind] |= names
        elif _has_wide_maximum(toy):
            with pytest.raises(ModelUnsupported, match=r"REDUCE_MAX.*type int16; int8"):
                check.check(reader.read(toy.model, toy.name)[0])
            lacked.add("REDUCE_MAX")
        else:
            lacked |= kinds["int16"] - MICRO_WIDE
    assert seen == {"int8": set(MICRO), "int16": set(MICRO_WIDE), "int32": {"ADD", "MINIMUM"}}
    assert lacked == MICRO - MICRO_WIDE
