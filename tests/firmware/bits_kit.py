"""What the bit-exactness tests share: random graphs that an oracle can judge, and the flatbuffer of a model."""

import itertools

from firmware import random_graphs

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.compiler import reader


def graphs(rounding: str, first: int, count: int) -> list[bytes]:
    """`count` random graphs from the seed `first` on. LiteRT's SUM wraps around, so `single` has none with it."""
    made = map(random_graphs.graph, itertools.count(first))
    return list(itertools.islice((data for data in made if rounding == "tflm" or not _sums(data)), count))


def bare(model: Generated, data: bytes) -> bytes:
    """The `.tflite` that `model` was made of, without what an artifact adds."""
    return data if model.artifact is None else bytes(model.artifact.model)


def _sums(data: bytes) -> bool:
    return any(operator.kind == "SUM" for operator in reader.read(data, "random")[0].operators)
