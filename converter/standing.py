"""Where a training stands, kept on disk after each epoch: an interrupted one goes on and ends in the same weights."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import pack
from tasuki.sdk.errors import ConversionError

_ABOUT = "about"


@dataclass(frozen=True)
class Standing:
    """`about` holds plain numbers and texts, `arrays` weights and what the optimiser remembers of each."""

    about: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def key(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """What a training depends on, in one word: a standing of another key is another training's."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        found.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def keep(path: Path, wanted: str, standing: Standing) -> None:
    """Write the standing of the training with the key `wanted`, in place of an older one."""
    about = json.dumps({"key": wanted, **standing.about}, sort_keys=True)
    content = io.BytesIO()
    np.savez(content, **{_ABOUT: np.frombuffer(about.encode(), np.uint8)}, **standing.arrays)  # type: ignore[arg-type]
    pack.write(path, content.getvalue())


def find(path: Path, wanted: str) -> Standing | None:
    """The standing in `path`, or None if there is none or it is that of another training.

    Raises ConversionError if the file is damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        return Standing(about, arrays) if about.pop("key") == wanted else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConversionError(f"{path} is damaged ({error}); remove it to train from the start") from None
