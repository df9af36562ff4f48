"""How long models take on the same input, side by side: ratios are only fair within one run."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk.runtime import load_interpreter


def side_by_side(
    models: Mapping[str, bytes], ids: NDArray[np.int32], rounds: int = 60, warm_up: int = 5
) -> dict[str, float]:
    """Median milliseconds of an inference by name, on one thread; `ids` int32 [n, tokens] are taken in turn.

    The models take turns within every round, so that whatever else the machine does falls on all of them.
    """
    _, interpreter = load_interpreter()
    ready = {}
    for name, model in models.items():
        made = interpreter(model_content=model, num_threads=1)
        made.allocate_tensors()
        ready[name] = (made, made.get_input_details()[0]["index"])
    spent: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(warm_up + rounds):
        for name, (made, index) in ready.items():
            made.set_tensor(index, ids[turn % len(ids)][None])
            began = time.perf_counter()
            made.invoke()
            if turn >= warm_up:
                spent[name].append(time.perf_counter() - began)
    return {name: float(np.median(seconds)) * 1e3 for name, seconds in spent.items()}
