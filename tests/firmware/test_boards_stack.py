"""The bound of the stack, from call graphs as GCC writes them."""

from pathlib import Path

import pytest

from tasuki.firmware_bridge.target.stack import FRAME, HELPER, LIBRARY, bound
from tasuki.sdk.errors import BuildFailed

Calls = dict[str, tuple[int, tuple[str, ...]]]


def graph(folder: Path, calls: Calls, kind: str = "static") -> list[Path]:
    """A ``.ci`` file: each function with its frame and what it calls."""
    lines = ['graph: { title: "a.c"']
    for name, (frame, called) in calls.items():
        lines.append(f'node: {{ title: "{name}" label: "{name}\\na.c:1:5\\n{frame} bytes ({kind})" }}')
        lines += [f'edge: {{ sourcename: "{name}" targetname: "{other}" label: "a.c:2:3" }}' for other in called]
    path = folder / "a.ci"
    path.write_text("\n".join([*lines, "}", ""]))
    return [path]


def deepest(folder: Path, calls: Calls, kind: str = "static") -> int:
    return bound(graph(folder, calls, kind), frozenset(name.rsplit(":", 1)[-1] for name in calls))


def test_the_deepest_chain_and_one_interrupt(tmp_path: Path) -> None:
    calls: Calls = {
        "tsk_start": (8, ("main",)), "main": (16, ("shallow", "a.c:deep")), "shallow": (100, ()),
        "a.c:deep": (40, ("deeper",)), "deeper": (200, ()),
    }  # fmt: skip
    chain = 8 + 16 + 40 + 200 + HELPER
    assert deepest(tmp_path, calls) == chain + FRAME
    calls["tick"] = (24, ())
    assert deepest(tmp_path, calls) == chain + FRAME + 24 + HELPER


def test_what_is_not_in_the_image_does_not_count(tmp_path: Path) -> None:
    calls: Calls = {"tsk_start": (8, ("main",)), "main": (16, ()), "dropped": (5000, ())}
    found = bound(graph(tmp_path, calls), frozenset(("tsk_start", "main")))
    assert found == 8 + 16 + HELPER + FRAME


def test_a_call_through_a_pointer_is_charged_with_the_deepest_that_nobody_names(tmp_path: Path) -> None:
    calls: Calls = {
        "tsk_start": (8, ("main",)), "main": (16, ("each",)), "each": (24, ("__indirect_call",)),
        "callback": (300, ()), "handler": (4, ()),
    }  # fmt: skip
    assert deepest(tmp_path, calls) == 8 + 16 + 24 + (300 + HELPER) + FRAME + (300 + HELPER)


def test_what_calls_through_a_pointer_is_not_the_callback_itself(tmp_path: Path) -> None:
    """An interrupt's handler that does, by itself or further down; else it would look like recursion."""
    calls: Calls = {
        "tsk_start": (8, ()), "tick": (10, ("step",)), "step": (20, ("__indirect_call",)), "callback": (300, ()),
    }  # fmt: skip
    assert deepest(tmp_path, calls) == 8 + HELPER + FRAME + 10 + 20 + 300 + HELPER


def test_the_c_library_is_charged_with_a_flat_sum(tmp_path: Path) -> None:
    start: Calls = {"tsk_start": (8, ("main",))}
    assert deepest(tmp_path, {**start, "main": (16, ("exp",))}) == 8 + 16 + LIBRARY + FRAME
    assert deepest(tmp_path, {**start, "main": (16, ("memcpy",))}) == 8 + 16 + HELPER + FRAME


@pytest.mark.parametrize("size", [1, 2, 3])
def test_recursion_is_refused_and_named(tmp_path: Path, size: int) -> None:
    names = [f"f{number}" for number in range(size)]
    circle: Calls = {name: (8, (names[(n + 1) % size],)) for n, name in enumerate(names)}
    with pytest.raises(BuildFailed, match=f"recursion: {' -> '.join([*names, names[0]])}"):
        deepest(tmp_path, {"tsk_start": (8, ("main",)), "main": (8, ("f0",)), **circle})


def test_a_frame_that_grows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="the stack of tsk_start has no bound: its frame is dynamic"):
        deepest(tmp_path, {"tsk_start": (8, ())}, "dynamic")
