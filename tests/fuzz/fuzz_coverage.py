"""Lines and branches of the readers that messages reach, function by function. Prints JSON; `fuzz_updates.py` calls it.

    python tests/fuzz/fuzz_coverage.py MESSAGES SEED [CORPUS ...]

Tracing is slow, so a run's coverage is that of MESSAGES more messages from random bytes, and of the inputs that the run
kept because they reached something new. A run reaches at least this.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import coverage
from fuzz_readers import READERS, ROOT
from fuzz_updates import INPUT_BYTES


def measure(messages: int, seed: int, corpora: list[Path]) -> dict[str, Any]:
    """Coverage in per cent by file, and by function what was missed of the readers."""
    files = [str(ROOT / name) for name in READERS]
    tracer = coverage.Coverage(branch=True, include=files, data_file=None, config_file=False)
    source = random.Random(seed)
    tracer.start()
    from fuzz_targets import Targets, strict

    strict()
    targets = Targets()
    for _ in range(messages // 2):
        targets.two(source.randbytes(INPUT_BYTES))
    for corpus in corpora:
        for path in sorted(corpus.iterdir()):
            targets.two(path.read_bytes())
    tracer.stop()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        tracer.json_report(outfile=str(out))
        measured = json.loads(out.read_text())["files"]
    return {name: _readers(measured, name) for name in READERS}


def _readers(measured: dict[str, Any], name: str) -> dict[str, Any]:
    """Of one file: its readers' lines and branches, and which of them were missed."""
    found = next(file for path, file in measured.items() if (ROOT / path).resolve() == ROOT / name)
    wanted = READERS[name]
    chosen = [one for function, one in found["functions"].items() if function and (not wanted or function in wanted)]

    def count(what: str) -> int:
        return sum(one["summary"][what] for one in chosen)

    return {
        "lines": f"{count('covered_lines')} of {count('num_statements')}",
        "branches": f"{count('covered_branches')} of {count('num_branches')}",
        "missed_lines": sorted(line for one in chosen for line in one["missing_lines"]),
        "missed_branches": sorted(branch for one in chosen for branch in one["missing_branches"]),
        "file_per_cent": round(found["summary"]["percent_covered"], 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])))
