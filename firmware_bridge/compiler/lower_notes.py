"""What the compiler did, in words, for the README of the generated code."""

from collections import Counter
from collections.abc import Sequence

from tasuki.firmware_bridge.compiler.fuse import Node
from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.lower_calls import Call
from tasuki.firmware_bridge.compiler.regions_segments import Segment


def notes(graph: Graph, shrunk: Graph, nodes: Sequence[Node], calls: Sequence[Call]) -> tuple[str, ...]:
    """One line for each kind of thing; `graph` is as it was read, `shrunk` after folding."""
    kinds = {op.place: op.kind for op in graph.operators}
    found: list[str] = []
    folded = len(graph.operators) - len(shrunk.operators)
    if folded:
        found.append(f"{_count(folded, 'operator')} computed when the model was compiled, or read by nobody")
    smaller = sum(a.shape != b.shape for a, b in zip(graph.tensors, shrunk.tensors, strict=True))
    if smaller:
        found.append(f"{_count(smaller, 'result')} computed once instead of along a whole axis")
    chains = Counter(" ".join(kinds[place] for place in node.source) for node in nodes if node.kind == "TABLE")
    found += [f"{chain}: one table of 256 bytes ({_count(n, 'time')})" for chain, n in sorted(chains.items())]
    fused = [node for node in nodes if node.kind != "TABLE" and node.table is not None]
    inside = Counter(" ".join(kinds[place] for place in node.source) for node in fused)
    found += [f"{chain}: one call with a table ({_count(n, 'time')})" for chain, n in sorted(inside.items())]
    copied = {place for call in calls if call.kernel == "copy" for place in call.source}
    for kind in ("TRANSPOSE", "RESHAPE", "SLICE", "STRIDED_SLICE", "SPLIT", "CONCATENATION"):
        places = [node.source[0] for node in nodes if node.kind == kind]
        free = sum(place not in copied for place in places)
        if free:
            found.append(f"{kind}: {free} of {len(places)} without a copy")
    return tuple(found)


def loop_notes(segments: Sequence[Segment]) -> tuple[str, ...]:
    """One line for each loop."""
    return tuple(
        f"{' '.join(member.call.kernel for member in segment.members)}: {segment.tile} of {segment.rows} rows at a time"
        for segment in segments
        if segment.alone is None
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
