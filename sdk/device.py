"""A device: answers, learns its last layer, keeps what it learned, and syncs."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import adapter, artifact, downlink, enrolment, keys, link, update
from tasuki.sdk.adapter import Head
from tasuki.sdk.envelope import Context, seal
from tasuki.sdk.errors import (
    ArtifactCorrupt,
    ArtifactForeign,
    EmptyText,
    InputError,
    KeyInvalid,
    NotEnrolled,
    StateMismatch,
    TextTooLong,
    UnknownLabel,
)
from tasuki.sdk.runtime import Body, Options
from tasuki.sdk.state import Example, State

Floats = NDArray[np.float32]
Using = Literal["local", "global", "base"]
MAX_TEXT_BYTES: Final = 64 << 10
MAX_LABEL_BYTES: Final = 64
KEY_FILE: Final = "device.key"
# Weight of the pull towards the fleet's head, in examples' worth of public text: what stays on the device may be bold,
# what travels to every home is careful. A label of the device's own is pulled least: neither body nor fleet knows
# anything of it that could be lost. Chosen on split seeds 1000 to 1004.
LOCAL_STRENGTH: Final = 1.0
OWN_STRENGTH: Final = 0.1
FLEET_STRENGTH: Final = 5.0


@dataclass(frozen=True)
class Prediction:
    """An answer. `margin` is the distance in probability to the second best label."""

    label: str
    probability: float
    margin: float
    latency_ms: float


class Device:
    """One artifact with one state directory. Open it with `Device.open`; thread-safe."""

    def __init__(self, parts: artifact.Artifact, state: State, threads: int = 1) -> None:
        self._artifact = parts
        self._state = state
        self._lock = threading.RLock()
        if parts.task != "classify":
            raise ArtifactForeign(f"the artifact is for the task {parts.task}; a device takes `classify`")
        self._tokenizer = parts.tokenizer()
        self._body = Body(parts.model, parts.outputs, Options(threads))
        if (self._body.widths, self._body.shape[1], self._body.tokens) != (parts.widths, parts.logits, parts.tokens):
            raise ArtifactCorrupt("the model's shapes are not those of the manifest")
        self._base = adapter.zero(parts.labels, parts.features)
        self._enrolment: enrolment.Enrolment | None = None
        self._key = keys.signing_key(state.folder / KEY_FILE)
        kept = state.get("enrolment")
        if kept is not None:
            self._enrolment = enrolment.decode(kept)
        self._load_global()
        self._local = self._global
        self._refit()

    @classmethod
    def open(cls, path: str | Path, state: str | Path, *, threads: int = 1) -> "Device":
        """Open the artifact at `path` with the state directory `state` (made if needed).

        Raises ArtifactError, StateError, KeyInvalid, MissingExtra.
        """
        parts = artifact.load(path)
        opened = State(state, parts.hash)
        try:
            return cls(parts, opened, threads)
        except BaseException:
            opened.close()
            raise

    def close(self) -> None:
        """Release the state directory. Everything is already on disk."""
        with self._lock:
            self._state.close()

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- answering ----------------------------------------------------------------------------------------

    def predict(self, text: str, using: Using = "local") -> Prediction:
        """The label of `text`. `using` chooses the local head, the fleet's, or none. Raises InputError."""
        began = time.perf_counter()
        checked = _checked_text(text)
        with self._lock:
            head = self._head(using)
            features, base = self._body.run(self._tokenizer.encode(checked))
        temperature = self._artifact.temperature
        if head is self._global:
            scores = adapter.fleet_logits(head, features[None], base[None], temperature)
        else:
            scores = adapter.logits(head, features[None], base[None])
        shares = adapter.probabilities(scores / np.float32(temperature))[0]
        # Base logits are int8, so ties happen: the first label wins, as in every runtime's ARG_MAX.
        best = int(shares.argmax())
        second = np.delete(shares, best).max()
        return Prediction(
            label=head.labels[best],
            probability=float(shares[best]),
            margin=float(shares[best] - second),
            latency_ms=(time.perf_counter() - began) * 1e3,
        )

    def predict_batch(self, texts: Sequence[str], using: Using = "local") -> list[Prediction]:
        """The labels of `texts`, one by one; a bad text fails the whole call. Raises InputError."""
        return [self.predict(text, using) for text in texts]

    def embed(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Features float32 [n, d] and base logits float32 [n, C] of `texts`. Raises InputError."""
        features = np.empty((len(texts), self._artifact.features), np.float32)
        base = np.empty((len(texts), len(self._artifact.labels)), np.float32)
        with self._lock:
            for row, text in enumerate(texts):
                features[row], base[row] = self._body.run(self._tokenizer.encode(_checked_text(text)))
        return features, base

    # --- learning -----------------------------------------------------------------------------------------

    def learn(self, text: str, label: str, *, new_label: bool = False) -> None:
        """Learn that `text` means `label`. When this returns, the example is on disk and the next answer uses it.

        `new_label` allows a label that neither artifact nor device has yet; such labels never leave the device.
        Raises InputError, StateError.
        """
        checked = _checked_text(text)
        with self._lock:
            if label not in self._local.labels and not new_label:
                raise UnknownLabel(
                    f"unknown label {str(label)[:40]!r}; known: {', '.join(self._local.labels)[:200]} …"
                    " — pass new_label=True (--new-label) to add it on this device"
                )
            _check_label(label)
            features, base = self._body.run(self._tokenizer.encode(checked))
            self._state.add_example(Example(checked, label, features, base))
            self._refit()

    def forget(self) -> int:
        """Forget every example and what was learned from them; returns how many. The fleet's adapter stays."""
        with self._lock:
            gone = self._state.forget()
            self._refit()
            return gone

    # --- the fleet ----------------------------------------------------------------------------------------

    def enrol(self, file: str | Path | bytes) -> None:
        """Take the enrolment made by `tasuki gateway enrol` (a path, or its content).

        Raises KeyInvalid if it is malformed or for another artifact, StateMismatch if this device is in another fleet.
        """
        if not isinstance(file, bytes):
            try:
                file = Path(file).read_bytes()
            except OSError as error:
                raise KeyInvalid(f"the enrolment {file!s} can't be read: {error.strerror}") from None
        fresh = enrolment.decode(file)
        if fresh.artifact != self._artifact.hash:
            raise KeyInvalid(
                f"the enrolment is for the artifact {fresh.artifact.hex()[:12]}, not {self._artifact.hash.hex()[:12]}"
            )
        with self._lock:
            known = self._enrolment
            if known is not None and (known.fleet, known.gateway) != (fresh.fleet, fresh.gateway):
                raise StateMismatch(f"this device is in the fleet {known.fleet}; use a new state directory for another")
            self._state.put("enrolment", file)
            self._enrolment = fresh

    def sync(self, timeout: float = 30.0, wait_version: int | None = None) -> link.SyncResult:
        """Send what was learned since the last sync and take in the fleet's adapter.

        `timeout` in seconds; with `wait_version`, stay until that version of the adapter is here.
        Raises NotEnrolled, BrokerUnreachable, SyncTimeout; what was not sent stays in the spool.
        """
        with self._lock:
            known = self._enrolment
            if known is None:
                raise NotEnrolled(
                    "this device is in no fleet: tasuki device enrol FILE (made by `tasuki gateway enrol`)"
                )
            self._spool_update(known)
        # The lock is free while the network is waited for: answering goes on.
        result = link.sync(self._state, known, self._artifact, timeout=timeout, wait_version=wait_version)
        with self._lock:
            if result.version_after != self._global_version:
                self._load_global()
                self._refit()
        return result

    @property
    def version(self) -> int:
        """Version of the fleet's adapter; 0 before the first."""
        return self._global_version

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that `predict` may answer: the artifact's, then this device's own."""
        return self._local.labels

    @property
    def public_key(self) -> bytes:
        """The device's Ed25519 public key, 32 bytes: what `tasuki gateway enrol` asks for."""
        return self._key.public_key().public_bytes_raw()

    def status(self) -> dict[str, Any]:
        """Figures for people and scripts."""
        with self._lock:
            known = self._enrolment
            examples = self._state.examples()
            return {
                "artifact": self._artifact.hash.hex(),
                "runtime": self._body.runtime,
                "public_key": self.public_key.hex(),
                "fleet": known.fleet if known else None,
                "device": known.device if known else None,
                "broker": f"{known.host}:{known.port}" if known else None,
                "version": self._global_version,
                "examples": len(examples),
                "own_labels": list(self._local.labels[len(self._artifact.labels) :]),
                "spooled": len(self._state.spooled()),
            }

    # --- inside -------------------------------------------------------------------------------------------

    def _head(self, using: Using) -> Head:
        match using:
            case "local":
                return self._local
            case "global":
                return self._global
            case "base":
                return self._base
        raise InputError(f"using={using!r} is not one of local, global, base")

    def _load_global(self) -> None:
        kept = self._state.adapter()
        self._global_version, self._global = 0, self._base
        if kept is not None and self._enrolment is not None:
            accepted = downlink.accept(
                kept[1],
                fleet=self._enrolment.fleet,
                artifact=self._artifact.hash,
                labels=self._artifact.labels,
                width=self._artifact.features,
                gateway=keys.verifying(self._enrolment.gateway),
            )
            self._global_version, self._global = accepted.version, accepted.head

    def _refit(self) -> None:
        examples = self._state.examples()
        if not examples:
            self._local = self._global
            return
        public = self._artifact.labels
        own = sorted({example.label for example in examples} - set(public))
        anchor = adapter.select(self._global, (*public, *own))
        start = adapter.select(self._local, anchor.labels)
        self._local = self._fit(anchor, examples, LOCAL_STRENGTH, start)

    def _fit(self, anchor: Head, examples: Sequence[Example], strength: float, start: Head) -> Head:
        rows = {label: row for row, label in enumerate(anchor.labels)}
        pulls = np.full(len(rows), OWN_STRENGTH)
        pulls[: len(self._artifact.labels)] = strength
        return adapter.fit(
            anchor,
            np.stack([example.features for example in examples]),
            np.stack([example.base for example in examples]),
            np.array([rows[example.label] for example in examples]),
            self._artifact.moment,
            pulls,
            start,
        )

    def _spool_update(self, known: enrolment.Enrolment) -> None:
        """Seal the difference that the public examples make; examples of own labels have no part in it."""
        learned = self._state.number("learned")
        marker = self._global_version.to_bytes(8, "big") + learned.to_bytes(8, "big")
        examples = [e for e in self._state.examples() if e.label in self._artifact.labels]
        if not examples or self._state.get("sent") == marker:
            return
        # From the anchor and not from the local head: the update depends on the examples alone, not on their order.
        fitted = self._fit(self._global, examples, FLEET_STRENGTH, self._global)
        delta = adapter.from_joined(fitted.labels, fitted.joined - self._global.joined)
        plain = update.encode(update.Update(delta, len(examples)))
        recipient = keys.sealing_public(known.suite, known.sealing)

        def sealed(sequence: int) -> bytes:
            context = Context(
                known.fleet,
                known.device,
                "up",
                self._artifact.hash,
                self._global_version,
                sequence,
                known.suite,
            )
            return seal(plain, context, self._key, recipient)

        self._state.spool(self._global_version, sealed, marker)


def _checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"the text is {type(text).__name__}, not str")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise TextTooLong(f"the text has {size:,} bytes, at most {MAX_TEXT_BYTES:,}: send one command at a time")
    # Lone surrogates can't be stored as UTF-8.
    cleaned = text.encode("utf-8", "replace").decode()
    if not cleaned.strip():
        raise EmptyText("the text is empty")
    return cleaned


def _check_label(label: str) -> None:
    if not (isinstance(label, str) and label.strip() and label.isprintable()):
        raise InputError("a label is a printable, non-empty string")
    if len(label.encode("utf-8", "replace")) > MAX_LABEL_BYTES:
        raise InputError(f"a label has at most {MAX_LABEL_BYTES} bytes")
