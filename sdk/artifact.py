"""The artifact: one `.tflite` file with tokenizer, manifest and signature appended as a ZIP (SPEC.md, "Artifact").

Nothing in the file is trusted before its size and hash are checked against the manifest, nor the manifest before its
signature where a key is given. The artifact's own hash is the SHA-256 of the whole file.
"""

import hashlib
import mmap
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import archive, manifest
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactForeign,
    ArtifactForged,
    ArtifactMissing,
    ArtifactUnsigned,
    KeyInvalid,
)
from tasuki.sdk.runtime import Mapped, Outputs
from tasuki.sdk.tokenizer import PAD, PAD_PIECE, UNKNOWN_PIECE, Tokenizer

if TYPE_CHECKING:
    # At run time only where a signature is checked: a board without a trusted key need not load it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
VOCABULARY: Final = "vocab.txt"
TOKENIZER_JSON: Final = "tokenizer.json"
MOMENT: Final = "moment.bin"
# In the order in which they stand in the file.
PARTS: Final = (VOCABULARY, TOKENIZER_JSON, MOMENT)
MAX_MODEL_BYTES: Final = 512 << 20
MAX_PART_BYTES: Final = 64 << 20
MAX_MANIFEST_BYTES: Final = 1 << 20
SIGNATURE_BYTES: Final = 64
_MAX_BYTES: Final = MAX_MODEL_BYTES + 2 * MAX_PART_BYTES + MAX_MANIFEST_BYTES
_IDENTIFIER: Final = b"TFL3"
_SIGNED: Final = b"tasuki artifact v2\0"
# Hashed at a time, then let go of where the file is mapped; a multiple of every page size.
_STEP: Final = 1 << 20


