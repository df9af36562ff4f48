"""What the caller of a conversion asks for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Activations = Literal["int8", "int16", "float"]


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for; None: the source's own, or the standard.

    `data` is `smart-home`, `chat` or a file of texts; `text_column` and `label_column` name its columns. `tokens` is
    the length of the input, for a decoder its context. `vocabulary` bounds the pieces that are kept. `tokenizer` and
    `labels` are files that go with a Keras model. With a `command` there is a report.
    """

    data: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    tier: str | None = None
    tokens: int | None = None
    depths: tuple[int, ...] = ()
    activations: Activations = "int8"
    vocabulary: int | None = None
    tokenizer: Path | None = None
    labels: Path | None = None
    name: str | None = None
    seed: int = 0
    key: Ed25519PrivateKey | None = None
    command: str | None = None
