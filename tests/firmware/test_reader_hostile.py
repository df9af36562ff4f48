"""Hostile `.tflite` files: every truncation, random damage, and what asks for more than a file of its size has."""

import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from firmware.graph_kit import small
from firmware.random_graphs import graph as random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.benchmarks import firmware_models
from tasuki.firmware_bridge.compiler import check, reader
from tasuki.sdk.errors import ModelCorrupt, ModelUnsupported

REFUSED = (ModelCorrupt, ModelUnsupported)


def _judge(data: bytes) -> bool:
    """Whether `data` is read. Anything but the two errors fails the test; so does what takes long."""
    start = time.process_time()
    try:
        for graph in reader.read(data, "lamp"):
            check.check(graph)
        read_whole = True
    except REFUSED:
        read_whole = False
    assert time.process_time() - start < 5
    return read_whole


def test_every_truncation() -> None:
    data = small("classify").build()
    assert _judge(data)
    accepted = [length for length in range(len(data)) if _judge(data[:length])]
    # Only padding at the very end may be missing.
    assert all(length > len(data) - 8 for length in accepted)


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes, whole offsets, lengths and counts, parts moved, left out or repeated."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, length = int(rng.integers(len(out))), int(rng.integers(1, 32))
        match int(rng.integers(7)):
            case 0:
                out[at] = int(rng.integers(256))
            case 1:
                out[at] ^= 1 << int(rng.integers(8))
            case 2:
                value = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(out), 0xFFFF]))
                out[at : at + 4] = value.to_bytes(4, "little")
            case 3:
                at -= at % 4
                old = int.from_bytes(out[at : at + 4], "little")
                out[at : at + 4] = ((old + int(rng.integers(-64, 65))) % 2**32).to_bytes(4, "little")
            case 4:
                del out[at : at + length]
            case 5:
                out[at:at] = bytes(rng.integers(0, 256, length, np.uint8))
            case _:
                source = int(rng.integers(len(out)))
                out[at : at + length] = out[source : source + length]
        if len(out) < 8:
            break
    return bytes(out)


@pytest.mark.parametrize("seed", range(12))
def test_mutations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = small("classify").build() if seed == 0 else random_graph(seed)
    accepted = sum(_judge(_mutated(data, rng)) for _ in range(400))
    # Weights and scales may change unseen; most of a file is structure.
    assert 0 < accepted < 400


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many_mutations(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    models = [firmware_models.layernorm(0, firmware_models.SMALL), *(random_graph(seed * 50 + n) for n in range(4))]
    for data in models:
        for _ in range(500):
            _judge(_mutated(data, rng))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes(data: bytes, header: bool) -> None:
    _judge(data[:4] + b"TFL3" + data[4:] if header else data)


def shared(tensors: int) -> bytes:
    """One tensor with 5,000 scales, named so many times."""
    builder = flatbuffers.Builder(1 << 20)
    scale = builder.CreateNumpyVector(np.full(5000, 0.1, np.float32))
    zero = builder.CreateNumpyVector(np.zeros(5000, np.int64))
    shape = builder.CreateNumpyVector(np.array([5000], np.int32))
    schema.QuantizationParametersStart(builder)
    schema.QuantizationParametersAddScale(builder, scale)
    schema.QuantizationParametersAddZeroPoint(builder, zero)
    grid = schema.QuantizationParametersEnd(builder)
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, shape)
    schema.TensorAddType(builder, schema.TensorType.INT8)
    schema.TensorAddQuantization(builder, grid)
    tensor = schema.TensorEnd(builder)
    builder.StartVector(4, tensors, 4)
    for _ in range(tensors):
        builder.PrependUOffsetTRelative(tensor)
    named = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, named)
    graph = schema.SubGraphEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_one_table_named_many_times_is_not_read_many_times() -> None:
    data = shared(8000)
    assert len(data) < 100_000
    start = time.process_time()
    with pytest.raises(ModelCorrupt, match="too often"):
        reader.read(data, "lamp")
    assert time.process_time() - start < 2


def test_more_tensors_than_any_model_has() -> None:
    with pytest.raises(ModelUnsupported, match="100,000 tensors; at most 8,192"):
        reader.read(shared(100_000), "lamp")
