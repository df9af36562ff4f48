"""The memory plan: nothing overlaps that lives at once, the result is small and repeats."""

from itertools import permutations

from firmware import program_kit as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.firmware_bridge.compiler import plan as planner
from tasuki.firmware_bridge.compiler import plan_check
from tasuki.firmware_bridge.compiler.plan import plan
from tasuki.firmware_bridge.compiler.program import ALIGNMENT, Operand, Program


@st.composite
def problems(draw: st.DrawFn, most: int = 8, share: bool = True) -> planner._Problem:
    """Buffers of up to 8 units over up to 6 steps; who ends where another begins may share its place."""
    steps = draw(st.integers(1, 6))
    ends = st.tuples(st.integers(0, steps - 1), st.integers(0, steps - 1))
    lives = [planner._Life(min(pair), max(pair)) for pair in draw(st.lists(ends, min_size=1, max_size=most))]
    sizes = [ALIGNMENT * draw(st.integers(1, 8)) for _ in lives]
    scratch = [ALIGNMENT * draw(st.integers(0, 4)) for _ in range(steps)]
    pairs = [(i, j) for i, a in enumerate(lives) for j, b in enumerate(lives) if i != j and a.last == b.first]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=3)) if pairs and share else []
    return planner._Problem(sizes, lives, scratch, {pair for i, j in chosen for pair in ((i, j), (j, i))})


@settings(max_examples=300, deadline=None)
@given(problems())
def test_what_lives_at_once_is_apart(problem: planner._Problem) -> None:
    *places, scratch = problem.search()
    spans = [range(place, place + size) for place, size in zip(places, problem.sizes, strict=True)]
    for k, needed in enumerate(problem.scratch):
        alive = [i for i, life in enumerate(problem.lives) if life.first <= k <= life.last]
        for i in alive:
            assert not _meet(spans[i], range(scratch, scratch + needed))
            for j in alive:
                same = places[i] == places[j] and (i, j) in problem.shared
                assert i == j or same or not _meet(spans[i], spans[j])
    assert all(place % ALIGNMENT == 0 for place in (*places, scratch))


def _meet(a: range, b: range) -> bool:
    return max(a.start, b.start) < min(a.stop, b.stop)


@settings(max_examples=60, deadline=None)
@given(problems(most=4))
def test_no_order_does_better(problem: planner._Problem) -> None:
    meetings = problem._meetings()
    orders = permutations(range(len(problem.sizes) + 1))
    least = min(problem.height(problem._placed(order, meetings)) for order in orders)
    assert problem.height(problem.search()) == least


@settings(max_examples=100, deadline=None)
@given(problems(most=4, share=False))
def test_a_few_buffers_take_the_least_there_is(problem: planner._Problem) -> None:
    """No places at all, in whatever order they were found, make a smaller arena."""
    height = problem.height(problem.search())
    assert _fits(problem, height, [])
    assert not _fits(problem, height - ALIGNMENT, [])


def _fits(problem: planner._Problem, height: int, spans: list[range]) -> bool:
    """Whether the buffers after those of `spans` have places below `height`, and scratch above those it meets."""
    if len(spans) == len(problem.sizes):
        return any(
            all(
                at + needed <= height
                and not any(
                    life.first <= k <= life.last and _meet(span, range(at, at + needed))
                    for span, life in zip(spans, problem.lives, strict=True)
                )
                for k, needed in enumerate(problem.scratch)
            )
            for at in range(0, height + 1, ALIGNMENT)
        )
    here = problem.lives[len(spans)]
    for at in range(0, height - problem.sizes[len(spans)] + 1, ALIGNMENT):
        span = range(at, at + problem.sizes[len(spans)])
        if not any(
            life.first <= here.last and here.first <= life.last and _meet(span, other)
            for other, life in zip(spans, problem.lives, strict=False)
        ) and _fits(problem, height, [*spans, span]):
            return True
    return False


@settings(max_examples=30, deadline=None)
@given(problems())
def test_the_search_repeats(problem: planner._Problem) -> None:
    assert problem.search() == problem.search()


def test_a_program_with_nothing_in_the_arena_needs_none() -> None:
    copy = kit.lut(Operand(0), Operand(1), kit.ROWS)
    table = kit.program().buffers[-1]
    size = kit.ROWS * kit.WIDTH
    program = Program(
        "t", "tflm", (kit.buffer(0, "input", size), kit.buffer(1, "output", size), table), (copy,), (), ()
    )
    assert plan(program).arena == 0


def test_a_loop_keeps_what_it_reads_and_frees_its_tiles() -> None:
    """Buffer 2 is walked by the loop and read after it, buffer 3 is a tile: both and scratch are apart."""
    program = kit.program()
    where = plan(program)
    plan_check.check(program, where)
    assert where.arena == 96 + 80 + 144
