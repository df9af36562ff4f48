"""The tiers: which students there are for which chips, and the best one under a budget, before any training.

A tier bounds the bytes of the artifact, of which the model is counted exactly and the rest estimated on the high side,
and the working memory of TensorFlow Lite Micro, exactly. K and M are 1,000 and 1,000,000 here, the stricter reading.
`board` and `gateway` run LiteRT under Linux, so they have no bound on memory.

The best student that fits has the largest product of three: the weights of its layers, the pieces of its vocabulary,
and its tokens; the last two count up to the tier's standard. So none of the three starves for another: to have twice as
much of one, a student gives up at most half of another. What is left of a budget goes to the vocabulary, and then to a
causal student's context.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, overload

from tasuki.converter.accounting import Cost, Shape, account, at_least
from tasuki.converter.causal_student import CausalShape
from tasuki.converter.student import StudentShape
from tasuki.sdk.errors import BudgetTooSmall, InputError

Task = Literal["classify", "causal"]
TASKS: Final = ("classify", "causal")
K: Final = 1_000
M: Final = 1_000_000
_UNITS: Final = {"": 1, "K": K, "M": M}


@dataclass(frozen=True)
class Body:
    """Sizes of the layers."""

    width: int
    layers: int
    heads: int
    inner: int


@dataclass(frozen=True)
class Table:
    """Students of one tier and task: any of `bodies` with any of `vocabularies` and `tokens`, smallest first.

    `tokens` are a classifier's, or a causal student's context. `body`, `vocabulary` and `length` are the standard.
    """

    bodies: tuple[Body, ...]
    vocabularies: tuple[int, ...]
    tokens: tuple[int, ...]
    body: Body
    vocabulary: int
    length: int


@dataclass(frozen=True)
class Tier:
    """`flash` bounds the artifact and `ram` the working memory, in bytes; `tables` by task."""

    name: str
    flash: int
    ram: int | None
    tables: dict[Task, Table]


@dataclass(frozen=True)
class Budget:
    """Bytes that a student may take; None: as much as the tier allows. `flash` is for the whole artifact."""

    ram: int | None = None
    flash: int | None = None


def _bodies(*sizes: tuple[int, int, int, int]) -> tuple[Body, ...]:
    return tuple(Body(*one) for one in sizes)


TIERS: Final = {
    tier.name: tier
    for tier in (
        Tier("mcu", 400 * K, 128 * K, {
            "classify": Table(
                _bodies((32, 1, 2, 64), (48, 1, 2, 96), (64, 1, 4, 128), (64, 2, 4, 128), (80, 2, 4, 160),
                        (96, 2, 4, 192), (96, 2, 4, 288), (112, 2, 4, 224), (96, 3, 4, 192), (112, 3, 4, 224)),
                (256, 512, 768, 1024, 1408, 2048), (8, 12, 16, 20),
                Body(96, 2, 4, 192), 1408, 20,
            ),
        }),
        Tier("mcu-large", 2 * M, 512 * K, {
            "classify": Table(
                _bodies((96, 2, 4, 192), (128, 2, 4, 256), (128, 3, 4, 256), (128, 4, 4, 256), (160, 3, 4, 320),
                        (160, 4, 4, 320), (192, 3, 6, 384), (192, 4, 6, 384), (256, 3, 8, 512)),
                (1024, 1408, 2048, 3072, 4096, 6144), (16, 20, 24, 32),
                Body(160, 4, 4, 320), 4096, 32,
            ),
            "causal": Table(
                _bodies((64, 1, 2, 128), (64, 2, 2, 192), (96, 2, 4, 192), (96, 3, 4, 288), (128, 2, 4, 384),
                        (128, 3, 4, 384), (128, 4, 4, 384), (160, 3, 4, 480), (192, 3, 6, 576)),
                (512, 1024, 2048, 3072, 4096, 6144), (16, 32, 48, 64, 96, 128),
                Body(128, 3, 4, 384), 4096, 64,
            ),
        }),
        Tier("board", 32 * M, None, {
            "classify": Table(
                _bodies((192, 4, 6, 768), (256, 4, 8, 1024), (256, 6, 8, 1024), (384, 3, 12, 1536),
                        (384, 6, 12, 1536), (512, 6, 8, 2048)),
                (4096, 8192, 16384, 30522), (32, 64),
                Body(384, 6, 12, 1536), 30522, 64,
            ),
            "causal": Table(
                _bodies((192, 4, 6, 576), (256, 4, 8, 768), (256, 6, 8, 768), (384, 4, 6, 1152), (384, 6, 6, 1152),
                        (384, 8, 6, 1152)),
                (4096, 8192, 16384), (64, 128, 256),
                Body(384, 6, 6, 1152), 16384, 256,
            ),
        }),
        Tier("gateway", 512 * M, None, {
            "classify": Table(
                _bodies((384, 12, 12, 1536), (512, 8, 8, 2048), (768, 6, 12, 3072), (768, 12, 12, 3072),
                        (1024, 24, 16, 4096)),
                (30522, 65536), (64, 128),
                Body(768, 12, 12, 3072), 30522, 128,
            ),
            "causal": Table(
                _bodies((576, 12, 9, 1536), (576, 24, 9, 1536), (768, 12, 12, 3072), (1024, 16, 16, 4096)),
                (16384, 32768, 49152), (128, 256, 512),
                Body(576, 24, 9, 1536), 49152, 512,
            ),
        }),
    )
}  # fmt: skip


def parse_budget(text: str) -> Budget:
    """A budget such as ``ram=96K,flash=300K``, in either order, one or both. Raises InputError."""
    found: dict[str, int] = {}
    for entry in text.split(","):
        match = re.fullmatch(r"\s*(ram|flash)\s*=\s*([0-9]{1,12})\s*([KM]?)B?\s*", entry, re.IGNORECASE)
        if match is None:
            raise InputError(f"{entry.strip()!r} is no budget; it is ram=96K,flash=300K, in bytes, K (1,000) or M")
        name, number, unit = match[1].lower(), int(match[2]), match[3].upper()
        if name in found:
            raise InputError(f"{name} is in the budget {text!r} twice")
        found[name] = number * _UNITS[unit]
    return Budget(**found)


def find(name: str) -> Tier:
    """The tier of that name. Raises InputError."""
    if name not in TIERS:
        raise InputError(f"there is no tier {name!r}; there are {', '.join(TIERS)}")
    return TIERS[name]


def tiers_of(budget: Budget, task: Task = "classify") -> tuple[Tier, ...]:
    """The tiers whose students may fit `budget`, largest first: up to the first tier that has as much of both."""
    found: list[Tier] = []
    for tier in TIERS.values():
        if task in tier.tables:
            found.insert(0, tier)
        enough = tier.ram is None or (budget.ram or 0) <= tier.ram
        if found and enough and (budget.flash or 0) <= tier.flash:
            break
    return tuple(found)


@overload
def default(tier: str, labels: int, task: Literal["classify"] = "classify") -> StudentShape: ...
@overload
def default(tier: str, labels: int, task: Literal["causal"]) -> CausalShape: ...
def default(tier: str, labels: int, task: Task = "classify") -> Shape:
    """The standard student of `tier`; the best that fits where so many labels leave no room for it.

    Raises InputError if the tier has no students for the task, BudgetTooSmall if none has room for the labels.
    """
    table = _table(find(tier), task)
    standard = _shape(task, table.body, table.vocabulary, table.length, labels)
    return standard if fits(account(standard), find(tier), Budget()) else best(find(tier), labels, Budget(), task)


@overload
def fit(
    tier: str, labels: int, ram: int | None, flash: int | None, task: Literal["classify"] = "classify"
) -> StudentShape: ...
@overload
def fit(tier: str, labels: int, ram: int | None, flash: int | None, task: Literal["causal"]) -> CausalShape: ...
def fit(tier: str, labels: int, ram: int | None, flash: int | None, task: Task = "classify") -> Shape:
    """The best student of `tier` that takes at most `ram` and whose artifact takes at most `flash` bytes.

    Raises InputError if the tier has no students for the task, BudgetTooSmall if none fits.
    """
    return best(find(tier), labels, Budget(ram, flash), task)


def fits(cost: Cost, tier: Tier, budget: Budget) -> bool:
    """Whether what `cost` says is within the tier's bounds and the budget."""
    return all(
        taken <= bound
        for taken, *bounds in ((cost.file, tier.flash, budget.flash), (cost.ram, tier.ram, budget.ram))
        for bound in bounds
        if bound is not None
    )


