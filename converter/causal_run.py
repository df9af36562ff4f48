"""A causal model in LiteRT: for the figures and the tests of what was converted."""

import numpy as np
from numpy.typing import NDArray

from tasuki.converter.graph import Floats
from tasuki.sdk.decoder import Decoder


class CausalRun(Decoder):
    """The device's decoder, with all logits of a text at once."""

    def read(self, ids: NDArray[np.int32]) -> Floats:
        """Logits [n, vocabulary] after each of `ids` int32 [n]."""
        return np.concatenate([rows.logits() for rows in self.rows(ids)])

    def follow(self, token: int) -> Floats:
        """Logits [vocabulary] after one more token, by `decode`."""
        return self.step(token)


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
