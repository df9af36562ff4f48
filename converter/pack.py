"""The artifact's bytes: flatbuffer, then a ZIP with manifest, signature and parts. Same parts, same bytes."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasuki.sdk import archive, artifact, manifest
from tasuki.sdk.adapter import Floats
from tasuki.sdk.errors import ArtifactError, ConversionError


def pack(
    model: bytes, parts: Mapping[str, bytes], about: Mapping[str, Any], key: Ed25519PrivateKey | None = None
) -> bytes:
    """One `.tflite` file; `about` has the manifest's fields but `format` and `parts`. Signed where there is a `key`.

    Raises ConversionError if it would not be an artifact that the reader takes.
    """
    listed = {name: artifact.describe(content) for name, content in {"model": model, **parts}.items()}
    try:
        encoded = manifest.write({**about, "format": manifest.FORMAT, "parts": listed})
        data = _joined(model, encoded, parts, key)
        artifact.parse(data)
    except (ArtifactError, ValueError, TypeError) as error:
        raise ConversionError(f"this makes no artifact: {error}") from None
    return data


def sign(data: bytes, key: Ed25519PrivateKey, name: str = "the artifact") -> bytes:
    """The artifact in `data` with a signature by `key` instead of the one that it may have.

    This changes the artifact's hash: sign before devices are enrolled. `name` is used in messages.
    Raises ArtifactError.
    """
    model, encoded, parts = _taken(data, name)
    return _joined(model, encoded, parts, key)


def vocabulary_bytes(pieces: Sequence[str]) -> bytes:
    """`vocab.txt`: one piece a line, by id."""
    return "\n".join(pieces).encode()


def moment_bytes(moment: Floats) -> bytes:
    """`moment.bin`: float32 [d + 1, d + 1], little-endian, row by row."""
    return moment.astype("<f4").tobytes()


def second_moment(features: Floats) -> Floats:
    """``mean(x x^T)`` with ``x = (features, 1)``, float32 [d + 1, d + 1]."""
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], 1).astype(np.float64)
    return np.asarray(inputs.T @ inputs / len(inputs), np.float32)


def write(path: Path, data: bytes) -> None:
    """Write whole or not at all, and durably: when this returns, a power cut does not take it away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _joined(model: bytes, encoded: bytes, parts: Mapping[str, bytes], key: Ed25519PrivateKey | None) -> bytes:
    contents = {artifact.MANIFEST: encoded, **parts}
    if key is not None:
        contents[artifact.SIGNATURE] = key.sign(artifact.signed_bytes(encoded))
    names = artifact.order(parts, key is not None)
    if set(names) != set(contents):
        raise ValueError(f"unknown parts: {sorted(set(contents) - set(names))}")
    return archive.append(model, {name: contents[name] for name in names})


def _taken(data: bytes, name: str) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Model, manifest and parts of a checked artifact, as they stand in it."""
    artifact.parse(data, name)
    bound = artifact.MAX_PART_BYTES
    members = archive.listing(data)
    contents = {member.name: archive.content(data, member, bound) for member in members}
    encoded = contents.pop(artifact.MANIFEST)
    contents.pop(artifact.SIGNATURE, None)
    return data[: members[0].offset], encoded, contents
