"""What each model took on each board when it was last recorded; growth past the bound fails the tests."""

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parent / "budgets.toml"
FIGURES: Final = ("instructions", "ram_bytes", "stack_bytes", "arena_bytes", "code_bytes", "model_bytes")
GROWTH: Final = 0.02
_HEAD: Final = """\
# Recorded by `tasuki bench firmware --record`: figures of the seeded twins on each emulated board.
# Growth of more than 2% fails `make test-boards`. Instructions are counted by the emulator; they are no speed.
"""

Budgets = Mapping[str, Mapping[str, Mapping[str, int]]]


def read(text: str) -> dict[str, dict[str, dict[str, int]]]:
    """Board, model, figure: value. The file is TOML that is an INI file, too, which Python 3.10 can read."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    found: dict[str, dict[str, dict[str, int]]] = {}
    for section in parser.sections():
        board, _, model = section.partition(".")
        found.setdefault(board, {})[model] = {name: int(value) for name, value in parser[section].items()}
    return found


def written(boards: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The file for the figures `boards` of a benchmark."""
    lines = [_HEAD]
    for board in sorted(boards):
        for model in sorted(boards[board]):
            rows = (f"{name} = {boards[board][model][name]}\n" for name in FIGURES)
            lines.append(f"[{board}.{model}]\n{''.join(rows)}")
    return "\n".join(lines)


def grown(boards: Mapping[str, Mapping[str, Mapping[str, Any]]], budgets: Budgets) -> list[str]:
    """A line for each figure of `boards` that is past its budget, or that has none."""
    found = []
    for board, models in boards.items():
        for model, figures in models.items():
            recorded = budgets.get(board, {}).get(model, {})
            for name in FIGURES:
                if name not in recorded:
                    found.append(f"{board}, {model}: {name} has no budget")
                elif figures[name] > recorded[name] * (1 + GROWTH):
                    share = figures[name] / recorded[name] - 1
                    found.append(
                        f"{board}, {model}: {name} {figures[name]:,}, {share:.1%} above its budget {recorded[name]:,}"
                    )
    return found
