"""Features and logits as they are kept: the model's own int8 codes, or int8 made of what is wider.

What an int8 model gives is kept as it is, so nothing is lost and nothing is computed. Wider values are rounded to an
int8 grid of their own for each example: symmetric, ``scale = max|h| / 127``, so off by at most half a step.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.runtime import Floats, Output


class Grid:
    """How some outputs of a model, joined in their order to `width` values, become int8 and values again.

    ``real = scales (q - zeros)`` with `scales` and `zeros` float32 [width], of the model's own codes.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        widths = [output.width for output in outputs]
        self.outputs = tuple(outputs)
        self.width = sum(widths)
        self.scales = np.repeat(np.array([output.scale for output in outputs], np.float32), widths)
        self.zeros = np.repeat(np.array([output.zero for output in outputs], np.float32), widths)
        # Whether the kept codes are the model's own.
        self.exact = all(output.dtype == np.int8 for output in outputs)

    def pack(self, raw: Sequence[NDArray[Any]]) -> tuple[bytes, float]:
        """Codes, `width` bytes, and the scale of `raw`, which has [width] of each output. The scale is 1 where exact.

        Raises ArtifactCorrupt for a value that is not finite.
        """
        if self.exact:
            return raw[0].tobytes() if len(raw) == 1 else b"".join([part.tobytes() for part in raw]), 1.0
        values = self.real(raw)
        scale = np.float32(np.abs(values).max() / np.float32(127))
        if not scale > 0:
            return bytes(self.width), 1.0
        return np.clip(np.rint(values / scale), -127, 127).astype(np.int8).tobytes(), float(scale)

    def unpack(self, codes: Sequence[bytes], scales: Sequence[float]) -> Floats:
        """Values float32 [n, width] of n packed examples.

        Raises ValueError if an example has another width, or a scale that is not finite.
        """
        if any(len(code) != self.width for code in codes):
            raise ValueError(f"a packed example has not {self.width} values")
        found = np.frombuffer(b"".join(codes), np.int8).reshape(-1, self.width).astype(np.float32)
        if self.exact:
            return np.asarray((found - self.zeros) * self.scales, np.float32)
        steps = np.asarray(scales, np.float32)
        if steps.shape != (len(codes),) or not np.isfinite(steps).all():
            raise ValueError("the scales of packed examples are not one finite number each")
        return np.asarray(found * steps[:, None], np.float32)

    def real(self, raw: Sequence[NDArray[Any]]) -> Floats:
        """Values float32 [width] of `raw`, exactly. Raises ArtifactCorrupt for a value that is not finite."""
        return np.concatenate([output.real(part) for output, part in zip(self.outputs, raw, strict=True)])
