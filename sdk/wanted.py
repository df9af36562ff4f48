"""The kind of adapter that a device was opened with. The solvers behind the kinds are loaded at the first fit."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tasuki.sdk.kinds import Kind


class Wanted(NamedTuple):
    """What `tasuki.sdk.kinds.make` is given."""

    name: str
    width: int
    rank: int
    seed: int

    def make(self) -> "Kind":
        """The kind."""
        from tasuki.sdk import kinds

        return kinds.make(*self)
