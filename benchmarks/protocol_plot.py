"""The curve of bytes against accuracy, as SVG text by Matplotlib."""

import io
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK: Final = "#475569"
_STYLE: Final[Any] = {
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "tasuki",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}
_COLOURS: Final = {
    "auto": "#b91c1c",
    "rows": "#b91c1c",
    "worth 4 bit": "#16a34a",
    "top 1 bit": "#bfdbfe",
    "top 2 bit": "#93c5fd",
    "top 4 bit": "#2563eb",
    "top 8 bit": "#1e3a8a",
    "plain top 4 bit": "#f59e0b",
    "random 4 bit": "#94a3b8",
    "dense 1 bit nearest": "#0f766e",
    "dense 1 bit stochastic": "#5eead4",
    "dense 4 bit nearest": "#7e22ce",
    "dense 4 bit stochastic": "#d8b4fe",
    "int8 rows": _INK,
}
_OTHER: Final = "#000000"
# Points of accuracy that the plot reaches down to: what loses more is of no use, and would flatten the rest.
_DEEPEST: Final = 3.0


def curve(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings on the tuning split on the left, budgets on the reported split on the right."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 4.2))
        for axes, (kind, title) in zip(
            figure.subplots(1, 2),
            (("settings", "settings, split 1000"), ("budgets", "chosen for a budget, split 0")),
            strict=True,
        ):
            _panel(axes, figures[kind], title)
        figure.tight_layout()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return stream.getvalue()


def _panel(axes: Axes, found: Mapping[str, Any], title: str) -> None:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, one in found.items():
        if name != "float32":
            series[name.split("/")[0]].append((one["bytes"], 100 * one["accuracy"]))
    reference = 100 * found["float32"]["accuracy"]
    for name, places in series.items():
        places.sort()
        axes.plot(*zip(*places, strict=True), "o-", label=name, color=_COLOURS.get(name, _OTHER), markersize=3.5)
    whole = found["float32"]["bytes"]
    axes.axhline(reference, color="#94a3b8", linewidth=1)
    axes.axhline(reference - 0.5, color="#94a3b8", linewidth=1, linestyle=":")
    axes.axvline(whole / 30, color="#94a3b8", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(reference - _DEEPEST, reference + 0.6)
    axes.set_title(f"{title}; lines: float32, 0.5 point less, a thirtieth of its bytes", fontsize=9)
    axes.set_xlabel("bytes an update, before sealing")
    axes.set_ylabel("federated accuracy, %")
    axes.legend(frameon=False, fontsize=7, loc="lower right")
