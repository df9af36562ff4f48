"""What must hold at the end of a soak, from the devices' own logs and the gateway's ledger."""

import shutil
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tasuki.sdk.errors import Refusal


@dataclass
class Told:
    """One device's log: digests by sequence number, as it sealed them and as it was told of them."""

    sealed: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    admitted: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    refused: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def read(cls, path: Path) -> "Told":
        """Raises ValueError for a line that is none."""
        told = cls()
        for line in path.read_text().splitlines():
            word, sequence, digest = line.split(" ")
            if word not in ("sealed", "admitted", "refused") or len(bytes.fromhex(digest)) != 32:
                raise ValueError(f"{path.name}: {line!r}")
            getattr(told, word)[int(sequence)].add(digest)
        return told


@dataclass(frozen=True)
class Row:
    """One entry of the ledger."""

    device: str
    sequence: int
    digest: str
    status: int


def rows(ledger: Path) -> list[Row]:
    """Every entry, read by SQLite itself."""
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as db:
        found = db.execute("SELECT device, sequence, hex(digest), status FROM updates").fetchall()
    db.close()
    return [Row(device, sequence, digest.lower(), status) for device, sequence, digest, status in found]


def problems(told: dict[str, Told], entries: list[Row], highest: dict[str, int]) -> list[str]:
    """All that is wrong; nothing, if each update was decided once, and device and gateway know of the same decision.

    `highest` is the last sequence number that each device's state has given.
    """
    found = []
    in_ledger: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in entries:
        in_ledger[row.device, row.sequence].append(row)
    digests = [row.digest for row in entries]
    found += [f"{digest} is in the ledger {digests.count(digest)} times" for digest in _twice(digests)]
    for (device, sequence), several in in_ledger.items():
        if len(several) > 1:
            found.append(f"{device} {sequence} is in the ledger {len(several)} times")
        if device not in told or not {row.digest for row in several} <= told[device].sealed[sequence]:
            found.append(f"{device} {sequence} is in the ledger, but the device never sealed it")
    for device, log in told.items():
        for sequence in range(1, highest[device] + 1):
            kept = {row.digest: row.status for row in in_ledger[device, sequence]}
            admitted, refused = log.admitted[sequence], log.refused[sequence]
            found += [
                f"{device} {sequence} was acknowledged as admitted, and is not in the ledger as that"
                for digest in admitted
                if kept.get(digest) != Refusal.ADMITTED
            ]
            found += [
                f"{device} {sequence} was acknowledged as refused, and is admitted in the ledger"
                for digest in refused
                if kept.get(digest) == Refusal.ADMITTED
            ]
            if not admitted and not refused:
                found.append(f"{device} {sequence} was never acknowledged")
            if Refusal.ADMITTED in kept.values() and not admitted:
                found.append(f"{device} {sequence} is admitted in the ledger, and the device never learnt it")
    return found


def _twice(digests: list[str]) -> list[str]:
    return (
        sorted({digest for digest in digests if digests.count(digest) > 1}) if len(set(digests)) < len(digests) else []
    )


def heads(gateway: Path) -> list[tuple[int, int, bytes]]:
    """Version, number of merged updates and joined coefficients of every published version."""
    from tasuki.aggregator.gateway import Rules

    rules = Rules(gateway)
    try:
        return [(made.version, made.devices, made.message) for made in rules.ledger.versions()]
    finally:
        rules.ledger.close()


def replay(gateway: Path, work: Path) -> list[tuple[int, int, bytes]]:
    """`heads` of a gateway on which nothing is killed, and which admits what `gateway` has admitted, in its order."""
    from tasuki.aggregator.gateway import Rules

    shutil.copytree(gateway, work)
    with sqlite3.connect(work / "ledger.db") as db:
        db.execute("DELETE FROM versions")
        last = db.execute("SELECT COALESCE(MAX(base_version), 0) FROM updates WHERE status=0").fetchone()[0]
        everything = db.execute("SELECT * FROM updates WHERE status=0 ORDER BY received").fetchall()
        db.execute("DELETE FROM updates")
    db.close()
    made = heads(gateway)
    for version in range(min(last + 1, len(made) - 1)):
        with sqlite3.connect(work / "ledger.db") as db:
            db.executemany(
                "INSERT INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)", [row for row in everything if row[2] == version]
            )
        db.close()
        rules = Rules(work)
        # Any share of the devices is enough here.
        rules.close_round(1e-9, 1e-9)
        rules.ledger.close()
    return heads(work)