def candidates(tier: Tier, labels: int, task: Task) -> Iterator[Shape]:
    """Every student of the tier's table."""
    table = _table(tier, task)
    for body in table.bodies:
        for vocabulary in table.vocabularies:
            for tokens in table.tokens:
                yield _shape(task, body, vocabulary, tokens, labels)


def rows(tier: Tier, labels: int, task: Task) -> Iterator[Shape]:
    """The smallest student, then each body with the standard vocabulary and length."""
    yield _smallest(tier, labels, task)
    table = _table(tier, task)
    for body in table.bodies:
        yield _shape(task, body, table.vocabulary, table.length, labels)


def standing(shape: Shape, tier: Tier) -> tuple[int, int, int, int]:
    """What the best student has most of; see the top of this file."""
    causal = isinstance(shape, CausalShape)
    table = tier.tables["causal" if causal else "classify"]
    tokens = shape.context if isinstance(shape, CausalShape) else shape.tokens
    product = layer_weights(shape) * min(shape.vocabulary, table.vocabulary) * min(tokens, table.length)
    return product, shape.vocabulary, tokens, shape.width


def layer_weights(shape: Shape) -> int:
    """The weights of the layers' matrices."""
    return shape.layers * (4 * shape.width**2 + 2 * shape.width * shape.inner)