class TextEncoder(Protocol):
    """What turns a text into the model's input."""

    tokens: int

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, int32 [tokens]."""


class Artifact(NamedTuple):
    """What a device needs of the file.

    `features` is the number of all features, of which `widths[i]` are of depth `depths[i]`; `logits` is the number of
    base logits. `moment` is float32 [features + 1, features + 1], or [0, 0] for the task `causal`. `conformal` has rows
    of error level and threshold. `vocabulary` is empty where the tokenizer is a checkpoint's. `kinds` are the adapters
    that it admits, and `low_rank` rank and seed of that kind's projection. `vocabulary_layer` and `vocabulary_bias` are
    the tensors in the model's first subgraph that hold weight [logits, features] and bias of a causal model's last
    layer, where the manifest names them.
    """

    hash: bytes
    size: int
    model: bytes | Mapped
    manifest: Mapping[str, Any]
    labels: tuple[str, ...]
    tokens: int
    features: int
    temperature: float
    outputs: Outputs
    vocabulary: tuple[str, ...]
    moment: NDArray[np.float32]
    task: str = "classify"
    depths: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    logits: int = 0
    conformal: tuple[tuple[float, float], ...] = ()
    tokenizer_json: bytes | None = None
    pad: int = PAD
    signature: bytes | None = None
    kinds: tuple[str, ...] = ()
    low_rank: tuple[int, int] | None = None
    vocabulary_layer: int | None = None
    vocabulary_bias: int | None = None

    def tokenizer(self) -> TextEncoder:
        """The tokenizer that the model was made with. Raises MissingExtra, ArtifactCorrupt."""
        if self.tokenizer_json is not None:
            from tasuki.sdk.checkpoint_tokenizer import CheckpointTokenizer

            return CheckpointTokenizer(self.tokenizer_json, self.tokens, self.pad)
        return Tokenizer(self.vocabulary, self.tokens)


def load(path: str | Path, trusted: "Ed25519PublicKey | None" = None, mapped: bool = False) -> Artifact:
    """Read and check the artifact at `path`; with `trusted`, its signature must be there and by that key.

    With `mapped`, the model is not copied: size and hashes are checked over a read-only mapping, whose pages are let go
    of as they are read, and the runtime maps the same open file. A file that is later put in its place changes nothing.
    Whoever can write into this very file could still alter the model after the check, and truncating it would end the
    process (SIGBUS): replace artifacts, never overwrite them, and leave them to the user who runs this, or to root.

    Raises ArtifactMissing, ArtifactForeign, ArtifactCorrupt, ArtifactUnsigned or ArtifactForged.
    """
    if not mapped:
        return parse(read(path), str(path), trusted)
    path = Path(path)
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            _bounded(size, path)
            if not size:
                raise ArtifactForeign(f"{path} is empty; make an artifact with `tasuki convert`")
            kept = Mapped(os.dup(stream.fileno()))
            with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as data:
                return _checked(data, str(path), trusted, kept)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def read(path: str | Path) -> bytes:
    """The bytes of the file at `path`, unchecked but for their number. Raises ArtifactMissing or ArtifactForeign."""
    path = Path(path)
    try:
        _bounded(path.stat().st_size, path)
        with path.open("rb") as stream:
            return stream.read(_MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None


def parse(data: bytes, name: str = "the artifact", trusted: "Ed25519PublicKey | None" = None) -> Artifact:
    """The artifact in `data`; `name` is used in messages. Raises as `load` does, but for ArtifactMissing."""
    return _checked(data, name, trusted, None)


def signed_bytes(encoded: bytes) -> bytes:
    """What the signature is over, for the bytes of the manifest."""
    return _SIGNED + encoded


def trusted_key(path: str | Path) -> "Ed25519PublicKey":
    """The public key that `tasuki key` wrote to `path` (PEM). Raises KeyInvalid."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        with Path(path).open("rb") as stream:
            key = load_pem_public_key(stream.read(4096))
    except OSError as error:
        raise KeyInvalid(f"the public key {path} can't be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyInvalid(f"{path} is not an Ed25519 public key (PEM, as `tasuki key` writes it)")
    return key


def _bounded(size: int, path: Path) -> None:
    if size > _MAX_BYTES:
        raise ArtifactForeign(f"{path} is larger than any artifact may be ({_MAX_BYTES >> 20} MiB)")


def _unreadable(path: Path, error: Exception) -> ArtifactMissing:
    if isinstance(error, FileNotFoundError):
        return ArtifactMissing(f"there is no file {path}; make one with `tasuki convert`")
    return ArtifactMissing(f"{path} can't be read: {getattr(error, 'strerror', None) or error}")


def _checked(data: archive.Data, name: str, trusted: "Ed25519PublicKey | None", mapped: Mapped | None) -> Artifact:
    if data[4:8] != _IDENTIFIER:
        raise ArtifactForeign(f"{name} is not a .tflite file; make one with `tasuki convert`")
    try:
        return _parse(data, name, trusted, mapped)
    except (ValueError, RecursionError) as error:
        raise ArtifactCorrupt(f"{name} is damaged ({error}); fetch it again") from None


def _parse(data: archive.Data, name: str, trusted: "Ed25519PublicKey | None", mapped: Mapped | None) -> Artifact:
    try:
        members = archive.listing(data)
    except ValueError:
        raise ArtifactCorrupt(
            f"{name} has no manifest at its end: it is truncated, or was not made by `tasuki convert`"
        ) from None
    entries = {member.name: member for member in members}
    if MANIFEST not in entries:
        raise ArtifactForeign(f"{name} has metadata, but no {MANIFEST}: it was not made by `tasuki convert`")
    if len(entries) != len(members):
        raise ValueError("a member is there twice")
    archive.check(data, members)
    encoded = archive.content(data, entries.pop(MANIFEST), MAX_MANIFEST_BYTES)
    sealed = entries.pop(SIGNATURE, None)
    signature = None if sealed is None else archive.content(data, sealed, SIGNATURE_BYTES)
    if trusted is not None:
        _verify(encoded, signature, trusted, name)
    fields = manifest.read(encoded)
    _check_format(fields.get("format"), name)
    manifest.check(fields)
    _check_members(entries, fields)
    end = members[0].offset
    if end > MAX_MODEL_BYTES:
        raise ValueError("the model is too large")
    found = {part: archive.content(data, entry, MAX_PART_BYTES) for part, entry in entries.items()}
    model_hash, whole_hash = _hashes(data, end)
    described = {part: describe(content) for part, content in found.items()}
    for part, entry in {"model": {"bytes": end, "sha256": model_hash}, **described}.items():
        if fields["parts"][part] != entry:
            raise ValueError(f"{part} is not what the manifest says")
    if [member.name for member in members] != order(found, signature is not None):
        raise ValueError("the members are in another order")
    model = data[:end] if mapped is None else mapped
    return _made(fields, whole_hash, len(data), model, found, signature)


def order(parts: Collection[str], signed: bool) -> list[str]:
    """The names of all members in the order of the file."""
    return [MANIFEST, *([SIGNATURE] if signed else []), *(part for part in PARTS if part in parts)]


def _verify(encoded: bytes, signature: bytes | None, trusted: "Ed25519PublicKey", name: str) -> None:
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise ArtifactUnsigned(f"{name} is not signed; sign it with `tasuki sign`, or fetch the signed one")
    try:
        trusted.verify(signature, signed_bytes(encoded))
    except InvalidSignature:
        raise ArtifactForged(f"{name} was altered, or signed with another key; do not use it") from None


def _check_format(found: Any, name: str) -> None:
    if type(found) is int and found in manifest.FORMATS:
        return
    if type(found) is int and 1 <= found < manifest.FORMATS[0]:
        raise ArtifactForeign(
            f"{name} has format {found}, which this version no longer reads: convert the student again"
        )
    raise ArtifactForeign(f"{name} has a format that this version does not know; update tasuki")


def _check_members(found: Collection[str], fields: Mapping[str, Any]) -> None:
    wanted = {MOMENT} if fields["task"] == "classify" else set()
    if set(found) not in (wanted | {VOCABULARY}, wanted | {TOKENIZER_JSON}):
        raise ValueError(f"it has other members than a {fields['task']} artifact: {', '.join(sorted(found))}")
    if set(fields["parts"]) != {"model", *found}:
        raise ValueError("the manifest lists other parts")


def _made(
    fields: dict[str, Any], whole_hash: bytes, size: int, model: bytes | Mapped, found: Mapping[str, bytes],
    signature: bytes | None,
) -> Artifact:  # fmt: skip
    widths = tuple(feature["width"] for feature in fields["features"])
    low_rank, last = fields.get("low_rank"), fields.get("vocabulary", {})
    return Artifact(
        hash=whole_hash,
        size=size,
        model=model,
        manifest=fields,
        labels=tuple(fields["labels"]),
        tokens=fields["tokens"],
        features=sum(widths),
        temperature=float(fields["temperature"]),
        outputs=Outputs(tuple(f["output"] for f in fields["features"]), fields["logits"]["output"]),
        vocabulary=_vocabulary(found[VOCABULARY], fields["pad"]) if VOCABULARY in found else (),
        moment=_moment(found[MOMENT], sum(widths)) if MOMENT in found else np.zeros((0, 0), np.float32),
        task=fields["task"],
        depths=tuple(feature["depth"] for feature in fields["features"]),
        widths=widths,
        logits=fields["logits"]["width"],
        conformal=tuple((float(level), float(threshold)) for level, threshold in fields["conformal"]),
        tokenizer_json=found.get(TOKENIZER_JSON),
        pad=fields["pad"],
        signature=signature,
        kinds=tuple(fields["adapter_kinds"]),
        low_rank=(low_rank["rank"], low_rank["seed"]) if low_rank else None,
        vocabulary_layer=last.get("weight"),
        vocabulary_bias=last.get("bias"),
    )


def _hashes(data: archive.Data, end: int) -> tuple[str, bytes]:
    """SHA-256 of the first `end` bytes, in hex, and of all."""
    found = hashlib.sha256()
    with memoryview(data) as view:
        for start in range(0, end, _STEP):
            found.update(view[start : min(start + _STEP, end)])
            if isinstance(data, mmap.mmap):
                data.madvise(mmap.MADV_DONTNEED, start, min(_STEP, len(data) - start))
        model = found.hexdigest()
        found.update(view[end:])
    return model, found.digest()


def _vocabulary(content: bytes, pad: int) -> tuple[str, ...]:
    if content.count(b"\n") >= manifest.MAX_VOCABULARY:
        raise ValueError(f"{VOCABULARY} has too many pieces")
    pieces = tuple(content.decode().split("\n"))
    if pieces[:2] != (PAD_PIECE, UNKNOWN_PIECE) or pad != PAD:
        raise ValueError(f"{VOCABULARY} does not start with {PAD_PIECE} and {UNKNOWN_PIECE}, or another id pads")
    return pieces


def _moment(content: bytes, features: int) -> NDArray[np.float32]:
    if len(content) != 4 * (features + 1) ** 2:
        raise ValueError(f"{MOMENT} is not of the size that the manifest's features say")
    moment = np.frombuffer(content, "<f4").reshape(features + 1, features + 1)
    if not (np.isfinite(moment).all() and np.allclose(moment, moment.T, atol=1e-4)):
        raise ValueError(f"{MOMENT} is not symmetric and finite")
    return moment.astype(np.float32)


def describe(content: bytes) -> dict[str, Any]:
    """The manifest's entry of one part: its size in bytes and SHA-256 in hex."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
