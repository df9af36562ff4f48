"""The table that a fleet exchanges: which kind of adapter it is of, its rows, and what its columns see.

All devices of a fleet and its gateway make the same one, from the artifact and the kind that the fleet record names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tasuki.sdk import adapter, kinds
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.fleet_record import KINDS
from tasuki.sdk.kinds import Kind
from tasuki.sdk.metric import Metric


@dataclass(frozen=True, eq=False)
class FleetTable:
    """Of k columns; `moment` float32 [k + 1, k + 1] is the second moment of ``(phi(h), 1)`` over public text."""

    kind: Kind
    labels: tuple[str, ...]
    moment: Floats

    @property
    def number(self) -> int:
        """The kind's number in what travels."""
        return KINDS[self.kind.name]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight: C, k."""
        return len(self.labels), self.kind.columns

    @property
    def joined_shape(self) -> tuple[int, int]:
        """Rows and columns of ``[W | b]``: C, k + 1."""
        return len(self.labels), self.kind.columns + 1

    @property
    def float32_bytes(self) -> int:
        """What ``[W | b]`` takes as float32."""
        rows, columns = self.joined_shape
        return 4 * rows * columns

    @cached_property
    def metric(self) -> Metric:
        """In which a change of the table is measured: the change of the logits of public text."""
        return Metric(self.moment)

    def zero(self) -> Head:
        """The table that changes nothing."""
        return adapter.zero(self.labels, self.kind.columns)

    def check_kind(self, number: int) -> None:
        """Raises Refused(WRONG_KIND) unless `number` is this kind's."""
        if number != self.number:
            raise Refused(Refusal.WRONG_KIND, f"kind {number}, this fleet exchanges {self.kind.name}")

    def check_shape(self, rows: int, columns: int) -> None:
        """Raises Refused(WRONG_SHAPE) unless these are the table's."""
        if (rows, columns) != self.shape:
            raise Refused(Refusal.WRONG_SHAPE, f"{rows}x{columns}, expected {self.shape[0]}x{self.shape[1]}")


def make(name: str, labels: tuple[str, ...], width: int, moment: Floats, manifest: Mapping[str, Any]) -> FleetTable:
    """The table of the kind `name` for an artifact of `width` features; `manifest` has the seed of ``low_rank``.

    Raises ValueError where the kind does not travel.
    """
    if name not in KINDS:
        raise ValueError(f"kind {name!r} does not travel; {', '.join(KINDS)} do")
    kind = kinds.make(name, width, **(manifest.get("low_rank", {}) if name == "low_rank" else {}))
    return FleetTable(kind, labels, kind.moment(moment))
