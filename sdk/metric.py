"""The metric of a table: how much it changes the logits of public text.

A change D of a table ``[W | b]`` changes the logits of public text by ``sum_c D_c (M + e I) D_c^T`` in the mean square,
with the second moment ``M = mean(x x^T)`` of ``x = (features, 1)`` that the artifact carries, and a small ridge e. With
the Cholesky factor ``M + e I = L L^T`` the *whitened* coefficients ``c = D L`` have that change as their plain squared
length: an error of one unit weighs the same in each. Unlike eigenvectors, L is unique (Golub and Van Loan, 4.2.3), so a
device and its gateway agree on it up to rounding.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.adapter import Floats
from tasuki.sdk.errors import InputError
from tasuki.sdk.problem import RIDGE

_PRODUCT: Final = 1 << 19


@dataclass(frozen=True, eq=False)
class Metric:
    """`moment` float32 [n, n], symmetric. Raises InputError, on first use, where it is not a moment."""

    moment: Floats

    @property
    def columns(self) -> int:
        """n."""
        return len(self.moment)

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """L, float64 [n, n], lower triangular with a positive diagonal."""
        moment = np.asarray(self.moment, np.float64)
        if moment.ndim != 2 or moment.shape[0] != moment.shape[1] or not np.isfinite(moment).all():
            raise InputError(f"a moment of shape {moment.shape}: it must be square and finite")
        try:
            return np.asarray(np.linalg.cholesky(moment + RIDGE * np.eye(len(moment))), np.float64)
        except np.linalg.LinAlgError:
            raise InputError("the moment is not positive definite; take it from the artifact") from None

    @cached_property
    def inverse(self) -> Floats:
        """L^-1 rounded to float32 [n, n]."""
        return np.asarray(np.linalg.inv(self.root), np.float32)

    def unwhiten(self, values: Floats) -> Floats:
        """``c L^-1`` of coefficients c float32 [rows, n]."""
        # Some rows at a time: for larger products BLAS starts threads, which takes longer than a gateway's product.
        step = max(16, _PRODUCT // self.columns**2)
        if len(values) <= step:
            return values @ self.inverse
        return np.concatenate([values[i : i + step] @ self.inverse for i in range(0, len(values), step)])
