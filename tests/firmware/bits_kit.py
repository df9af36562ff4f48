"""What the bit-exactness tests share: random graphs that an oracle can judge, and the flatbuffer of a model."""

from firmware import random_graphs

from tasuki.firmware_bridge.build import Generated


def graphs(first: int, count: int) -> list[bytes]:
    """`count` random graphs from the seed `first` on."""
    return [random_graphs.graph(seed) for seed in range(first, first + count)]


def bare(model: Generated, data: bytes) -> bytes:
    """The `.tflite` that `model` was made of, without what an artifact adds."""
    return data if model.artifact is None else bytes(model.artifact.model)
