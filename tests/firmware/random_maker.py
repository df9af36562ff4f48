"""The state of a random graph that grows: its pool of tensors, and grids on which values spread."""

from dataclasses import dataclass

import numpy as np
from firmware.graph_kit import Builder

Shape = tuple[int, ...]


@dataclass(frozen=True)
class T:
    """A tensor of the pool: its number, shape, type and grid."""

    number: int
    shape: Shape
    kind: str
    scale: float
    zero: int

    @property
    def reach(self) -> float:
        """About the largest magnitude of its real values."""
        return self.scale * (128 if self.kind == "int8" else 32768)


class Maker:
    """Recipes take tensors with `pick`, and put what they make back with `op`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.builder = Builder()
        self.pool: list[T] = []
        self.read: set[int] = set()
        self.fresh()

    # Chance

    def chance(self, p: float) -> bool:
        """True with probability `p`."""
        return bool(self.rng.random() < p)

    def one_of(self, *choices: object) -> object:
        """One of `choices`."""
        return choices[int(self.rng.integers(len(choices)))]

    def size(self, most: int = 9) -> int:
        """A dimension: small, and seldom a multiple of anything."""
        return int(self.rng.integers(1, most + 1))

    def zero(self, kind: str = "int8") -> int:
        """A zero point: often an end of the range, as behind a RELU."""
        if kind == "int16":
            return 0
        return int(self.rng.choice([-128, -128, 127, 0, *self.rng.integers(-100, 101, 4)]))

    def scale(self, reach: float, kind: str = "int8") -> float:
        """A scale on which values of `reach` use much of the range, and saturate now and then."""
        steps = 128 if kind == "int8" else 32768
        return float(np.float32(reach / steps * 2.0 ** self.rng.uniform(-0.7, 1.0)))

    # Tensors

    def fresh(self, shape: Shape | None = None, kind: str = "int8") -> T:
        """A new input of the graph."""
        if shape is None:
            shape = tuple(self.size() for _ in range(int(self.rng.choice([1, 2, 3, 3, 4]))))
        scale = self.scale(2.0 ** self.rng.uniform(-3, 3), kind)
        return self.put(shape, kind, scale, self.zero(kind), entry=True)

    def put(self, shape: Shape, kind: str, scale: float, zero: int, *, entry: bool = False) -> T:
        """A new tensor in the pool."""
        add = self.builder.input if entry else self.builder.tensor
        self.pool.append(T(add(shape, kind, scale, zero), tuple(shape), kind, scale, zero))
        return self.pool[-1]

    def pick(self, kind: str = "int8", rank: int = 0, most: int = 4) -> T:
        """A tensor of the pool, of `rank` to `most` dimensions; the newest are the likeliest. Else a new input."""
        found = [t for t in self.pool if t.kind == kind and rank <= len(t.shape) <= most]
        if not found:
            shape = tuple(self.size() for _ in range(int(self.rng.integers(max(rank, 1), most + 1))))
            return self.fresh(shape, kind)
        return found[max(0, len(found) - 1 - int(self.rng.geometric(0.6) - 1))]

    def constant(self, shape: Shape, kind: str = "int8", grid: tuple[float, int] | None = None) -> T:
        """A constant, on a grid of its own or a given one. Not in the pool."""
        scale, zero = grid or (self.scale(2.0 ** self.rng.uniform(-3, 3), kind), self.zero(kind))
        limits = np.iinfo(kind)
        data = self.rng.integers(limits.min, limits.max + 1, shape, kind)
        return T(self.builder.constant(data, scale, zero), tuple(shape), kind, scale, zero)

    def broadcastable(self, like: Shape) -> Shape:
        """A shape that broadcasts to `like`: the same, a scalar, a row, a column, or fewer dimensions."""
        choice = self.rng.integers(5)
        if choice == 0:
            return like
        if choice == 1:
            return () if self.chance(0.5) else (1,)
        if choice == 2:
            return like[-1:]
        if choice == 3:
            return (*like[:-1], 1)[-len(like) :]
        return tuple(n if self.chance(0.6) else 1 for n in like)[int(self.rng.integers(len(like) + 1)) :]

    # Operators

    def op(
        self, kind: str, inputs: list[T | int | None], shape: Shape, reach: float = 1.0, type_: str = "int8",
        grid: tuple[float, int] | None = None, **options: object,
    ) -> T:  # fmt: skip
        """An operator with one quantised result, which goes into the pool."""
        scale, zero = grid or (self.scale(reach, type_), self.zero(type_))
        made = self.put(shape, type_, scale, zero)
        self.add(kind, inputs, [made.number], **options)
        return made

    def add(self, kind: str, inputs: list[T | int | None], outputs: list[int], **options: object) -> None:
        """An operator between tensors."""
        numbers = [t.number if isinstance(t, T) else t for t in inputs]
        self.read.update(n for n in numbers if n is not None)
        self.builder.add(kind, numbers, outputs, **options)

    def loose_op(self, kind: str, inputs: list[T | int], shape: Shape, type_: str, **options: object) -> int:
        """An operator whose result is float32 or int32: it does not go into the pool."""
        made = self.builder.tensor(shape, type_)
        self.add(kind, list(inputs), [made], **options)
        return made

    def finish(self) -> bytes:
        """The flatbuffer."""
        written = {n for operator in self.builder.operators for n in operator.outputs}
        ends = [n for n in sorted(written) if n not in self.read]
        inner = [n for n in sorted(written) if n in self.read]
        if inner and self.chance(0.2):
            ends.append(int(self.rng.choice(inner)))
        self.builder.output(*ends)
        return self.builder.build()
