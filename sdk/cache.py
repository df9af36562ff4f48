"""The examples that a device keeps: a bounded reservoir, balanced over the labels. Pure: no disk, no clock.

Class-balancing reservoir sampling (Chrysakis and Moens, "Online continual learning from imbalanced data", ICML 2020):
until it is full, everything is kept. Then an example of a label that is not *full* takes the place of one of a largest
label. A label is full if none has more examples, or if it lost some already and still has its fair share, capacity /
labels: its examples stay a uniform sample of the distinct texts that were said of it.

Where Vitter's reservoir draws at every arrival, here each text has a *rank*, a keyed hash of its digest, and a label
keeps its highest ranks (bottom-k sampling, Cohen and Kaplan 2007, mirrored). So there is no generator whose state could
be lost: a reopened cache goes on as if it was never closed. A text that was let go has no better chance the next time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, NamedTuple

DIGEST_BYTES: Final = 16
_PRIME: Final = (1 << 61) - 1


def digest(text: str) -> bytes:
    """What an example is known by: BLAKE2b of its text, 16 bytes."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


class Example(NamedTuple):
    """A text that was learned, as it is kept.

    `features` are int8 codes [n, d] and `base` int8 codes [C] (n = 1; for a causal model n tokens, and no `base`), with
    the scales that `tasuki.sdk.features.Grid` gave them. `targets` are int32 [n], little-endian: what followed each
    token of a causal model's text. `text` is None where texts are not kept.
    """

    digest: bytes
    text: str | None
    label: str
    features: bytes
    base: bytes
    scale: float = 1.0
    base_scale: float = 1.0
    targets: bytes = b""


class Change(NamedTuple):
    """What adding did: whether the new one is `stored`, and who was `evicted` for it."""

    stored: bool
    evicted: bytes | None = None


_STORED: Final = Change(True)
_IGNORED: Final = Change(False)


