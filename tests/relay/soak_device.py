"""Devices of the soak: one process each, forked from one that has everything imported, so that a new one is cheap.

Run as a command it takes orders from its standard input, one JSON list a line, and answers each with one:
["start", NAME], ["kill", NAME] (SIGKILL) and ["look"], which tells who still runs and who failed by itself. It ends,
and all devices with it, when the input does.

A device seals, syncs, and pauses, for ever; when the file STOP is there it seals no more, and ends with an empty spool.
What it did is in its own log, each line on disk before what it tells of becomes true:
"sealed SEQUENCE DIGEST", "admitted SEQUENCE DIGEST", "refused SEQUENCE DIGEST".
"""

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

# ruff: noqa: E402  (run as a command, it first has to find its neighbours)
sys.path[:0] = [str(Path(__file__).resolve().parent.parent / room) for room in (".", "aggregator", "protocol")]

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fleet_kit import Member
from noted_state import NotedState

from tasuki.sdk import artifact, enrolment, exchange, link
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import LinkError
from tasuki.sdk.signing import Software

STOP = "stop"
# How many updates one device may have waiting.
MOST = 3
# Every second life of a device sends what is larger than this in parts; an update has some three times as many bytes.
SMALL = 120


def device_key(name: str) -> Software:
    return Software(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b".")))


def live(name: str, folder: Path, parts: Artifact, pause: float, rng: random.Random) -> None:
    """One device's life. `pause` is the longest between two syncs, in seconds."""
    member = Member(enrolment.decode((folder / f"{name}.enrol.json").read_bytes()), device_key(name), parts)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(word: str, sequence: int, digest: bytes) -> None:
        os.write(log, f"{word} {sequence} {digest.hex()}\n".encode())
        os.fsync(log)

    state = NotedState(folder / name, parts.hash, note)
    while True:
        stopping = (folder / STOP).exists()
        waiting = len(state.spooled())
        if stopping and not waiting:
            break
        if not stopping and (waiting == 0 or (waiting < MOST and rng.random() < 0.3)):
            version = state.number("version")

            def seal(sequence: int, version: int = version) -> bytes:
                message = member.message(version, sequence, seed=rng.getrandbits(32))
                note("sealed", sequence, hashlib.sha256(message).digest())
                return message

            state.spool(version, seal, supersede=False)
        with contextlib.suppress(LinkError):
            link.sync(state, member.enrolment, parts, timeout=15.0, signer=member.key, rng=rng)
        time.sleep(rng.uniform(0.0, pause))
    state.close()


class Nursery:
    """The devices that run, by name."""

    def __init__(self, folder: Path, parts: Artifact, pause: float, seed: int) -> None:
        self._folder, self._parts, self._pause, self._seed = folder, parts, pause, seed
        self._lives: Counter[str] = Counter()
        self._running: dict[str, int] = {}
        self._failed: dict[str, int] = {}

    def start(self, name: str) -> None:
        self._lives[name] += 1
        child = os.fork()
        if child:
            self._running[name] = child
            return
        code = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            rng = random.Random(f"{self._seed} {name} {self._lives[name]}")
            if self._lives[name] % 2:
                exchange.WHOLE_BYTES = SMALL
            live(name, self._folder, self._parts, self._pause, rng)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def kill(self, name: str) -> None:
        self._reap()
        child = self._running.pop(name, None)
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def look(self) -> dict[str, Any]:
        self._reap()
        return {"running": sorted(self._running), "failed": self._failed, "bytes": self._own_bytes()}

    def _reap(self) -> None:
        for name, child in list(self._running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del self._running[name]
                if status:
                    self._failed[name] = status

    def _own_bytes(self) -> list[int]:
        """Each device's proportional share of memory, in bytes (Linux)."""
        sizes = []
        for child in self._running.values():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
                sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")]
        return sizes

    def end(self) -> None:
        for name in list(self._running):
            self.kill(name)


def main() -> None:
    folder, artifact_file, pause, seed = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    nursery = Nursery(folder, artifact.load(artifact_file), pause, seed)
    try:
        for line in sys.stdin:
            order, *name = json.loads(line)
            answer = getattr(nursery, {"start": "start", "kill": "kill", "look": "look"}[order])(*name)
            print(json.dumps(answer), flush=True)
    finally:
        nursery.end()


if __name__ == "__main__":
    main()
