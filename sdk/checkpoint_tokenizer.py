"""The tokenizer of a Hugging Face checkpoint (`tokenizer.json`), by the package `tokenizers`, which only it needs."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, MissingExtra


class CheckpointTokenizer:
    """What `tokenizer.json` says, padded with the id `pad` and cut at `tokens` ids, special tokens kept.

    Raises MissingExtra without the package, ArtifactCorrupt if the package can't use `description`.
    """

    def __init__(self, description: bytes, tokens: int, pad: int) -> None:
        self.tokens = tokens
        self._made: Any = _made(description)
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


class TextTokenizer:
    """What `tokenizer.json` says of texts that are written on: no special token added, nothing cut, and back to text.

    `vocabulary` is the number of ids that the model has. Not thread-safe. Raises as `CheckpointTokenizer`.
    """

    def __init__(self, description: bytes, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._made = _made(description)
        _guarded(self._made.no_truncation)
        _guarded(self._made.no_padding)
        # Its decoder joins bytes, whatever stands beside them.
        self.joins = type(self._made.decoder).__name__ == "ByteLevel"
        added = _guarded(self._made.get_added_tokens_decoder)
        self.skipped = frozenset(token for token, about in added.items() if about.special)
        self._pieces: dict[int, str] = {}
        self.decode(self.encode("a"))

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of `text`. Lone surrogates become ``?``.

        With `special`, the name of a special token in the text is that token, else it is text as any other. Raises
        ArtifactCorrupt.
        """
        cleaned = text.encode("utf-8", "replace").decode()
        self._made.encode_special_tokens = not special
        ids: list[int] = _guarded(lambda: self._made.encode(cleaned, add_special_tokens=False).ids)
        if ids and max(ids) >= self._vocabulary:
            raise ArtifactCorrupt(f"tokenizer.json gives the id {max(ids)}, and the model has {self._vocabulary}")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD. Raises ArtifactCorrupt."""
        text: str = _guarded(self._made.decode, ids)
        return text

    def piece(self, token: int) -> str:
        """The text of one token by itself. Raises ArtifactCorrupt."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self.decode([token])
        return found


def _made(description: bytes) -> Any:
    """The library's tokenizer. Raises MissingExtra, ArtifactCorrupt."""
    try:
        library = importlib.import_module("tokenizers")
    except ModuleNotFoundError:
        raise MissingExtra(
            "the artifact's tokenizer comes from a checkpoint: pip install 'tasuki[tokenizers]'"
        ) from None
    return _guarded(lambda: library.Tokenizer.from_str(description.decode()))


def _guarded(action: Any, *arguments: Any, **named: Any) -> Any:
    """Call the library; what it raises on a bad description, a panic of its Rust code too, is ArtifactCorrupt."""
    try:
        return action(*arguments, **named)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ArtifactCorrupt(f"tokenizer.json can't be used: {error}") from None
        raise
