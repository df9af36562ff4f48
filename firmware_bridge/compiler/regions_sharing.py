"""Which storages may be the same memory although both are needed in one step or loop: the new takes the old's place."""

from collections.abc import Sequence

from tasuki.firmware_bridge.compiler.lower_calls import Access, Call
from tasuki.firmware_bridge.compiler.regions import Member, own_rows


def in_place(call: Call, old: int, new: int) -> bool:
    """Whether the kernel may write `new` over `old`: same elements in the same order, and it says that it works."""
    pairs = [
        ((i, j), read, write)
        for i, read in enumerate(call.reads) for j, write in enumerate(call.writes)
        if read.storage == old and write.storage == new
    ]  # fmt: skip
    writes_old = any(access.storage == old for access in call.writes)
    reads_new = any(access.storage == new for access in call.reads)
    return not writes_old and not reads_new and all(
        pair in call.overlap and _like(read, write) for pair, read, write in pairs
    )  # fmt: skip


def in_loop(members: Sequence[Member], rows: int, old: int, new: int) -> bool:
    """Whether `new` may be written over `old` row by row in a loop that `old` does not outlive and `new` begins in.

    In each turn everything that is read of the old rows must have been read before the first new one is written.
    """
    last = max(k for k, member in enumerate(members) if _touches(member, old))
    first = min(k for k, member in enumerate(members) if _touches(member, new))
    if last > first:
        return False
    if last == first and not in_place(members[last].inside.call, old, new):
        return False
    olds, news = (
        [
            (member, access, stride)
            for member in members
            for access, stride in zip(member.inside.call.accesses, member.inside.strides, strict=True)
            if access.storage == number
        ]
        for number in (old, new)
    )
    stride = olds[0][2]
    if any(other != stride for _, _, other in olds + news):
        return False
    return all(own_rows(a, b, first_, second, stride, rows) for first_, a, _ in olds for second, b, _ in news)


def _touches(member: Member, storage: int) -> bool:
    return any(access.storage == storage for access in member.call.accesses)


def _like(a: Access, b: Access) -> bool:
    return (a.offset, a.steps, a.block, a.size) == (b.offset, b.steps, b.block, b.size)
