"""How soon a fresh process answers, and how much memory it holds, beside a script without Tasuki.

The bare script does what anybody would write by hand: LiteRT, the artifact's vocabulary out of its ZIP, and the same
tokenizer, whose module it loads by itself. Both are started in turns; a time is from the start of the process to its
first answer on a pipe, so it has the interpreter's own start in it. Memory is what is resident after the first answer.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.sdk import tokenizer

ROUNDS: Final = 21
_RESIDENT: Final = """
import json
import os
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024 / 1e6
"""
_EMPTY: Final = f"{_RESIDENT}\nprint(json.dumps(resident()), flush=True)\n"
_DEVICE: Final = f"""
import sys
from tasuki.sdk import Device
with Device.open(sys.argv[1], sys.argv[2]) as device:
    print(device.predict("turn on the kitchen light").label, flush=True)
    {_RESIDENT.strip().replace(chr(10), chr(10) + "    ")}
    print(json.dumps(resident()), flush=True)
"""
_BARE: Final = f"""
import sys, zipfile
from importlib.util import module_from_spec, spec_from_file_location
from ai_edge_litert.interpreter import Interpreter
found = spec_from_file_location("tokenizer", sys.argv[3])
module = module_from_spec(found)
found.loader.exec_module(module)
with zipfile.ZipFile(sys.argv[1]) as parts:
    pieces = parts.read("vocab.txt").decode().split("\\n")
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
given = interpreter.get_input_details()[0]
encode = module.Tokenizer(pieces, given["shape"][1]).encode
interpreter.set_tensor(given["index"], encode("turn on the kitchen light")[None])
interpreter.invoke()
answers = [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
print(answers[-1].argmax(), flush=True)
{_RESIDENT}
print(json.dumps(resident()), flush=True)
"""


def run(file: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Figures of the classifier at `file`, whose tokenizer is the small one; medians of `rounds` processes each."""
    seconds: dict[str, list[float]] = {"first": [], "again": [], "bare": []}
    resident: dict[str, list[float]] = {"first": [], "again": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="tasuki-start-") as work:
        for script in (_DEVICE, _BARE):
            _start(script, [str(file), f"{work}/first", str(tokenizer.__file__)])
        for number in range(rounds):
            # Its first start makes the state's database, later ones find it.
            words = [str(file), f"{work}/{number}", str(tokenizer.__file__)]
            for name, script in (("first", _DEVICE), ("bare", _BARE), ("again", _DEVICE)):
                taken, megabytes = _start(script, words)
                seconds[name].append(taken)
                resident[name].append(megabytes)
    empty = float(subprocess.run([sys.executable, "-c", _EMPTY], capture_output=True, text=True, check=True).stdout)
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    held = {name: float(np.median(megabytes)) for name, megabytes in resident.items()}
    return {
        "cold_start_ratio": medians["again"] / medians["bare"],
        "cold_start_first_ratio": medians["first"] / medians["bare"],
        "cold_start_ms": {name: taken * 1e3 for name, taken in medians.items()},
        "rss_extra_mb": held["again"] - held["bare"],
        "rss_extra_python_mb": held["again"] - empty,
        "rss_mb": {**held, "python": empty},
    }


def _start(script: str, words: list[str]) -> tuple[float, float]:
    """Seconds until the first answer of a fresh process, and megabytes resident after it."""
    began = time.perf_counter()
    command = [sys.executable, "-c", script, *words]
    # With bytecode, as pip installs a package: the first start writes it where there is none.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as child:
        assert child.stdout is not None  # noqa: S101  asked for above
        answer = child.stdout.readline()
        taken = time.perf_counter() - began
        megabytes = child.stdout.readline()
    if not answer or not megabytes:
        raise RuntimeError(f"a fresh process gave no answer; run it by hand: {command[:2]} ...")
    return taken, float(json.loads(megabytes))
