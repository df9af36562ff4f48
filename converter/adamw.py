"""AdamW (Loshchilov and Hutter 2019) with clipped gradients, written out so that XLA compiles it with a whole step."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import tensorflow as tf
from numpy.typing import NDArray

from tasuki.converter.graph import Floats

_FIRST: Final = 0.9
_SECOND: Final = 0.99


class AdamW:
    """The `variables` that are trained, and what the optimiser remembers of each.

    Matrices decay by `decay` times the rate; gradients are scaled down to a norm of 1.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], decay: float) -> None:
        self.variables, self.decay = dict(variables), decay
        self._means = {name: tf.Variable(tf.zeros_like(v)) for name, v in variables.items()}
        self._squares = {name: tf.Variable(tf.zeros_like(v)) for name, v in variables.items()}

    def apply(self, slopes: Sequence[tf.Tensor], rate: tf.Tensor, count: tf.Tensor) -> None:
        """One step along `slopes`, in the order of `variables`; `count` is 1 at the first."""
        slopes = [tf.convert_to_tensor(slope) for slope in slopes]
        clip = tf.minimum(1.0, 1.0 / (tf.linalg.global_norm(slopes) + 1e-6))
        for (name, variable), slope in zip(self.variables.items(), slopes, strict=True):
            m, v = self._means[name], self._squares[name]
            m.assign(_FIRST * m + (1 - _FIRST) * clip * slope)
            v.assign(_SECOND * v + (1 - _SECOND) * tf.square(clip * slope))
            moved = m / (1 - _FIRST**count) / (tf.sqrt(v / (1 - _SECOND**count)) + 1e-8)
            variable.assign_sub(rate * (moved + (self.decay * variable if variable.shape.rank == 2 else 0.0)))

    def memory(self) -> dict[str, Floats]:
        """Weights and all that is remembered of them."""
        return {f"{part} {name}": v.numpy() for part, values in self._parts() for name, v in values.items()}

    def remember(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a `memory`."""
        for part, values in self._parts():
            for name, variable in values.items():
                variable.assign(arrays[f"{part} {name}"])

    def _parts(self) -> tuple[tuple[str, dict[str, tf.Variable]], ...]:
        return ("now", self.variables), ("mean", self._means), ("square", self._squares)
