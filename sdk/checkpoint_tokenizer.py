"""The tokenizer of a Hugging Face checkpoint (`tokenizer.json`), by the package `tokenizers`, which only it needs."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, MissingExtra


class CheckpointTokenizer:
    """What `tokenizer.json` says, padded with the id `pad` and cut at `tokens` ids, special tokens kept.

    Raises MissingExtra without the package, ArtifactCorrupt if the package can't use `description`.
    """

    def __init__(self, description: bytes, tokens: int, pad: int) -> None:
        try:
            library = importlib.import_module("tokenizers")
        except ModuleNotFoundError:
            raise MissingExtra(
                "the artifact's tokenizer comes from a checkpoint: pip install 'tasuki[tokenizers]'"
            ) from None
        self.tokens = tokens
        self._made: Any = _guarded(lambda: library.Tokenizer.from_str(description.decode()))
        _guarded(self._made.enable_truncation, tokens)
        _guarded(self._made.enable_padding, pad_id=pad, length=tokens)
        self.encode("")

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, int32 [tokens]. Lone surrogates become ``?``."""
        cleaned = text.encode("utf-8", "replace").decode()
        ids = _guarded(lambda: self._made.encode(cleaned).ids)
        if len(ids) != self.tokens or max(ids) > 2**31 - 1:
            raise ArtifactCorrupt(f"tokenizer.json gives {len(ids)} ids where the model takes {self.tokens}")
        return np.array(ids, np.int32)


def _guarded(action: Any, *arguments: Any, **named: Any) -> Any:
    """Call the library; what it raises on a bad description, a panic of its Rust code too, is ArtifactCorrupt."""
    try:
        return action(*arguments, **named)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ArtifactCorrupt(f"tokenizer.json can't be used: {error}") from None
        raise
