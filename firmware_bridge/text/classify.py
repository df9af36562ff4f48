"""A classifier's text code: vocabulary, labels, calibration and adapter as constants, and calls in their order."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.firmware_bridge.compiler.program import Port, Program
from tasuki.firmware_bridge.emit import naming
from tasuki.firmware_bridge.text import wordpiece
from tasuki.firmware_bridge.text.c_code import Code, code
from tasuki.firmware_bridge.text.learned import LEVEL, Learned
from tasuki.sdk.adapter import zero
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.confidence import table_floor
from tasuki.sdk.errors import ModelUnsupported

Floats = NDArray[np.float32]
# No folded weight of an adapter that was learned is near; sums of so large ones are still finite.
_LARGEST: Final = 1e30
# Bytes of a pointer on the targets that figures are for.
_POINTER: Final = 4


@dataclass(frozen=True, eq=False)
class Folded:
    """The constants of `tsk_adapter_t`; None where there is nothing to add."""

    labels: tuple[str, ...]
    zero: int
    step: float
    weight: Floats | None
    bias: Floats | None
    gate: float
    floor: float


def generate(artifact: Artifact, program: Program, name: str, learned: Learned | None) -> Code:
    """The files and sizes of a classifier. Raises ModelUnsupported."""
    if artifact.tokenizer_json is not None:
        raise ModelUnsupported(
            "the classifier's tokenizer is a checkpoint's tokenizer.json, and there is C for a vocab.txt, as "
            "`tasuki distil --tier mcu` makes it"
        )
    folded, dictionaries = fold(artifact, program, learned), wordpiece.dictionaries(artifact.vocabulary)
    names = naming.Names()
    values = {
        "artifact": artifact,
        "tokens": artifact.tokens,
        "features": artifact.features,
        "logits": artifact.logits,
        "arguments": ["memory->arena", "memory->ids", *_outputs(artifact, program)],
        "folded": folded,
        "constants": [names.take(naming.identifier(label, "label")).upper() for label in folded.labels],
        "dictionaries": dictionaries,
    }
    sizes = [
        ("tokenizer", max(1, len(dictionaries.first)) + max(1, len(dictionaries.later))),
        ("labels", sum(_POINTER + len(label.encode()) + 1 for label in folded.labels)),
        ("adapter", sum(values.nbytes for values in (folded.weight, folded.bias) if values is not None)),
    ]
    return code("classify", name, sizes, **values)


def fold(artifact: Artifact, program: Program, learned: Learned | None) -> Folded:
    """Scales, zero points and temperature folded into the adapter, as `tasuki.sdk.scorer` does.

    Raises ModelUnsupported for outputs that are not int8.
    """
    ports = [program.outputs[output] for output in artifact.outputs.features]
    logits = program.outputs[artifact.outputs.logits]
    base_scale = _scale(logits)
    scales = np.repeat([_scale(port) for port in ports], artifact.widths)
    zeros = np.repeat([float(port.zero) for port in ports], artifact.widths)
    if learned is None:
        head, temperature, gate = zero(artifact.labels, artifact.features), artifact.temperature, None
        floor = table_floor(artifact.conformal, LEVEL)
    else:
        head, temperature, gate, floor = learned.head, learned.temperature, learned.gate, learned.floor
    exact = head.weight.astype(np.float64)
    if not 1 / _LARGEST <= base_scale / min(temperature, gate or temperature) <= _LARGEST:
        raise ModelUnsupported(f"the logits' scale {base_scale:g} is out of all bounds")
    weight = _single(exact * scales / temperature)
    bias = _single((head.bias - exact @ (scales * zeros)) / temperature)
    needed = bool(head.joined.any()) or len(head.labels) > artifact.logits
    return Folded(
        labels=head.labels,
        zero=logits.zero,
        step=base_scale / temperature,
        weight=weight if needed and head.weight.any() else None,
        bias=bias if needed else None,
        gate=base_scale / gate if needed and gate is not None else 0.0,
        floor=floor,
    )


def _single(values: NDArray[np.float64]) -> Floats:
    return np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)


def _scale(port: Port) -> float:
    if port.type != np.int8 or port.scale is None:
        raise ModelUnsupported(f"the output {port.name} is {port.type}, and the answer in C is made of int8")
    return float(np.float32(port.scale))


def _outputs(artifact: Artifact, program: Program) -> list[str]:
    """What stands for each of the model's outputs in its call. The features of all depths are one array."""
    if len(program.inputs) != 1 or len(program.outputs) != len(artifact.outputs.features) + 1:
        raise ModelUnsupported("the model has other inputs or outputs than ids, features and logits")
    found, place = {artifact.outputs.logits: "memory->logits"}, 0
    for output, width in zip(artifact.outputs.features, artifact.widths, strict=True):
        found[output] = f"memory->features + {place}" if place else "memory->features"
        place += width
    return [found[output] for output in range(len(found))]