def best(tier: Tier, labels: int, budget: Budget, task: Task) -> Shape:
    """The best student of the tier within its bounds and the budget. Raises BudgetTooSmall, InputError."""
    found = sorted(candidates(tier, labels, task), key=lambda shape: standing(shape, tier), reverse=True)
    smallest = account(_smallest(tier, labels, task))
    if fits(smallest, tier, budget):
        for shape in found:
            # What it takes at least is at hand; what it takes exactly needs a moment.
            if fits(at_least(shape), tier, budget) and fits(account(shape), tier, budget):
                return shape
    given = [f"{name}={value:,}" for name, value in (("ram", budget.ram), ("flash", budget.flash)) if value is not None]
    shape = _smallest(tier, labels, task)
    raise BudgetTooSmall(
        f"no student of tier {tier.name} fits {', '.join(given) or 'its bounds'} with {labels} labels; the smallest "
        f"(width {shape.width}, {shape.layers} layers, vocabulary {shape.vocabulary}) needs ram={smallest.ram:,} and "
        f"flash={smallest.file:,}"
    )


def _smallest(tier: Tier, labels: int, task: Task) -> Shape:
    table = _table(tier, task)
    return _shape(task, table.bodies[0], table.vocabularies[0], table.tokens[0], labels)


def _table(tier: Tier, task: Task) -> Table:
    if task not in tier.tables:
        raise InputError(f"tier {tier.name} has no students for {task!r}; it has them for {', '.join(tier.tables)}")
    return tier.tables[task]


def _shape(task: Task, body: Body, vocabulary: int, tokens: int, labels: int) -> Shape:
    sizes = {"width": body.width, "layers": body.layers, "heads": body.heads, "inner": body.inner}
    if task == "causal":
        return CausalShape(vocabulary, tokens, **sizes)
    return StudentShape(vocabulary, tokens, labels, **sizes)
