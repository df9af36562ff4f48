"""From an artifact or a bare `.tflite` to C: read, check, lower, plan, prove, emit."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tasuki.firmware_bridge import text
from tasuki.firmware_bridge.compiler import check, lower, plan, plan_check, reader
from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.program import Plan, Program
from tasuki.firmware_bridge.emit import model_files, naming, vectors
from tasuki.firmware_bridge.emit.c_form import Function
from tasuki.firmware_bridge.emit.folder import FACTS, ROUNDINGS, place, runtime_files, write
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk import archive, artifact
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import ArtifactCorrupt, FirmwareError, ModelUnsupported

__all__ = ["ROUNDINGS", "Generated", "generate", "place", "runtime_files", "write"]

VECTORS: Final = 2
SEED: Final = 0


@dataclass(frozen=True, eq=False)
class Generated:
    """A model in C. `files` are the model's own, without the runtime; sizes are in bytes.

    `artifact` is None for a bare `.tflite`, `learned` what is built into its answer. `functions[i]` is
    ``tsk_<programs[i].name>_invoke``. `arena_bytes` is the largest arena, `largest` has the largest constants with
    their sizes, `text_sizes` the constants that turn text into the answer.
    """

    name: str
    rounding: str
    files: dict[str, bytes]
    graphs: tuple[Graph, ...]
    programs: tuple[Program, ...]
    plans: tuple[Plan, ...]
    functions: tuple[Function, ...]
    arena_bytes: int
    model_bytes: int
    table_bytes: int
    tflite_bytes: int
    largest: tuple[tuple[str, int], ...]
    artifact: Artifact | None = None
    learned: text.Learned | None = None
    text_sizes: tuple[tuple[str, int], ...] = ()


def generate(
    source: str | Path | bytes, name: str = "model", rounding: str | None = None, learned: text.Learned | None = None
) -> Generated:
    """The C of the model in `source`, a path or the bytes themselves; `name` becomes part of C names.

    `rounding` is ``tflm`` or ``single``; None takes what the artifact's manifest says, or ``tflm``. `learned` is built
    into a classifier's answer. The memory plan is always proven by `plan_check`.

    Raises ArtifactMissing, ArtifactCorrupt, ModelCorrupt, ModelUnsupported, and FirmwareError for a name or rounding
    that can't be.
    """
    naming.build_name(name)
    data = source if isinstance(source, bytes) else artifact.read(source)
    called = "the model" if isinstance(source, bytes) else Path(source).name
    packed = _artifact(data, called)
    bare = data if packed is None else bytes(packed.model)  # type: ignore[arg-type]
    chosen = _rounding(rounding or ("tflm" if packed is None else packed.manifest["rounding"]))
    graphs = reader.read(bare, called)
    programs, plans = _compiled(graphs, name, chosen, called)
    said = text.generate(packed, programs, name, learned) if packed else text.Code({}, ())
    adapter = _adapter(packed, learned) if packed and learned else None
    made = model_files.write(
        model_files.Model(
            name, chosen, graphs, programs, plans,
            [vectors.make(graph, chosen, VECTORS, SEED) for graph in graphs],
            title=packed.manifest["name"] if packed else "a full-int8 .tflite",
            about=_about(packed) if packed else "", tflite_bytes=len(bare),
            origin=_origin(packed) if packed else (), task=packed.task if packed else "bare",
            text_sizes=said.sizes, adapter=adapter, limits=said.limits,
        )
    )  # fmt: skip
    arena = max(function.arena for function in made.functions)
    facts = {
        "made_by": "tasuki", "version": version("tasuki"), "name": name, "rounding": chosen,
        "source_sha256": hashlib.sha256(data).hexdigest(), "arena_bytes": arena, "model_bytes": made.model_bytes,
        "compiler_table_bytes": made.table_bytes, "tflite_bytes": len(bare),
        **{f"{what}_bytes": size for what, size in said.sizes}, **({"adapter": adapter} if adapter else {}),
    }  # fmt: skip
    files = {**made.files, **said.files, FACTS: json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n"}
    return Generated(
        name, chosen, files, graphs, programs, plans, made.functions, arena, made.model_bytes, made.table_bytes,
        len(bare), made.largest, packed, learned, said.sizes,
    )  # fmt: skip


def _compiled(
    graphs: Sequence[Graph], name: str, rounding: Rounding, file: str
) -> tuple[tuple[Program, ...], tuple[Plan, ...]]:
    """Check, lower and plan each graph, and prove the plan. The first has the name itself, the others add their
    own. `file` is for messages.
    """
    names = naming.Names()
    programs: list[Program] = []
    for graph in graphs:
        check.check(graph, file, rounding)
        own = names.take(f"{name}_{naming.identifier(graph.name, 'part')}" if programs else name)
        programs.append(lower.lower(graph, own, rounding))
    plans = tuple(plan.plan(program) for program in programs)
    for program, planned in zip(programs, plans, strict=True):
        plan_check.check(program, planned)
    return tuple(programs), plans


def _rounding(word: str) -> Rounding:
    if word not in ROUNDINGS:
        raise FirmwareError(f"the rounding {word!r} is neither of {', '.join(ROUNDINGS)}")
    return ROUNDINGS[word]


def _artifact(data: bytes, called: str) -> Artifact | None:
    """The packaged artifact in `data`; None if it is a bare model."""
    try:
        listed = artifact.MANIFEST in (member.name for member in archive.listing(data))
    except ValueError:
        # The end is gone, but the manifest's name is still there: an artifact that was cut off.
        if artifact.MANIFEST.encode() in data:
            raise ArtifactCorrupt(f"{called} is damaged: it is cut off or altered; fetch it again") from None
        listed = False
    if not listed:
        return None
    found = artifact.parse(data, called)
    if found.manifest["activations"] == "float":
        raise ModelUnsupported(
            f"{called} has float activations (tier {found.manifest['tier']}): convert it for the tier mcu, in int8"
        )
    return found


def _adapter(packed: Artifact, learned: text.Learned) -> dict[str, Any]:
    """What tells a build with an adapter from others: `own_labels` are those that the artifact does not have."""
    return {
        "kind": learned.kind, "examples": learned.examples, "labels": list(learned.head.labels),
        "own_labels": list(learned.own(packed.labels)), "sha256": learned.digest,
    }  # fmt: skip


def _about(packed: Artifact) -> str:
    return f"task {packed.task}, tier {packed.manifest['tier']}, artifact {packed.hash.hex()}"


def _origin(packed: Artifact) -> list[dict[str, str]]:
    return [
        {"source": row.get("package") or row["file"], **{key: row[key] for key in ("licence", "origin", "sha256")}}
        for row in packed.manifest["origin"]
    ]
