"""The artifacts that the SDK is measured on, made once and kept in the cache."""

import hashlib
import json
from pathlib import Path
from typing import Final

from tasuki.converter import causal_gain, convert, pack
from tasuki.converter.distil import Progress
from tasuki.converter.sources import HOME_ASSISTANT_INTENTS, MINILM_L6, cache_folder
from tasuki.converter.wanted import Wanted
from tasuki.sdk import manifest

# Raise it when a change of the code changes what comes out.
_VERSION: Final = 1


def minilm(progress: Progress) -> Path:
    """MiniLM-L6 in int8 with a linear head for smart-home intents, as `tasuki convert minilm` makes it."""
    key = json.dumps([_VERSION, manifest.FORMAT, MINILM_L6.sha256, HOME_ASSISTANT_INTENTS.sha256])
    file = cache_folder() / "encoders" / f"minilm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.tflite"
    if not file.is_file():
        made = convert.convert("minilm", Wanted(data="smart-home", name="minilm"), progress)
        file.parent.mkdir(parents=True, exist_ok=True)
        pack.write(file, made.artifact)
    return file


def causal(progress: Progress, quick: bool) -> Path:
    """The standard causal student of tier `mcu-large`, or a toy."""
    return causal_gain.build(progress, 0, quick).artifact
