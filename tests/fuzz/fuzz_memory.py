"""Memory that readers keep of what they have read. Prints JSON; `fuzz_updates.py` calls it.

    python tests/fuzz/fuzz_memory.py MESSAGES SEED

In a process without Atheris, whose own books grow by some bytes with every input.
"""

import json
import random
import sys

import psutil
from fuzz_targets import Targets, strict
from fuzz_updates import INPUT_BYTES

# Until caches of a bounded size are full, and the allocator has what it needs.
_WARM_SHARE = 0.4


def measure(messages: int, seed: int) -> dict[str, int]:
    """By how many bytes the process grew while it fed the last three fifths of `messages`."""
    strict()
    targets, source, process = Targets(), random.Random(seed), psutil.Process()
    inputs = messages // 2
    for _ in range(int(inputs * _WARM_SHARE)):
        targets.two(source.randbytes(INPUT_BYTES))
    before = process.memory_info().rss
    for _ in range(int(inputs * (1 - _WARM_SHARE))):
        targets.two(source.randbytes(INPUT_BYTES))
    return {"messages": messages, "growth_bytes": process.memory_info().rss - before}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
