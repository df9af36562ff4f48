"""One home of the relay benchmark, as a process of its own: what a board would run, with nothing but `tasuki.sdk`.

    python -m tasuki.benchmarks.home HOME.json

Reads its commands from the file, prints JSON lines, and ends with its figures.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tasuki.sdk import Device

Command = dict[str, Any]  # text, label, own
FORBIDDEN = (
    "tensorflow",
    "keras",
    "matplotlib",
    "flask",
    "django",
    "fastapi",
    "tasuki.converter",
    "tasuki.aggregator",
)
SYNC_SECONDS = 120.0


def tell(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def peak_resident_mb() -> float:
    """The most memory that this process ever had resident, in MB; not what its parent had before it started."""
    (kilobytes,) = [
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(kilobytes) * 1024 / 1e6


def live(device: Device, alone: Device, commands: list[Command], figures: dict[str, Any]) -> int:
    """One round of commands: answer, be corrected or confirmed, learn. Returns the number of corrections."""
    corrected = 0
    for command in commands:
        answer = device.predict(command["text"])
        corrected += answer.label != command["label"]
        figures["predict_ms"].append(answer.latency_ms)
        began = time.perf_counter()
        device.learn(command["text"], command["label"], new_label=command["own"])
        _ = device.labels  # fits now: the next answer's time is its own
        figures["learn_ms"].append((time.perf_counter() - began) * 1e3)
        # The same home without a fleet.
        alone.learn(command["text"], command["label"], new_label=command["own"])
    return corrected


def right(device: Device, commands: list[Command], using: Any) -> list[int]:
    """For each command, whether the answer is right (1) or not (0)."""
    answers = device.predict_batch([command["text"] for command in commands], using)
    return [int(answer.label == command["label"]) for answer, command in zip(answers, commands, strict=True)]


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    figures: dict[str, Any] = {"predict_ms": [], "learn_ms": [], "syncs": [], "corrected": []}
    with (
        Device.open(plan["artifact"], plan["state"]) as device,
        Device.open(plan["artifact"], plan["state"] + "-alone") as alone,
    ):
        tell(event="key", key=device.public_key.hex())
        sys.stdin.readline()  # the enrolment file is there
        device.enrol(plan["enrolment"])
        for number, commands in enumerate(plan["rounds"], start=1):
            figures["corrected"].append(live(device, alone, commands, figures))
            tell(event="learned", round=number)
            done = device.sync(SYNC_SECONDS, wait_version=number)
            figures["syncs"].append({"sent": done.sent, "admitted": done.admitted, "refused": len(done.refused),
                                     "bytes_up": done.bytes_up, "bytes_down": done.bytes_down})  # fmt: skip
            tell(event="synced", round=number, version=device.version)
        for name, commands in (("later", plan["later"]), ("unseen", plan["unseen"])):
            figures[name] = {using: right(device, commands, using) for using in ("base", "global", "local")}
            figures[name]["alone"] = right(alone, commands, "local")
        answers = device.predict_batch([command["text"] for command in plan["later"]])
        figures["answers"] = [
            [command["label"], answer.label] for command, answer in zip(plan["later"], answers, strict=True)
        ]
    figures["rss_mb"] = peak_resident_mb()
    figures["loaded"] = [name for name in FORBIDDEN if name in sys.modules]
    tell(event="figures", **figures)


if __name__ == "__main__":
    main()
