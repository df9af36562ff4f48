"""Bytes of an update against the fleet's accuracy, codec by codec.

The judge is left out: whether it lets a round pass hangs on a few answers, which would hide what a codec loses.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tasuki.benchmarks import protocol_fleet
from tasuki.benchmarks.protocol_fleet import Codec, Fleet, coded, compressed, float32, int8_rows, points_lost, within
from tasuki.sdk.compression import Setting
from tasuki.sdk.fleet_table import FleetTable

# How much of the error memory stays, chosen on split 1000. What errs by chance and without bias has none: its error is
# larger than what it is given, and would grow from round to round.
DECAY: Final = 0.9
_UNBIASED: Final = ("random", "stochastic")
_SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
# Of the table's bytes in float32.
_PARTS: Final = (120, 60, 45, 30, 20, 15)


def settings(table: FleetTable, quick: bool) -> dict[str, Codec]:
    """Codecs by name: basis, sparsity, bits and rounding of `tasuki.sdk.compression`, and int8 rows."""
    shares, parts = (_SHARES[2:3], _PARTS[2:3]) if quick else (_SHARES, _PARTS)
    found = {f"rows/1:{part}": Setting("whitened", "rows", 1 / part) for part in parts}
    for bits in (1, 2, 4, 8):
        found |= {f"top {bits} bit/{share:.0%}": Setting("whitened", "top", share, bits) for share in shares}
    for bits in (1, 4):
        found[f"dense {bits} bit nearest/100%"] = Setting("whitened", "dense", 1.0, bits)
        found[f"dense {bits} bit stochastic/100%"] = Setting("whitened", "dense", 1.0, bits, rounding="stochastic")
    for share in shares:
        found[f"worth 4 bit/{share:.0%}"] = Setting("whitened", "worth", share, 4)
        found[f"random 4 bit/{share:.0%}"] = Setting("whitened", "random", share, 4, rounding="stochastic")
        found[f"plain top 4 bit/{share:.0%}"] = Setting("plain", "top", share, 4)
    return {"int8 rows": int8_rows(table), **{name: compressed(table, setting) for name, setting in found.items()}}


def budgets(table: FleetTable, quick: bool) -> dict[str, Codec]:
    """Codecs by name: what is chosen by itself for a part of the table's bytes in float32, and int8 rows."""
    parts = _PARTS[2:3] if quick else _PARTS
    return {
        "int8 rows": int8_rows(table),
        **{f"auto/1:{part}": within(table, table.float32_bytes // part) for part in parts},
    }


def run(
    fleets: Sequence[Fleet], codecs: Mapping[str, Codec], seed: int, told: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """For each codec `bytes` of an update, `accuracy`, and `points_lost` beside `float32`, which is there, too."""
    reference = [protocol_fleet.run(fleet, coded(float32, seed + n), veto=False) for n, fleet in enumerate(fleets)]
    found: dict[str, Any] = {
        "float32": {
            "bytes": fleets[0].table.float32_bytes,
            "accuracy": float(np.mean([outcome.accuracy for outcome in reference])),
        }
    }
    for number, (name, made) in enumerate(codecs.items()):
        told(number, len(codecs), name)
        decay = 0.0 if any(word in name for word in _UNBIASED) else DECAY
        outcomes = [
            protocol_fleet.run(fleet, coded(made, seed + n, decay), veto=False) for n, fleet in enumerate(fleets)
        ]
        found[name] = {
            "bytes": float(np.mean([size for outcome in outcomes for size in outcome.sizes])),
            "accuracy": float(np.mean([outcome.accuracy for outcome in outcomes])),
            "points_lost": points_lost(reference, outcomes),
        }
    told(len(codecs), len(codecs), "")
    return found
