"""The artifact: one `.tflite` file with tokenizer, labels and manifest appended as a ZIP (SPEC.md, "Artifact").

Nothing in the file is trusted before its size and hash are checked against the manifest. The artifact's own hash is the
SHA-256 of the whole file.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.errors import ArtifactCorrupt, ArtifactForeign, ArtifactMissing

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
VOCABULARY: Final = "vocab.txt"
MOMENT: Final = "moment.bin"
PARTS: Final = (VOCABULARY, MOMENT)
MAX_MODEL_BYTES: Final = 512 << 20
MAX_PART_BYTES: Final = 64 << 20
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_LABELS: Final = 4096
MAX_FEATURES: Final = 4096
MAX_TOKENS: Final = 4096
_IDENTIFIER: Final = b"TFL3"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
)


@dataclass(frozen=True)
class Artifact:
    """What a device needs of the file. `moment` is float32 [features + 1, features + 1]."""

    hash: bytes
    size: int
    model: bytes
    manifest: Mapping[str, Any]
    labels: tuple[str, ...]
    tokens: int
    features: int
    temperature: float
    outputs: Mapping[str, int]
    vocabulary: tuple[str, ...]
    moment: NDArray[np.float32]


def load(path: str | Path) -> Artifact:
    """Read and check the artifact at `path`. Raises ArtifactMissing, ArtifactForeign or ArtifactCorrupt."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_MODEL_BYTES + MAX_PART_BYTES:
            raise ArtifactForeign(f"{path} is larger than any artifact may be ({MAX_MODEL_BYTES >> 20} MiB)")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactMissing(f"there is no file {path}; make one with `tasuki convert`") from None
    except OSError as error:
        raise ArtifactMissing(f"{path} can't be read: {error.strerror}") from None
    return parse(data, str(path))


def parse(data: bytes, name: str = "the artifact") -> Artifact:
    """The artifact in `data`; `name` is used in messages. Raises ArtifactForeign or ArtifactCorrupt."""
    if data[4:8] != _IDENTIFIER:
        raise ArtifactForeign(f"{name} is not a .tflite file; make one with `tasuki convert`")
    try:
        return _parse(data, name)
    except _BROKEN as error:
        raise ArtifactCorrupt(f"{name} is damaged ({error}); fetch it again") from None


def _parse(data: bytes, name: str) -> Artifact:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        raise ArtifactCorrupt(
            f"{name} has no manifest at its end: it is truncated, or was not made by `tasuki convert`"
        ) from None
    names = [entry.filename for entry in archive.infolist()]
    if MANIFEST not in names:
        raise ArtifactForeign(f"{name} has metadata, but no {MANIFEST}: it was not made by `tasuki convert`")
    if sorted(names) != sorted([MANIFEST, *PARTS]):
        raise ArtifactCorrupt(f"{name} has other members than the manifest and {', '.join(PARTS)}: not used")
    manifest = json.loads(_member(archive, MANIFEST, MAX_MANIFEST_BYTES))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactForeign(f"{name} has a format that this version does not know; update tasuki")
    listed = manifest["parts"]
    model = data[: min(entry.header_offset for entry in archive.infolist())]
    found = {"model": model, **{part: _member(archive, part, MAX_PART_BYTES) for part in PARTS}}
    if set(listed) != set(found):
        raise ValueError("the manifest lists other parts")
    for part, content in found.items():
        if listed[part] != describe(content):
            raise ValueError(f"{part} is not what the manifest says")
    return _checked(manifest, data, model, found)


def _checked(manifest: dict[str, Any], data: bytes, model: bytes, found: Mapping[str, bytes]) -> Artifact:
    labels, tokens, features = manifest["labels"], manifest["tokens"], manifest["features"]
    outputs, temperature = manifest["outputs"], manifest["temperature"]
    if not (isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)):
        raise ValueError("labels")
    if not 2 <= len(set(labels)) == len(labels) <= MAX_LABELS:
        raise ValueError("number of labels")
    if type(tokens) is not int or type(features) is not int:
        raise ValueError("sizes")
    if not (1 <= tokens <= MAX_TOKENS and 1 <= features <= MAX_FEATURES):
        raise ValueError("sizes")
    if not isinstance(temperature, (int, float)) or not 0.01 <= temperature <= 100:
        raise ValueError("temperature")
    if not isinstance(outputs, dict) or sorted(outputs) != ["features", "logits"]:
        raise ValueError("outputs")
    if sorted(outputs.values()) != [0, 1]:
        raise ValueError("outputs")
    moment = np.frombuffer(found[MOMENT], "<f4").reshape(features + 1, features + 1)
    if not (np.isfinite(moment).all() and np.allclose(moment, moment.T, atol=1e-4)):
        raise ValueError(MOMENT)
    return Artifact(
        hash=hashlib.sha256(data).digest(),
        size=len(data),
        model=model,
        manifest=manifest,
        labels=tuple(labels),
        tokens=tokens,
        features=features,
        temperature=float(temperature),
        outputs=outputs,
        vocabulary=tuple(found[VOCABULARY].decode().split("\n")),
        moment=moment.astype(np.float32),
    )


def describe(content: bytes) -> dict[str, Any]:
    """The manifest's entry of one part: its size in bytes and SHA-256 in hex."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _member(archive: zipfile.ZipFile, name: str, bound: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > bound:
        raise ValueError(f"{name} is larger than {bound} bytes")
    with archive.open(entry) as stream:
        # A header may understate the size: never inflate more than the bound.
        content = stream.read(bound + 1)
    if len(content) != entry.file_size:
        raise ValueError(f"{name} has another size than its header says")
    return content
