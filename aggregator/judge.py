"""The judge: a candidate is published only if it answers held-out texts as well as what it would replace."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import adapter
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import InputError
from tasuki.sdk.runtime import Body

MAX_TEXTS: Final = 20_000


@dataclass(frozen=True)
class HeldOut:
    """Features float32 [n, d], base logits float32 [n, C] and targets [n] of the held-out texts.

    They are answered as devices do, with the artifact's `temperature`.
    """

    features: Floats
    base: Floats
    targets: NDArray[np.intp]
    temperature: float

    def accuracy(self, head: Head) -> float:
        """Share of right answers, 0 to 1."""
        scores = adapter.fleet_logits(head, self.features, self.base, self.temperature)
        return float((scores.argmax(1) == self.targets).mean())


def read(path: Path, labels: Sequence[str]) -> list[tuple[str, str]]:
    """Texts and labels of a JSON-lines file ``{"text": ..., "label": ...}``. Raises InputError with the line."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the held-out texts {path} can't be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            text, label = row["text"], row["label"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f'{path}:{number} is not {{"text": ..., "label": ...}}') from None
        if label not in labels:
            raise InputError(f"{path}:{number} has the label {label!r}, which the artifact does not know")
        found.append((str(text), str(label)))
    if not 1 <= len(found) <= MAX_TEXTS:
        raise InputError(f"{path} has {len(found)} texts; 1 to {MAX_TEXTS} are wanted")
    return found


def embed(artifact: Artifact, rows: Sequence[tuple[str, str]]) -> HeldOut:
    """Run the frozen body once over the held-out texts."""
    tokenizer = artifact.tokenizer()
    body = Body(artifact.model, artifact.outputs)
    features, base = zip(*(body.run(tokenizer.encode(text)) for text, _ in rows), strict=True)
    targets = np.array([artifact.labels.index(label) for _, label in rows])
    return HeldOut(np.stack(features), np.stack(base), targets, artifact.temperature)
