"""The cached examples of a device: in memory at once, on disk at the next flush, one fsync for all of them.

What `flush` has returned for survives a power cut; what was added since may be lost, whole and nothing else.
"""

import threading
from collections.abc import Sequence

from tasuki.sdk.cache import Cache, Example
from tasuki.sdk.errors import StateUnwritable
from tasuki.sdk.saying import say
from tasuki.sdk.state import State


class Memory:
    """Cache and state together. Thread-safe: `add` never waits for the disk; flushes of several threads share one."""

    def __init__(self, state: State, capacity: int, seed: int) -> None:
        self._state, self._seed = state, seed
        self.capacity = capacity
        self._lock, self._writing = threading.Lock(), threading.Lock()
        kept = state.examples()
        self._cache = Cache(capacity, seed, kept, state.counts())
        # What the disk may have, and how it differs from the cache: first delete, then put, in this order. What is in
        # both lost its place and is the newest; what is put alone keeps its place if it is there.
        self._on_disk = {example.digest for example in kept}
        self._deletes = dict.fromkeys(self._cache.shrink())  # an earlier capacity may have been larger
        self._puts: dict[bytes, Example] = {}
        # How many adds are not on disk yet. `changes` grows with every change: who has fitted to one count knows
        # whether there is something new, and who waits for a flush whether it is there.
        self._unwritten = 0
        self.changes = 0
        self._saved = -1 if self._deletes else 0

    def add(self, example: Example) -> None:
        """Keep `example` in memory; the reservoir may let go of another one for it, or of this one."""
        with self._lock:
            stored, evicted = self._cache.add(example)
            if stored:
                self._puts[example.digest] = example
                if evicted is not None:
                    self._puts.pop(evicted, None)
                    if evicted in self._on_disk:
                        self._deletes[evicted] = None
            self._unwritten += 1
            self.changes += 1

    def flush(self) -> None:
        """Return when all that was added before the call is on disk. Raises StateError; nothing is lost by it."""
        wanted = self.changes
        with self._writing:
            with self._lock:
                if self._saved >= wanted:
                    return  # another thread's write had it
                puts, deletes, learned = self._puts, self._deletes, self._unwritten
                self._puts, self._deletes, self._unwritten = {}, {}, 0
                upto, counts = self.changes, self._cache.counts()
                fresh = puts.keys() - self._on_disk
                self._on_disk |= fresh
            try:
                self._state.write(list(puts.values()), list(deletes), counts, learned)
            except BaseException:
                with self._lock:
                    # What was let go meanwhile is put no more, and if it came back it has lost its place.
                    still = {key: one for key, one in puts.items() if key not in self._deletes}
                    self._puts = {**still, **self._puts}
                    self._deletes = dict.fromkeys(key for key in (*deletes, *self._deletes) if key not in fresh)
                    self._on_disk -= fresh
                    self._unwritten += learned
                raise
            with self._lock:
                self._on_disk.difference_update(key for key in deletes if key not in puts)
                self._saved = upto

    def forget(self, text: str | None, label: str | None, everything: bool) -> int:
        """Remove a text, a label's or all examples, from the disk too; how many there were.

        What is not yet on disk goes there first if it can; a full disk does not keep anybody from forgetting.
        Raises StateError; then nothing is forgotten.
        """
        try:
            self.flush()
        except StateUnwritable as error:
            say(__name__, "warning", "forgetting before all is on disk: %s", error)
        what = "everything" if everything else "one text" if text is not None else f"the label {label!r}"
        with self._writing, self._lock:
            # Tried on a copy first: what can't be removed from the disk must not be gone here.
            after = Cache(self.capacity, self._seed, self._cache.examples(), self._cache.counts())
            gone = after.matching(text, label, everything)
            after.remove(gone)
            deletes = [*gone, *self._deletes]
            self._state.forget(deletes, after.counts(), f"{what}: {len(gone)} examples")
            self._cache = after
            self._on_disk.difference_update(deletes)
            self._deletes.clear()
            for key in gone:
                self._puts.pop(key, None)
            self.changes += 1
            if not self._unwritten:
                self._saved = self.changes
        say(__name__, "info", "forgot %s: %d examples", what, len(gone))
        return len(gone)

    def examples(self) -> Sequence[Example]:
        """What is kept, oldest first."""
        with self._lock:
            return self._cache.examples()

    def __len__(self) -> int:
        with self._lock:
            return len(self._cache)