class Cache:
    """The reservoir. Not thread-safe. `counts` and `examples` are those of an earlier one, oldest first.

    Of more examples than `capacity`, let `shrink` choose before the first is added.
    """

    def __init__(
        self, capacity: int, seed: int = 0, examples: Iterable[Example] = (), counts: Mapping[str, int] | None = None
    ) -> None:
        self.capacity = capacity
        key = blake2b(b"%d" % seed, digest_size=DIGEST_BYTES).digest()
        # Carter and Wegman's universal hash, of what is a hash of the text already.
        self._factor, self._offset = int.from_bytes(key[:7], "big") + 1, int.from_bytes(key[8:], "big")
        self._kept: dict[bytes, Example] = {example.digest: example for example in examples}
        self._sizes: dict[str, int] = dict(Counter(example.label for example in self._kept.values()))
        known = counts or {}
        # How many texts of each label that is kept were ever seen.
        self._seen = {label: max(known.get(label, 0), size) for label, size in self._sizes.items()}
        # By label a heap of (rank, digest), which may also hold what is no longer there; and the labels by their size.
        # Both are made when the cache is full, and dropped when it is no more.
        self._heaps: dict[str, list[tuple[int, bytes]]] | None = None
        self._of_size: defaultdict[int, set[str]] = defaultdict(set)
        self._most = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, example: Example) -> Change:
        """Take `example` in, as the module says. The same text again takes its former place, whatever its label."""
        kept, label, key = self._kept, example.label, example.digest
        if key in kept:
            self._replace(example)
            return _STORED
        seen = self._seen[label] = self._seen.get(label, 0) + 1
        size = self._sizes.get(label, 0)
        if len(kept) < self.capacity:
            kept[key] = example
            self._sizes[label] = size + 1
            return _STORED
        heaps = self._indexed()
        rank = self._rank(key)
        if size and (size == self._most or (seen > size + 1 and size >= self.capacity // len(self._seen))):
            lowest, gone = self._lowest(label, heaps[label])
            if rank < lowest:
                return _IGNORED
            heapreplace(heaps[label], (rank, key))
            del kept[gone]
        else:
            gone = self._evict(heaps)
            heappush(heaps.setdefault(label, []), (rank, key))
            self._resize(label, 1, heaps)
        kept[key] = example
        return Change(True, gone)

    def shrink(self, capacity: int | None = None) -> list[bytes]:
        """Let go of what is above the capacity, or a smaller one from now on, of the largest labels first; who went."""
        if capacity is not None:
            self.capacity = min(capacity, self.capacity)
        gone: list[bytes] = []
        while len(self._kept) > self.capacity:
            gone.append(self._evict(self._indexed()))
        return gone

    def matching(self, text: str | None = None, label: str | None = None, everything: bool = False) -> list[bytes]:
        """The digests of the text, of the label, or of all examples."""
        if everything:
            return list(self._kept)
        if label is not None:
            return [key for key, example in self._kept.items() if example.label == label]
        key = digest(text or "")
        return [key] if key in self._kept else []

    def remove(self, keys: Iterable[bytes]) -> None:
        """Forget them, and that they were seen: a label that comes back starts anew."""
        for key in keys:
            self._uncount(self._kept.pop(key).label)
        self._heaps = None

    def examples(self) -> list[Example]:
        """All that is kept, oldest first."""
        return list(self._kept.values())

    def counts(self) -> dict[str, int]:
        """How many texts of each label that is kept were seen, for the next `Cache`."""
        return dict(self._seen)

    # --- inside -------------------------------------------------------------------------------------------

    def _rank(self, key: bytes) -> int:
        return (int.from_bytes(key, "big") * self._factor + self._offset) % _PRIME

    def _replace(self, example: Example) -> None:
        label, former = example.label, self._kept[example.digest].label
        self._kept[example.digest] = example  # an assignment keeps the place
        if label == former:
            return
        self._seen[label] = self._seen.get(label, 0) + 1
        self._stale += 1
        if self._heaps is None or self._stale > self.capacity:
            self._heaps = None
            self._sizes[label] = self._sizes.get(label, 0) + 1
            self._uncount(former)
            return
        heappush(self._heaps.setdefault(label, []), (self._rank(example.digest), example.digest))
        self._resize(label, 1, self._heaps)
        self._seen[former] -= 1
        self._resize(former, -1, self._heaps)

    def _uncount(self, label: str) -> None:
        """One fewer of `label`, while there is no index."""
        self._sizes[label] -= 1
        self._seen[label] -= 1
        if not self._sizes[label]:
            del self._sizes[label], self._seen[label]

    def _indexed(self) -> dict[str, list[tuple[int, bytes]]]:
        """The heaps; made from all examples if there are none."""
        if self._heaps is None:
            self._heaps, self._stale = {label: [] for label in self._sizes}, 0
            for key, example in self._kept.items():
                self._heaps[example.label].append((self._rank(key), key))
            for heap in self._heaps.values():
                heapify(heap)
            self._of_size.clear()
            for label, size in self._sizes.items():
                self._of_size[size].add(label)
            self._most = max(self._sizes.values(), default=0)
        return self._heaps

    def _lowest(self, label: str, heap: list[tuple[int, bytes]]) -> tuple[int, bytes]:
        """The lowest rank of the label, first in its heap; what is no longer there is taken off before."""
        while True:
            found = self._kept.get(heap[0][1])
            if found is not None and found.label == label:
                return heap[0]
            heappop(heap)

    def _evict(self, heaps: dict[str, list[tuple[int, bytes]]]) -> bytes:
        """Let go of the lowest rank of a largest label: of several the last by name, whatever came first."""
        label = max(self._of_size[self._most])
        _, gone = self._lowest(label, heaps[label])
        heappop(heaps[label])
        del self._kept[gone]
        self._resize(label, -1, heaps)
        return gone

    def _resize(self, label: str, step: int, heaps: dict[str, list[tuple[int, bytes]]]) -> None:
        size = self._sizes.get(label, 0)
        self._of_size[size].discard(label)
        self._sizes[label] = size = size + step
        if size:
            self._of_size[size].add(label)
        else:
            # Its count would not be known after reopening either.
            del self._sizes[label], self._seen[label], heaps[label]
        if size > self._most:
            self._most = size
        elif not self._of_size[self._most]:
            self._most -= 1
