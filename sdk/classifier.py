"""From a text to the model's own integers, quickly: answering costs little more than the model itself."""

import threading
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import ArtifactCorrupt, ArtifactForeign, EmptyText, InputError, TextTooLong
from tasuki.sdk.features import Grid
from tasuki.sdk.runtime import Body, Floats, Options

MAX_TEXT_BYTES: Final = 64 << 10


# What the model gives for one text: base logits, and the features [width] of each depth where asked for. Both as they
# come, on the classifier's grids `base` and `grid`: int8, int16 or float32; the logits in any shape of C values.
Raw: TypeAlias = tuple[NDArray[Any], tuple[NDArray[Any], ...]]


class Classifier:
    """Tokenizer and body of an artifact of the task `classify`. Thread-safe: texts wait for one another.

    `grid` is the features', `base` that of the base logits. Raises ArtifactForeign for another task, ArtifactCorrupt,
    MissingExtra, InputError.
    """

    def __init__(self, parts: Artifact, options: Options = Options()) -> None:  # noqa: B008  (frozen)
        if parts.task != "classify":
            raise ArtifactForeign(f"the artifact is for the task {parts.task}; a classifier takes `classify`")
        self._tokenizer = parts.tokenizer()
        self._body = body = Body(parts.model, parts.outputs, options)
        if (body.widths, body.shape[1], body.tokens) != (parts.widths, parts.logits, parts.tokens):
            raise ArtifactCorrupt("the model's shapes are not those of the manifest")
        self.runtime = body.runtime
        self.grid, self.base = Grid(body.features), Grid((body.logits,))
        self._lock = threading.Lock()
        self._floats = any(output.dtype == np.float32 for output in (*body.features, body.logits))
        # Bound once: every text waits for this.
        self._encode, self._answer, self._features = self._tokenizer.encode, body.answer, body.raw_features

    def run(self, text: str, features: bool = True) -> Raw:
        """What the model gives for `text`, which `checked_text` let pass. Raises ArtifactCorrupt."""
        ids = self._encode(text)[None]
        with self._lock:
            raw = (self._answer(ids), self._features() if features else ())
        if self._floats and not all(np.isfinite(part).all() for part in (raw[0], *raw[1])):
            raise ArtifactCorrupt("the model gives a value that is not finite")
        return raw

    def embed(self, text: str) -> tuple[Floats, Floats]:
        """Features float32 [d] and base logits float32 [C] of `text`. Raises as `run` does."""
        logits, features = self.run(text)
        return self.grid.real(features), self.base.real((logits.reshape(-1),))


def checked_text(text: str) -> str:
    """The text as it is encoded and stored: lone surrogates become ``?``.

    Raises InputError if it is no str, TextTooLong above 64 KiB of UTF-8, EmptyText if there is nothing but white space.
    """
    if not isinstance(text, str):
        raise InputError(f"the text is {type(text).__name__}, not str")
    if text.isascii():
        if text and len(text) <= MAX_TEXT_BYTES and not text.isspace():
            return text
        size, cleaned = len(text), text
    else:
        size = len(text.encode("utf-8", "surrogatepass"))
        # Lone surrogates can't be stored as UTF-8.
        cleaned = text.encode("utf-8", "replace").decode()
    if size > MAX_TEXT_BYTES:
        raise TextTooLong(f"the text has {size:,} bytes, at most {MAX_TEXT_BYTES:,}: send one command at a time")
    if not cleaned or cleaned.isspace():
        raise EmptyText("the text is empty")
    return cleaned
