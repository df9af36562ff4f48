"""The arms of the relay benchmark beside the fleet's own, and the figures over all seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.converter.homes import Home, Split
from tasuki.sdk import adapter, artifact, kinds
from tasuki.sdk.learner import LOCAL_STRENGTH
from tasuki.sdk.problem import Problem
from tasuki.sdk.runtime import Body

# How the arms are called in a home's figures.
ARMS: Final = {"base": "base", "local": "alone", "federated": "global", "personalised": "local"}


def central(parts: Split, file: Path, fleet_homes: Sequence[Home]) -> dict[str, Any]:
    """The reference: the same adapter, fitted in one place on the public commands of all homes together."""
    loaded = artifact.load(file)
    tokenizer = loaded.tokenizer()
    body = Body(loaded.model, loaded.outputs)
    rows = {label: row for row, label in enumerate(loaded.labels)}

    def run(texts: Sequence[str]) -> tuple[adapter.Floats, adapter.Floats]:
        features, base = zip(*(body.run(tokenizer.encode(text)) for text in texts), strict=True)
        return np.stack(features), np.stack(base)

    lived = {c.text: c for home in fleet_homes for commands in home.rounds for c in commands if c.label in rows}
    features, base = run(list(lived))
    zero = adapter.zero(loaded.labels, loaded.features)
    targets = np.array([rows[c.label] for c in lived.values()])
    pulls = np.full(len(loaded.labels), LOCAL_STRENGTH)
    problem = Problem(zero.labels, features, base, targets, loaded.moment, pulls)
    head = kinds.make("head", loaded.features).fit(problem)

    def right(commands: Sequence[Any]) -> list[int]:
        answers = adapter.fleet_logits(head, *run([c.text for c in commands]), loaded.temperature).argmax(1)
        return [int(loaded.labels[answer] == c.label) for answer, c in zip(answers, commands, strict=True)]

    return {
        "central_later": [right(home.later) for home in fleet_homes],
        "central_unseen": right(parts.unseen),
        "own_share": float(np.mean([c.label not in rows for home in fleet_homes for c in home.later])),
        "float32_bytes": 4 * (loaded.features + 1) * len(loaded.labels),
    }


def summary(results: Sequence[Mapping[str, Any]], student: Mapping[str, Any]) -> dict[str, Any]:
    """Means over devices and seeds, their spreads, the paired bound on unseen phrasings, bytes, times and memory."""
    figures: dict[str, Any] = {"seeds": len(results), "spread": {}, "by_seed": {}, "by_device": {}}
    for arm, name in ARMS.items():
        for prefix, test in (("", "later"), ("unseen_", "unseen")):
            _arm(figures, prefix, arm, [[home[test][name] for home in result["homes"]] for result in results])
    _arm(figures, "", "centralised", [result["central_later"] for result in results])
    _arm(figures, "unseen_", "centralised", [[result["central_unseen"]] for result in results])
    figures["margins"] = {arm: _margin(figures, arm) for arm in ("base", "local", "federated")}
    figures["unseen_federated_minus_base_lower95"] = _paired_lower(results)
    all_homes = [home for result in results for home in result["homes"]]
    syncs = [sync for home in all_homes for sync in home["syncs"]]
    sent = sum(sync["sent"] for sync in syncs)
    rounds = len(all_homes[0]["syncs"])
    float32 = results[0]["float32_bytes"]
    up, down = (sum(sync[name] for sync in syncs) for name in ("bytes_up", "bytes_down"))
    figures.update(
        {
            "own_intent_share": float(np.mean([result["own_share"] for result in results])),
            "bytes_up_per_update": up / sent,
            "bytes_float32_per_update": float32,
            "bytes_up_per_device": up / len(all_homes),
            "bytes_down_per_device": down / len(all_homes),
            "bytes_up_total": up,
            "bytes_down_total": down,
            "bytes_float32_total": float32 * 2 * rounds * len(all_homes),
            "messages_per_device": sent / len(all_homes),
            "rounds_per_device": rounds,
            "refused": sum(sync["refused"] for sync in syncs),
            "predict_ms": _times([ms for home in all_homes for ms in home["predict_ms"]]),
            "learn_ms": _times([ms for home in all_homes for ms in home["learn_ms"]]),
            "device_rss_mb": max(home["rss_mb"] for home in all_homes),
            "device_forbidden_modules": sorted({name for home in all_homes for name in home["loaded"]}),
            "corrected": _corrected(results),
            "worst_class": _worst([tuple(pair) for home in all_homes for pair in home["answers"]]),
            "versions": [[event for event in result["gateway"] if event["event"] == "version"] for result in results],
            "student": dict(student),
            "student_bytes": student["artifact_bytes"],
            "int8_points_lost": 100 * (student["student_float"]["unseen"] - student["student_int8"]["unseen"]),
        }
    )
    return figures


def _arm(figures: dict[str, Any], prefix: str, arm: str, right: Sequence[Sequence[Sequence[int]]]) -> None:
    """`right` is by seed, then device, then command."""
    devices = [[float(np.mean(commands)) for commands in seed] for seed in right]
    seeds = [float(np.mean(seed)) for seed in devices]
    flat = [value for seed in devices for value in seed]
    name = f"{prefix}accuracy_{arm}"
    figures[name] = float(np.mean(seeds))
    figures["by_seed"][name] = seeds
    # Sample standard deviation over the seeds' means; null for one seed.
    figures["spread"][name] = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
    figures["by_device"][name] = {
        "min": min(flat), "p25": float(np.percentile(flat, 25)), "median": float(np.median(flat)),
        "p75": float(np.percentile(flat, 75)), "max": max(flat), "all": flat,
    }  # fmt: skip


def _margin(figures: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """How much personalised is ahead of `arm`, seed by seed."""
    ahead = [
        p - q
        for p, q in zip(figures["by_seed"]["accuracy_personalised"], figures["by_seed"][f"accuracy_{arm}"], strict=True)
    ]
    spread = float(np.std(ahead, ddof=1)) if len(ahead) > 1 else None
    return {"mean": float(np.mean(ahead)), "min": min(ahead), "spread": spread}


def _paired_lower(results: Sequence[Mapping[str, Any]]) -> float:
    """95% lower bound of federated minus base on unseen phrasings, in points: bootstrap over sentences, paired.

    Sentences of one template tend to flip together, so the true interval is wider than this one.
    All devices of a seed hold the same two heads, so one device a seed stands for it.
    """
    pairs = [(result["homes"][0]["unseen"]["global"], result["homes"][0]["unseen"]["base"]) for result in results]
    apart = np.mean([np.subtract(after, before) for after, before in pairs], 0)
    rng = np.random.default_rng(0)
    means = [apart[rng.integers(0, len(apart), len(apart))].mean() for _ in range(4000)]
    return 100 * float(np.percentile(means, 2.5))


def _times(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def _corrected(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of answers that the user had to correct, by round; each command is answered before it is learned."""
    homes = [home for result in results for home in result["homes"]]
    per_round = [len(home["predict_ms"]) / len(home["corrected"]) for home in homes]
    shares = np.array([np.array(home["corrected"]) / count for home, count in zip(homes, per_round, strict=True)])
    by_round = [float(value) for value in shares.mean(0)]
    return {"before": by_round[0], "after": by_round[-1], "by_round": by_round}


def _worst(answers: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """The label with the lowest recall among those asked at least 20 times, and what it is taken for."""
    asked = Counter(label for label, _ in answers)
    enough = [label for label, count in asked.items() if count >= 20] or [asked.most_common(1)[0][0]]
    right = Counter(label for label, answer in answers if label == answer)
    worst = min(sorted(enough), key=lambda label: right[label] / asked[label])
    taken = Counter(answer for label, answer in answers if label == worst)
    return {
        "label": worst,
        "asked": asked[worst],
        "recall": right[worst] / asked[worst],
        "answers": dict(taken.most_common(6)),
    }
