"""A device: answers, learns its last layer, keeps what it learned, and stays in touch with its fleet."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from tasuki.sdk.classifier import checked_text
from tasuki.sdk.classify import ClassifyTask
from tasuki.sdk.errors import InputError, UnknownLabel, WrongTask
from tasuki.sdk.manifest import MAX_LABEL_BYTES
from tasuki.sdk.membership import Membership
from tasuki.sdk.memory import Memory
from tasuki.sdk.opening import Opened, open_all
from tasuki.sdk.permissions import Permissions
from tasuki.sdk.prediction import Explanation, Prediction, Using
from tasuki.sdk.runtime import Floats

if TYPE_CHECKING:
    from tasuki.sdk.causal import CausalTask
    from tasuki.sdk.generate import Generation, Score
    from tasuki.sdk.online import Online
    from tasuki.sdk.policy import Decision, Hook, Limits
    from tasuki.sdk.sync_result import SyncResult

KEEPALIVE_SECONDS: Final = 60
_CAUSAL: Final = "the artifact is a causal model, which has no labels: use generate, score and learn(text)"
# A fit that the limits forbid is asked for again no later than this.
_ASK_AGAIN_SECONDS: Final = 60.0
_clock = time.perf_counter


class Device:
    """One artifact with one state directory. Open it with `Device.open`; thread-safe.

    Answers never wait for the network, nor for a fit that another thread makes: they use the last finished one. Only
    what was learned since is fitted by the next answer itself, so that it counts at once.
    """

    def __init__(self, opened: Opened) -> None:
        """Use `Device.open`."""
        self._opened = opened
        self._artifact, self._state = opened.parts, opened.state
        self._may = Permissions(opened.limits, opened.conditions, opened.state.spent)
        self._memory: Memory = opened.memory
        self._membership = Membership(opened.parts, opened.state, opened.maker, opened.key)
        self._task = opened.task
        self._classify = self._task if isinstance(self._task, ClassifyTask) else None
        # Bound once: every answer goes through it.
        self._answer = self._no_labels if self._classify is None else self._classify.predict
        self._fitting = threading.Lock()
        self._fitted = -1
        self._postponed_until = 0.0
        self._loop: Online | None = None
        self._closed = False
        self._stale = True

    @classmethod
    def open(
        cls,
        path: str | Path,
        state: str | Path,
        *,
        adapter: str | None = None,
        limits: "Limits | None" = None,
        conditions: "Hook | None" = None,
        level: float = 0.1,
        threads: int = 1,
        delegate: str | Path | None = None,
        mapped: bool = False,
        verify: str | Path | None = None,
        key: str | Path | None = None,
        keep_texts: bool = True,
        replace: bool = False,
        seed: int = 0,
    ) -> "Device":
        """Open the artifact at `path` with the state directory `state` (made if needed).

        `adapter` is the kind that learns here, one of the artifact's: head, low_rank, bias or statistics; by default
        head, for causal models low_rank. `limits` bound memory, disk, bytes and hours; `conditions` tells battery and
        network. `level` is the error level of `Prediction.uncertain`. `threads` and `delegate` (a shared library) are
        the interpreter's; with `mapped` the model is not read into memory. `verify` is the maker's public key: it must
        have signed the artifact and the fleet record. `key` is the device's signing key: a file, or ``SCHEME:...`` of a
        plug-in (`tasuki.sdk.keys.open_signer`), by default a file in `state`. Without `keep_texts` only features are
        kept: a later body can't learn them anew. `replace` moves a state of another artifact to this one. `seed` is the
        reservoir's.

        Raises ArtifactError, StateError, KeyInvalid, InputError, MissingExtra.
        """
        return cls(
            open_all(
                path, state, adapter=adapter, limits=limits, conditions=conditions, level=level, threads=threads,
                delegate=delegate, mapped=mapped, verify=verify, key=key, keep_texts=keep_texts, replace=replace,
                seed=seed,
            )
        )  # fmt: skip

    def close(self) -> None:
        """End the background loop, write what is not yet on disk, and release the state directory. May be repeated."""
        if self._loop is not None:
            self._loop.stop()
        if self._closed:
            return
        self._closed = True
        try:
            self._memory.flush()
        finally:
            self._state.close()

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- answering ----------------------------------------------------------------------------------------

    def predict(self, text: str, using: Using = "local", *, level: float | None = None) -> Prediction:
        """The label of `text`.

        `using` is "local" for the local adapter where it helps and the fleet's elsewhere, "global" for the fleet's,
        "base" for the bare body. `level` is the error level of `uncertain`, by default the device's. Raises InputError.
        """
        began = _clock()
        if self._stale:
            self._settle()
        return self._answer(text, began, using, level)

    def predict_batch(
        self, texts: Sequence[str], using: Using = "local", *, level: float | None = None
    ) -> list[Prediction]:
        """The labels of `texts`, one by one; a bad text fails the call before any is answered. Raises InputError."""
        for text in texts:
            checked_text(text)
        return [self.predict(text, using, level=level) for text in texts]

    def explain(self, text: str) -> Explanation:
        """Which adapter answers `text` and why, and what each would say. Raises InputError."""
        self._settle()
        return self._classifier().explain(checked_text(text))

    def embed(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Features float32 [n, d] and base logits float32 [n, C] of `texts`. Raises InputError."""
        return self._classifier().embed([checked_text(text) for text in texts])

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> "Generation":
        """Continue `prompt`: an iterator of pieces of text; afterwards `.text`, `.tokens` and `.reason` say what came.

        `temperature` 0 is greedy; `top_k` and `top_p` bound what is drawn from; a text of `stop` ends it and is not
        part of it. The same seed gives the same text. One text at a time: another call ends this one.

        Raises InputError.
        """
        self._settle()
        return self._writer().generate(
            prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, stop=stop, seed=seed
        )

    def score(self, text: str) -> "Score":
        """How likely a causal model finds `text`: tokens, nats, perplexity. Raises InputError."""
        self._settle()
        return self._writer().score(text)

    # --- learning -----------------------------------------------------------------------------------------

    def learn(self, text: str, label: str | None = None, *, new_label: bool = False, durable: bool = True) -> None:
        """Learn that `text` means `label`; a causal model learns `text` itself and takes no label.

        The next answer uses it. With `durable` it is on disk when this returns, else after the next `flush`.
        `new_label` allows a label that neither artifact nor device has yet; such labels never leave the device.
        Raises InputError, StateError.
        """
        cleaned = checked_text(text)
        if self._classify is None:
            if label is not None:
                raise InputError("a causal model learns the text itself: leave the label out")
        elif label not in self._classify.known:
            self._check_new(label, new_label)
        self._memory.add(self._task.example(cleaned, label or "", self._opened.keep_texts))
        if label is not None and self._classify is not None:
            self._classify.known.add(label)
        self._stale = True
        if durable:
            self._memory.flush()

    def flush(self) -> None:
        """Return when all that was learned is on disk; several examples share one fsync. Raises StateError."""
        self._memory.flush()

    def forget(self, text: str | None = None, *, label: str | None = None, everything: bool = False) -> int:
        """Forget one example, all of a `label`, or everything; returns how many examples that were.

        They leave the cache and, by refitting, the adapter; so does an update that is not sent yet. The fleet's adapter
        stays. Raises InputError, StateError.
        """
        if (text is not None) + (label is not None) + everything != 1:
            raise InputError("say what to forget: a text, label=..., or everything=True, and only one of them")
        gone = self._memory.forget(None if text is None else checked_text(text), label, everything)
        self._task.reset(self._memory.examples())
        with self._fitting:
            self._fit()  # whatever the limits say: what was forgotten must not answer until the battery is full
        return gone

    # --- the fleet ----------------------------------------------------------------------------------------

    def enrol(self, file: str | Path | bytes) -> None:
        """Take the enrolment made by `tasuki gateway enrol` (a path, or its content).

        Raises KeyInvalid if it is malformed, for another artifact or by another root key than `verify`, StateMismatch
        if this device is in another fleet, WrongTask for a causal model.
        """
        self._classifier()
        with self._fitting:
            self._membership.enrol(file)

    def sync(
        self, timeout: float = 30.0, wait_version: int | None = None, *, keepalive: int = KEEPALIVE_SECONDS
    ) -> "SyncResult":
        """Send what was learned since the last sync and take in the fleet's adapter.

        `timeout` in seconds; with `wait_version`, stay until that version of the adapter is here.
        Raises NotEnrolled, BrokerUnreachable, SyncTimeout; what was not sent stays in the spool.
        """
        return self._sync(timeout, wait_version, keepalive, None)

    def online(self, every: float = 3600.0, *, timeout: float = 30.0, keepalive: int = KEEPALIVE_SECONDS) -> "Online":
        """A background loop that syncs every `every` seconds: `with device.online():` or `async with device.online():`.

        It obeys the limits, backs off with jitter while the network is away, and never holds up an answer. In no fleet
        yet, it waits until the device is enrolled.
        """
        from tasuki.sdk.online import Online

        self._loop = Online(
            lambda cancelled: self._sync(timeout, None, keepalive, cancelled), self._may_connect, every=every
        )
        return self._loop

    @property
    def version(self) -> int:
        """Version of the fleet's adapter; 0 before the first."""
        return self._membership.version

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that `predict` may answer: the artifact's, then this device's own."""
        self._settle()
        return self._classifier().outcome.labels

    @property
    def public_key(self) -> bytes:
        """The device's raw public key, 32 bytes (Ed25519) or 33 (P-256): what `tasuki gateway enrol` asks for."""
        with self._fitting:
            return self._membership.signer.public

    def status(self) -> dict[str, Any]:
        """Figures and decisions for people and scripts; every value is plain JSON."""
        self._settle()
        known, task = self._membership.enrolment, self._task
        verdict, loop = task.verdict, self._loop
        spooled = self._state.spooled()
        return {
            "artifact": self._artifact.hash.hex(),
            "task": self._artifact.task,
            "runtime": task.runtime,
            "adapter": task.wanted.name,
            "answers": verdict.answers,
            "why": verdict.reason,
            "temperature": task.temperature,
            "public_key": self.public_key.hex(),
            "fleet": known.fleet if known else None,
            "device": known.device if known else None,
            "broker": f"{known.host}:{known.port}" if known else None,
            "version": self.version,
            "examples": len(self._memory),
            "capacity": self._memory.capacity,
            "own_labels": list(task.own_labels),
            "spooled": len(spooled),
            "spooled_bytes": sum(len(item.message) for item in spooled),
            "dropped": self._state.dropped(),
            "ignored": self._state.counted("ignored."),
            "record": self._membership.record,
            "announced_until": self._membership.announced_until,
            "damaged": self._state.damaged(),
            "disk_bytes": self._state.size(),
            "bytes_today": self._may.bytes_today(),
            "limits": {name: value for name, value in asdict(self._may.limits).items() if value is not None},
            "may_learn": asdict(self._may.learn()),
            "may_connect": asdict(self._may_connect()),
            "may_send": asdict(self._may.send(max((len(item.message) for item in spooled), default=0))),
            "online": asdict(loop.status()) if loop is not None else None,
            "log": [list(entry) for entry in self._state.events()],
        }

    # --- inside -------------------------------------------------------------------------------------------

    def _no_labels(self, _text: str, _began: float, _using: Using, _level: float | None) -> Prediction:
        raise WrongTask(_CAUSAL)

    def _classifier(self) -> ClassifyTask:
        if self._classify is None:
            raise WrongTask(_CAUSAL)
        return self._classify

    def _writer(self) -> "CausalTask":
        if isinstance(self._task, ClassifyTask):
            raise WrongTask("the artifact is a classifier, which writes no text: use predict, embed and learn")
        return self._task

    def _check_new(self, label: str | None, new_label: bool) -> None:
        if not (isinstance(label, str) and label.strip() and label.isprintable()):
            raise InputError(f"the label {str(label)[:40]!r} is no printable, non-empty string")
        if len(label.encode("utf-8", "replace")) > MAX_LABEL_BYTES:
            raise InputError(f"the label {label[:40]!r}... has more than {MAX_LABEL_BYTES} bytes")
        if not new_label:
            known = ", ".join(sorted(self._classifier().known))
            raise UnknownLabel(
                f"unknown label {label[:40]!r}; known: {known[:200]} ... - pass new_label=True (--new-label) to add it"
                " on this device"
            )

    def _settle(self) -> None:
        """Fit what was learned since the last fit, unless the limits say later."""
        if not self._stale:
            return
        with self._fitting:
            if self._memory.changes == self._fitted:
                self._stale = False
                return
            if len(self._memory) and not self._now():
                return
            self._fit()

    def _now(self) -> bool:
        """Whether the limits allow a fit; if not, they are not asked again for a while."""
        if time.monotonic() < self._postponed_until:
            return False
        decision = self._may.learn()
        if not decision.allowed:
            wait = _ASK_AGAIN_SECONDS if decision.retry_after is None else decision.retry_after
            self._postponed_until = time.monotonic() + min(wait, _ASK_AGAIN_SECONDS)
        return decision.allowed

    def _fit(self) -> None:
        """Fit now. The caller has the lock of fits; what is added meanwhile makes the answers stale again."""
        self._stale = False
        self._fitted = self._memory.changes
        self._task.fit(self._memory.examples(), self._membership.head)

    def _sync(
        self, timeout: float, wait_version: int | None, keepalive: int, cancelled: threading.Event | None
    ) -> "SyncResult":
        self._membership.enrolled()
        self._memory.flush()
        if self._may.learn().allowed:  # an update is a fit, too
            with self._fitting:
                examples = self._memory.examples()
                self._membership.spool(
                    self._state.number("learned"),
                    lambda kind, head: self._classifier().difference(examples, kind, head),
                    self._may.limits.update_bytes,
                )
        # No lock while the network is waited for: answering and learning go on.
        result = self._membership.sync(timeout, wait_version, keepalive, self._may.send, cancelled)
        with self._fitting:
            if self._membership.load():
                self._fit()
        return result

    def _may_connect(self) -> "Decision":
        if self._membership.enrolment is None:
            from tasuki.sdk.policy import Decision

            return Decision(False, "this device is in no fleet yet")
        return self._may.connect()
