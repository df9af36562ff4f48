"""Write the vectors of compressed tables: `python tests/vectors/make_codec_vectors.py`. Deterministic.

`tables` are bytes with what they decode to; `refused` are bytes with the reason.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tasuki.sdk import compression
from tasuki.sdk.compression import Setting
from tasuki.sdk.metric import Metric

FILE = Path(__file__).parent / "codec-2.json"
ROWS, COLUMNS = 9, 21
SEED = 20
BUDGETS = (1, 20, 40, 80, 400)
SETTINGS = (
    Setting("whitened", "rows", 0.03),
    Setting("whitened", "rows", 0.06),
    Setting("plain", "rows", 0.2),
    Setting("whitened", "top", 0.2, 1),
    Setting("whitened", "top", 0.3, 2, 7),
    Setting("whitened", "worth", 0.4, 4),
    Setting("whitened", "dense", 1.0, 8, 21),
    Setting("plain", "top", 0.75, 4),
    Setting("plain", "top", 0.3, 4, 5, "stochastic"),
    Setting("plain", "random", 0.5, 2, 0, "stochastic"),
    Setting("plain", "random", 0.25, 8, 4),
    Setting("plain", "dense", 1.0, 1, 21),
    Setting("plain", "dense", 1.0, 2),
    Setting("plain", "dense", 1.0, 4, 0, "stochastic"),
)


def steps(count: int, state: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole numbers from -128 to 127 by a linear congruential generator, so that they need no library."""
    found = []
    for _ in range(count):
        state = (1103515245 * state + 12345) % (1 << 31)
        found.append((state >> 16) % 256 - 128)
    return np.array(found)


def moment() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [COLUMNS, COLUMNS]; every number is exact."""
    texts = steps(64 * COLUMNS, 1).reshape(64, COLUMNS) / 128
    texts[:, -1] = 1
    return np.asarray(texts.T @ texts / 64, np.float32)


def table() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 [ROWS, COLUMNS]: rows of very unequal lengths, one of them all 0."""
    lengths = 0.5 ** np.array([2, 0, 5, 9, 1, 3, 7, 4, 6])
    lengths[3] = 0
    return np.asarray(steps(ROWS * COLUMNS, 2).reshape(ROWS, COLUMNS) / 128 * lengths[:, None], np.float32)


def build() -> dict[str, Any]:
    metric, given = Metric(moment()), table()
    made = [
        {"setting": asdict(setting), "bytes": compression.compress(given, setting, metric, SEED).hex()}
        for setting in SETTINGS
    ]
    for budget in BUDGETS:
        data, setting = compression.auto(given, budget, metric, SEED, 100.0)
        made.append({"budget": budget, "setting": asdict(setting), "bytes": data.hex()})
    for row in made:
        decoded = compression.decompress(bytes.fromhex(row["bytes"]), ROWS, COLUMNS, metric)
        row["table"] = [[float(f"{value:.5g}") for value in line] for line in decoded.tolist()]
    good = bytes.fromhex(made[5]["bytes"])
    words = bytes.fromhex(made[1]["bytes"])
    wrong = {
        "empty": b"",
        "one byte, not 0": b"\x01",
        "zeros, and more": b"\x00\x00",
        "levels as words": bytes([good[0] | 8]) + good[1:],
        "words as levels": bytes([words[0] & 7]) + words[1:],
        "words with blocks": bytes([words[0] | 4]) + words[1:],
        "words with a tail": bytes([words[0] | 16]) + words[1:],
        "words of no kind": words[:5] + bytes([words[5] & 31]) + words[6:],
        "words cut": words[:-1],
        "words go on": words + b"\x00",
        "tail of 8": bytes([good[0] & 15 | 0x80]) + good[1:],
        "scale of 0": good[:1] + b"\x00\x00" + good[3:],
        "scale of 2^64": good[:1] + b"\x5f\x80" + good[3:],
        "infinite scale": good[:1] + b"\x7f\x80" + good[3:],
        "no number": good[:1] + b"\x7f\xc0" + good[3:],
        "no row": good[:3] + b"\x00\x00" + good[5:],
        "a row too many": good[:4] + bytes([good[4] | 1]) + good[5:],
        "cut": good[:-1],
        "goes on": good + b"\x00",
        "a byte between": good[:12] + b"\x00" + good[12:],
        "too long": good + bytes(4 * ROWS * (COLUMNS + 1)),
    }
    return {
        "rows": ROWS,
        "columns": COLUMNS,
        "seed": SEED,
        "moment": moment().astype("<f4").tobytes().hex(),
        "table": table().astype("<f4").tobytes().hex(),
        "tables": made,
        "refused": [
            {
                "what": what,
                "bytes": data.hex(),
                "reason": "not finite" if what in ("infinite scale", "no number") else "malformed",
            }
            for what, data in wrong.items()
        ],
    }


def text(built: dict[str, Any]) -> str:
    return json.dumps(built, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(build()))
