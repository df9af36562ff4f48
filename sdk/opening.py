"""Opening a device: artifact, state directory, adapter and cache, each checked against the others."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tasuki.sdk import artifact
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.cache import Cache, Example
from tasuki.sdk.classify import ClassifyTask
from tasuki.sdk.errors import InputError, TasukiError
from tasuki.sdk.memory import Memory
from tasuki.sdk.runtime import Options
from tasuki.sdk.saying import say
from tasuki.sdk.state import DISK_BYTES, State, capacity_for
from tasuki.sdk.wanted import Wanted

if TYPE_CHECKING:
    from tasuki.sdk.causal import CausalTask
    from tasuki.sdk.policy import Hook, Limits

# More examples than this no last layer needs, and every refit takes them all.
MOST_EXAMPLES: Final = 1000
_DEFAULT_KIND: Final = {"classify": "head", "causal": "low_rank"}
# What an example takes beside its features: text, label and the rows around them, for commands of usual length.
_ROW_BYTES: Final = 512


class Opened(NamedTuple):
    """What a device is made of."""

    parts: Artifact
    state: State
    memory: Memory
    task: "ClassifyTask | CausalTask"
    limits: "Limits | None"
    conditions: "Hook | None"
    keep_texts: bool
    maker: bytes | None
    key: str | None


def open_all(
    path: str | Path,
    state: str | Path,
    *,
    adapter: str | None,
    limits: "Limits | None",
    conditions: "Hook | None",
    level: float,
    threads: int,
    delegate: str | Path | None,
    mapped: bool,
    verify: str | Path | None,
    key: str | Path | None,
    keep_texts: bool,
    replace: bool,
    seed: int,
) -> Opened:
    """See `Device.open`."""
    if not (isinstance(level, float) and 0 < level < 1):
        raise InputError(f"the error level {level!r} is not between 0 and 1")
    options = Options(threads, delegate)
    trusted = None if verify is None else artifact.trusted_key(verify)
    parts = artifact.load(path, trusted, mapped)
    wanted = _wanted(parts, adapter)
    disk = DISK_BYTES if limits is None or limits.disk is None else limits.disk
    opened = State(state, parts.hash, disk=disk, replace=replace)
    try:
        task: ClassifyTask | CausalTask
        if parts.task == "classify":
            task = ClassifyTask(parts, options, wanted, level)
        else:
            # Only now: a board with a classifier need not load what writes text.
            from tasuki.sdk import causal

            task = causal.CausalTask(parts, options, wanted)
        capacity = _capacity(parts, limits, disk)
        if not keep_texts:
            say(__name__, "warning", "texts are not kept: what was learned can't be taken over by another artifact")
        if opened.unread or opened.artifact != parts.hash:
            _read_anew(opened, parts, task, capacity, seed)
        memory = Memory(opened, capacity, seed)
        task.reset(memory.examples())
        maker = None if trusted is None else trusted.public_bytes_raw()
        return Opened(parts, opened, memory, task, limits, conditions, keep_texts, maker, _reference(key))
    except BaseException:
        opened.close()
        raise


def _reference(key: str | Path | None) -> str | None:
    return None if key is None else str(key)


def _wanted(parts: Artifact, name: str | None) -> Wanted:
    wanted = name or _DEFAULT_KIND[parts.task]
    if wanted not in parts.kinds:
        raise InputError(f"the artifact admits the adapters {', '.join(parts.kinds)}, not {wanted!r}")
    rank, seed = parts.low_rank or (1, 0)
    return Wanted(wanted, parts.features, rank, seed)


def _capacity(parts: Artifact, limits: "Limits | None", disk: int) -> int:
    """How many examples the limits leave room for. Raises InputError where they are too tight."""
    # Features and logits of one text, or features and targets of all tokens of one.
    codes = parts.features + parts.logits if parts.task == "classify" else parts.tokens * (parts.features + 4)
    room = [MOST_EXAMPLES, capacity_for(disk, codes + _ROW_BYTES)]
    if limits is not None and limits.ram is not None and parts.task == "classify":
        from tasuki.sdk import policy

        room.append(policy.examples_within(limits.ram, parts.features, len(parts.labels)))
    return min(room)


def _read_anew(state: State, parts: Artifact, task: "ClassifyTask | CausalTask", capacity: int, seed: int) -> None:
    """Take the cached texts over to another body. Those that were not kept, or that it can't read, are counted.

    No more than `capacity`: of a wider body fewer may have room, and then the reservoir chooses.
    """
    taken: list[Example] = []
    former = state.examples()
    for example in former:
        if example.text is None:
            continue
        try:
            taken.append(task.example(example.text, example.label, True))
        except TasukiError as error:
            say(__name__, "warning", "an example can't be read by the new artifact: %s", error)
    kept = Cache(capacity, seed, taken, state.counts())
    kept.shrink()
    # Texts may be longer than what the capacity counts on.
    while len(kept) and not state.fits(kept.examples()):
        kept.shrink(len(kept) * 9 // 10)
    words = f"by the artifact {parts.hash.hex()[:12]}: {len(kept)} of {len(former)} examples taken over"
    state.rewrite(parts.hash, kept.examples(), words)
    if len(kept) < len(former):
        say(__name__, "warning", "%d of %d examples could not be taken over", len(former) - len(kept), len(former))
