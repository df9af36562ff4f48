"""Small artifacts whose model is no model: for what is checked before one is run."""

import zipfile
from io import BytesIO
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasuki.sdk import archive, artifact, manifest

MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256))
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
PIECES = ("[PAD]", "[UNK]", "turn", "on", "off")


def about(**changes: Any) -> dict[str, Any]:
    """The fields that a converter gives: two depths of 2 and 3 features, two labels. None removes a field."""
    fields = {
        "name": "small", "task": "classify", "tier": "mcu", "tokens": 8, "pad": 0,
        "features": [{"depth": 2, "width": 2, "output": 1}, {"depth": 4, "width": 3, "output": 0}],
        "logits": {"output": 2, "width": 2}, "labels": ["off", "on"],
        "adapter_kinds": ["bias", "head", "low_rank", "statistics"], "low_rank": {"rank": 8, "seed": 0},
        "rounding": "tflm", "activations": "int8", "temperature": 1.5, "conformal": [[0.05, 0.9], [0.1, 0.5]],
        "operators": ["ADD"], "shapes": {"ids": [1, 8], "logits": [1, 2]},
        "calibration": {"texts": 3, "estimators": {"minmax": 2}},
        "origin": [{"package": "p==1", "sha256": "ab" * 32, "licence": "MIT", "origin": "somebody/something"}],
        "accuracy": {"unseen": 0.5},
    }  # fmt: skip
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def causal(**changes: Any) -> dict[str, Any]:
    """The fields of a causal model."""
    return about(**{
        "task": "causal", "labels": [], "adapter_kinds": ["bias", "low_rank"],
        "vocabulary": {"weight": 7, "bias": 8}, "logits": {"output": 2, "width": 50_257},
        "cache": {"layers": 2, "heads": 2, "width": 8, "context": 64}, "start": 1, "stop": [0, 2], **changes,
    })  # fmt: skip


def second_format(task: str = "classify", **changes: Any) -> dict[str, Any]:
    """The fields as format 2 had them, `format` and `parts` too."""
    kinds = ["head"] if task == "classify" else []
    newer = {"low_rank": None, "vocabulary": None, "adapter_kinds": kinds, "format": 2}
    fields = {"classify": about, "causal": causal}[task](**{**newer, **changes})
    return listed(fields)


def parts() -> dict[str, bytes]:
    moment = np.eye(6, dtype="<f4").tobytes()
    return {artifact.VOCABULARY: "\n".join(PIECES).encode(), artifact.MOMENT: moment}


def with_manifest(encoded: bytes, **members: bytes) -> bytes:
    """A file with the manifest `encoded`, and the usual members but for those given (`vocab__txt=...`)."""
    changed = {name.replace("__", "."): content for name, content in members.items()}
    return archive.append(MODEL, {artifact.MANIFEST: encoded, **parts(), **changed})


def listed(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with format and the parts as they are."""
    entries = {name: artifact.describe(content) for name, content in {"model": MODEL, **parts()}.items()}
    return {"format": manifest.FORMAT, "parts": entries, **fields}


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The model with a ZIP that Python's own library makes of `members`."""
    stream = BytesIO(MODEL)
    stream.seek(0, 2)
    with zipfile.ZipFile(stream, "a", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()
