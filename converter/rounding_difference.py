"""How far apart a model's outputs are where requantisation rounds differently.

    tflm      TensorFlow Lite Micro: twice, as gemmlowp does
    single    LiteRT's reference kernels: once
    xnnpack   LiteRT as it comes: XNNPACK, to even in float32

All three see the same inputs. Differences are in steps of an output's grid (LSB), over all outputs, which are integers.
"""

import importlib
import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Inputs = Sequence[NDArray[Any]]
Outputs = list[NDArray[Any]]
# Texts of a classifier, and steps of a causal model, that are compared.
TEXTS: Final = 64
STEPS: Final = 96
_ARENA: Final = 1 << 26
# In a process of its own: a kernel may abort. Stacked inputs come in and stacked outputs go out, as NumPy's archives.
_MICRO: Final = """
import io, sys
import numpy as np
from tflite_micro import runtime
given = np.load(io.BytesIO(sys.stdin.buffer.read()))
model, outputs = given["model"].tobytes(), int(given["outputs"])
columns = [given[f"input{n}"] for n in range(len(given.files) - 2)]
chip = runtime.Interpreter.from_bytes(model, arena_size=int(sys.argv[1]))
rows = []
for row in zip(*columns):
    for number, value in enumerate(row):
        chip.set_input(value, number)
    chip.invoke()
    rows.append([np.array(chip.get_output(number)) for number in range(outputs)])
out = io.BytesIO()
np.savez(out, *map(np.stack, zip(*rows)))
sys.stdout.buffer.write(out.getvalue())
"""


def of_classifier(model: bytes, ids: NDArray[np.int32]) -> dict[str, Any]:
    """The differences on `ids` int32 [n, tokens], of which the first 64 rows are taken."""
    return measure(model, [[row[None]] for row in ids[:TEXTS]])


def of_causal(model: bytes, outputs: Mapping[str, int], windows: NDArray[np.int32]) -> dict[str, Any]:
    """The differences of the first subgraph, one token after the other of `windows` int32 [n, tokens + 1].

    `outputs` says which output each key and value is; the caches hold what the reference kernels made of the text.
    """
    return measure(model, list(_steps(model, outputs, windows)))


def measure(model: bytes, feeds: Sequence[Inputs]) -> dict[str, Any]:
    """By pair of kernels the ``largest`` and the ``mean`` difference, and the ``share`` of `values` that differ.

    `inputs` counts `feeds`. Where there is no TensorFlow Lite Micro, or it can't run the model, ``tflm`` says why, and
    the other pair is there all the same. Empty `feeds` give that reason alone. Raises ValueError if an output is not
    of integers.
    """
    if not feeds:
        return {"inputs": 0, "tflm": "not measured: there are no texts"}
    reference, usual = (_Litert(model, which) for which in ("BUILTIN_REF", "AUTO"))
    single, xnnpack = [reference(row) for row in feeds], [usual(row) for row in feeds]
    if any(value.dtype.kind != "i" for value in single[0]):
        raise ValueError("only integers have steps, and an output is not of integers")
    micro = _micro(model, feeds, len(single[0]))
    found: dict[str, Any] = {"inputs": len(feeds), "single_to_xnnpack": _apart(single, xnnpack)}
    if isinstance(micro, str):
        return {**found, "tflm": f"not measured: {micro}"}
    return {**found, "tflm_to_single": _apart(micro, single), "tflm_to_xnnpack": _apart(micro, xnnpack)}


class _Litert:
    """One of LiteRT's kernel sets."""

    def __init__(self, model: bytes, resolver: str) -> None:
        module = importlib.import_module("ai_edge_litert.interpreter")
        self._interpreter = module.Interpreter(
            model_content=model,
            num_threads=1,
            experimental_op_resolver_type=module.OpResolverType[resolver],
            # Where it shares memory, the runtime can lose a tensor that is read again behind a RESHAPE.
            experimental_preserve_all_tensors=resolver == "BUILTIN_REF",
        )
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()

    def __call__(self, row: Inputs) -> Outputs:
        for entry, value in zip(self.inputs, row, strict=True):
            self._interpreter.set_tensor(entry["index"], value)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(entry["index"])) for entry in self.outputs]


def _micro(model: bytes, feeds: Sequence[Inputs], outputs: int) -> list[Outputs] | str:
    """The outputs of TensorFlow Lite Micro, or why there are none."""
    if find_spec("tflite_micro") is None:
        return "tflite-micro is not installed, or not made for this platform"
    given = io.BytesIO()
    arrays: dict[str, Any] = {f"input{n}": np.stack(column) for n, column in enumerate(zip(*feeds, strict=True))}
    np.savez(given, **arrays, model=np.frombuffer(model, np.uint8), outputs=np.int64(outputs))
    command = [sys.executable, "-c", _MICRO, str(_ARENA)]
    done = subprocess.run(command, input=given.getvalue(), capture_output=True, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return f"TensorFlow Lite Micro can't run this model: {words[-1].strip() if words else 'it crashed'}"
    found = np.load(io.BytesIO(done.stdout))
    return [list(row) for row in zip(*(found[name] for name in found.files), strict=True)]


def _apart(mine: Sequence[Outputs], theirs: Sequence[Outputs]) -> dict[str, Any]:
    """Figures are rounded to 6 digits: they are for people, and shall not depend on how sums are ordered."""
    pairs = [pair for row, other in zip(mine, theirs, strict=True) for pair in zip(row, other, strict=True)]
    steps = np.concatenate([np.abs(a.astype(np.int64) - b.astype(np.int64)).ravel() for a, b in pairs])
    mean, share = (round(float(value), 6) for value in (steps.mean(), (steps > 0).mean()))
    return {"values": int(steps.size), "largest": int(steps.max()), "mean": mean, "share": share}


def _steps(model: bytes, outputs: Mapping[str, int], windows: NDArray[np.int32]) -> Iterator[Inputs]:
    reference = _Litert(model, "BUILTIN_REF")
    left = STEPS
    for window in windows:
        row = [np.zeros(entry["shape"], entry["dtype"]) for entry in reference.inputs]
        places = {entry["name"]: number for number, entry in enumerate(reference.inputs)}
        for position, token in enumerate(window[:-1][:left]):
            row[places["ids"]][:], row[places["position"]][:] = token, position
            yield [value.copy() for value in row]
            made = reference(row)
            for name, number in places.items():
                if name in outputs:
                    row[number][:, :, position] = made[outputs[name]][:, :, 0]
        left -= min(left, len(window) - 1)
        if not left:
            return
