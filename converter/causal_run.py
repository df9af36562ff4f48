"""A causal model in LiteRT, its cache kept here: for the figures and the tests of what was converted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.graph import Floats
from tasuki.sdk.runtime import load_interpreter


class CausalRun:
    """The signatures `prefill` and `decode` of `model`, and one text's cache. Not thread-safe."""

    def __init__(self, model: bytes) -> None:
        _, interpreter = load_interpreter()
        # The interpreter reads the flatbuffer in place.
        self._model = model
        self._interpreter = interpreter(model_content=model, num_threads=1)
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in ("prefill", "decode")}
        details = self._runners["prefill"].get_input_details()
        self.chunk = int(details["ids"]["shape"][1])
        self._cache: dict[str, NDArray[np.int8]] = {
            name: np.zeros(about["shape"], about["dtype"])
            for name, about in details.items()
            if name not in ("ids", "position")
        }
        self.context = int(self._cache["key.0"].shape[2])
        scale, zero = self._runners["prefill"].get_output_details()["logits"]["quantization"]
        self._scale, self._zero = np.float32(scale), np.float32(zero)
        self.position = 0

    def restart(self) -> None:
        """Begin another text; what is in the cache is masked from now on."""
        self.position = 0

    def read(self, ids: NDArray[np.int32]) -> Floats:
        """Logits [n, vocabulary] after each of `ids` int32 [n], by `prefill`; the last chunk is padded."""
        found = []
        for start in range(0, len(ids), self.chunk):
            part = ids[start : start + self.chunk]
            padded = np.zeros(self.chunk, np.int32)
            padded[: len(part)] = part
            found.append(self._call("prefill", padded, len(part)))
        return np.concatenate(found)

    def follow(self, token: int) -> Floats:
        """Logits [vocabulary] after one more token, by `decode`."""
        return np.asarray(self._call("decode", np.array([token], np.int32), 1)[0], np.float32)

    def _call(self, signature: str, ids: NDArray[np.int32], count: int) -> Floats:
        at = self.position
        given: Mapping[str, Any] = {"ids": ids[None], "position": np.array([at], np.int32), **self._cache}
        found = self._runners[signature](**given)
        for name, cache in self._cache.items():
            cache[:, :, at : at + count] = found[name][:, :, :count]
        self.position += count
        return np.asarray((found["logits"][:count].astype(np.float32) - self._zero) * self._scale, np.float32)


def loss(model: bytes, windows: NDArray[np.int32]) -> float:
    """Mean loss in nats a token of `model` on `windows` int32 [n, tokens + 1], by `prefill`."""
    run = CausalRun(model)
    total = 0.0
    for window in windows:
        run.restart()
        logits = run.read(window[:-1]).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        total -= float(np.take_along_axis(logits, window[1:, None], -1).sum())
    return total / windows[:, 1:].size
