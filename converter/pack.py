"""The artifact's bytes: flatbuffer, then a ZIP with tokenizer, moment and manifest. Same parts, same bytes."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasuki.sdk.adapter import Floats
from tasuki.sdk.artifact import FORMAT, MANIFEST, MOMENT, VOCABULARY, describe
from tasuki.sdk.tokenizer import Tokenizer

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(model: bytes, vocabulary: tuple[str, ...], moment: Floats, about: Mapping[str, Any]) -> bytes:
    """One `.tflite` file; `about` has the manifest's fields but `format` and `parts`."""
    Tokenizer(vocabulary, 1)  # starts with the two special pieces, or ValueError
    parts = {VOCABULARY: "\n".join(vocabulary).encode(), MOMENT: moment.astype("<f4").tobytes()}
    listed = {name: describe(content) for name, content in {"model": model, **parts}.items()}
    manifest = json.dumps({**about, "format": FORMAT, "parts": listed}, sort_keys=True, separators=(",", ":"))
    stream = io.BytesIO(model)
    stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in {MANIFEST: manifest.encode(), **parts}.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def second_moment(features: Floats) -> Floats:
    """``mean(x x^T)`` with ``x = (features, 1)``, float32 [d + 1, d + 1]."""
    inputs = np.concatenate([features, np.ones((len(features), 1), np.float32)], 1).astype(np.float64)
    return np.asarray(inputs.T @ inputs / len(inputs), np.float32)
