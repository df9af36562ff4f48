"""Mutated messages without end: coverage-guided by Atheris, in several processes, with counts as JSON.

python tests/fuzz/fuzz_updates.py --messages 100000
python tests/fuzz/fuzz_updates.py --replay build/fuzz/crash-...
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Longer inputs bring nothing: a message is decided by well under 200 bytes, and where they end a generator goes on.
INPUT_BYTES = 192
_SEEDS = 64
_REPORT_EVERY = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Feeds mutated messages to everything that takes one.")
    parser.add_argument("--messages", type=int, default=100_000, help="how many in all (default 100,000)")
    parser.add_argument("--seconds", type=float, default=86_400.0, help="stop after so long")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="one a core by default")
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other messages")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for inputs that break something")
    parser.add_argument(
        "--traced", type=int, default=20_000, help="messages for coverage and memory (0: no such figures)"
    )
    parser.add_argument("--replay", type=Path, help="run one input again and say what becomes of it")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.replay is not None:
        _replay(chosen.replay)
    elif chosen.worker is not None:
        _work(chosen.worker, chosen.messages, chosen.seconds, chosen.seed, chosen.folder)
    else:
        report = run(chosen.messages, chosen.seconds, chosen.processes, chosen.seed, chosen.folder, chosen.traced)
        print(json.dumps(report, indent=2))


def run(messages: int, seconds: float, processes: int, seed: int, folder: Path, traced: int) -> dict[str, Any]:
    """Feed `messages`, or as many as fit in `seconds`, and say what became of them.

    Raises RuntimeError where an input broke something; the input is in `folder` then.
    """
    from fuzz_readers import check
    from fuzz_tally import merge

    check()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    shared = ["--messages", str(-(-messages // processes)), "--seconds", str(seconds), "--folder", str(folder)]
    workers = [_start(number, ["--seed", str(seed + number), *shared], folder) for number in range(processes)]
    try:
        while any(worker.poll() is None for worker in workers) and not any(worker.returncode for worker in workers):
            time.sleep(0.2)
        broken = [number for number, worker in enumerate(workers) if worker.returncode]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    took = time.monotonic() - began
    for number in broken:
        # Atheris writes a traceback to stdout, libFuzzer and Python at its start what they have to say to stderr.
        said = [(folder / f"worker-{number}.{name}").read_text(errors="replace") for name in ("out", "err")]
        raise RuntimeError(f"a message broke something; its input is in {folder}:\n{(said[0] or said[1])[-4000:]}")
    report = merge([json.loads((folder / f"report-{number}.json").read_text()) for number in range(processes)])
    report["seconds"] = round(took, 1)
    report["processes"] = processes
    if traced:
        report["memory"] = _measured("fuzz_memory.py", traced, seed)
        report["coverage"] = _measured("fuzz_coverage.py", traced, seed, *sorted(folder.glob("corpus-*")))
    return report


def _start(number: int, more: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--worker", str(number), *more]
    with (folder / f"worker-{number}.out").open("wb") as out, (folder / f"worker-{number}.err").open("wb") as errors:
        return subprocess.Popen(command, stdout=out, stderr=errors)


def _measured(program: str, *arguments: object) -> dict[str, Any]:
    """What one of the measuring programs prints."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a message broke something in {program}:\n{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _work(number: int, messages: int, seconds: float, seed: int, folder: Path) -> None:
    """One process of Atheris, which makes inputs, keeps those that reach something new, and changes them further."""
    import atheris

    # CBOR's guard sees every item: to watch it costs a quarter of the rate, and the mutators reach all of it anyway.
    with atheris.instrument_imports(include=["tasuki.sdk", "tasuki.aggregator"], exclude=["tasuki.sdk.cbor"]):
        from fuzz_targets import Targets, strict
    from fuzz_tally import Tally

    strict()
    targets, tally = Targets(), Tally()
    parent = os.getppid()
    ends = time.monotonic() + seconds

    def one(data: bytes) -> None:
        for trial in targets.two(data):
            tally.add(trial)
        now = time.monotonic()
        done = tally.messages >= messages or now > ends or os.getppid() != parent
        if done or tally.messages % _REPORT_EVERY == 0:
            report.write_text(json.dumps(tally.report()))
        if done:
            # libFuzzer has no way to stop a run from inside and go on in Python.
            os._exit(0)

    report, corpus = folder / f"report-{number}.json", folder / f"corpus-{number}"
    corpus.mkdir(exist_ok=True)
    source = random.Random(seed)
    for index in range(_SEEDS):
        (corpus / f"seed-{index}").write_bytes(source.randbytes(INPUT_BYTES))
    flags = [f"-seed={seed + 1}", f"-max_len={INPUT_BYTES}", "-len_control=0", "-verbosity=0", "-timeout=30",
             "-rss_limit_mb=2048", "-reload=0", f"-artifact_prefix={folder}/"]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def _replay(path: Path) -> None:
    from fuzz_targets import Targets, strict

    strict()
    print(*Targets().two(path.read_bytes()), sep="\n")


if __name__ == "__main__":
    main()
