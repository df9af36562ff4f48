"""The report's plots, as SVG text by Matplotlib."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

_INK = "#475569"
_BLUE, _RED, _GREY, _PALE = "#2563eb", "#b91c1c", "#94a3b8", "#bfdbfe"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "tasuki",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}


def accuracy(figures: Mapping[str, Any], arms: Sequence[str]) -> Markup:
    """Each arm on a home's later commands: a dot a device, the mean as a bar."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 3.2))
        axes = figure.subplots()
        for row, arm in enumerate(arms):
            name = f"accuracy_{arm}"
            devices = [100 * value for value in figures["by_device"][name]["all"]]
            colour = _GREY if arm == "centralised" else _BLUE if arm == "personalised" else _PALE
            axes.barh(row, 100 * figures[name], color=colour, height=0.62)
            axes.plot(devices, [row + 0.22 * ((i % 5) / 2 - 1) for i in range(len(devices))], "o", color=_INK,
                      markersize=2.5, alpha=0.6)  # fmt: skip
            axes.text(101, row, f"{100 * figures[name]:.1f}", va="center")
        axes.set_yticks(range(len(arms)), arms)
        axes.invert_yaxis()
        low = min(100 * value for arm in arms for value in figures["by_device"][f"accuracy_{arm}"]["all"])
        axes.set_xlim(max(0, low - 5), 105)
        axes.set_xlabel("right answers on later commands of the same home, % (dots: devices)")
        return _svg(figure)


def rounds(figures: Mapping[str, Any]) -> Markup:
    """Share of answers that the user corrects, by round."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.8))
        axes = figure.subplots()
        shares = [100 * value for value in figures["corrected"]["by_round"]]
        axes.plot(range(1, len(shares) + 1), shares, "o-", color=_BLUE)
        axes.set_ylim(0, max(shares) * 1.15)
        axes.set_xticks(range(1, len(shares) + 1))
        axes.set_xlabel("round")
        axes.set_ylabel("answers corrected, %")
        return _svg(figure)


def traffic(figures: Mapping[str, Any]) -> Markup:
    """Bytes of one update, sealed and signed, beside the same update as float32."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.8))
        axes = figure.subplots()
        values = [figures["bytes_float32_per_update"], figures["bytes_up_per_update"]]
        axes.bar(["float32, bare", "sealed, signed"], values, color=[_GREY, _BLUE], width=0.6)
        for place, value in enumerate(values):
            axes.text(place, value, f"{value:,.0f}", ha="center", va="bottom")
        axes.set_ylabel("bytes an update")
        return _svg(figure)


def students(figures: Mapping[str, Any]) -> Markup:
    """Teacher, float student, int8 student and n-grams on phrasings that nobody trained on."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7, 2.2))
        axes = figure.subplots()
        names = {"teacher": "teacher", "student_float": "student, float", "student_int8": "student, int8",
                 "ngrams": "hashed n-grams"}  # fmt: skip
        values = [100 * figures[name]["unseen"] for name in names]
        axes.barh(list(names.values()), values, color=[_GREY, _PALE, _BLUE, _RED], height=0.62)
        for row, value in enumerate(values):
            axes.text(value + 0.15, row, f"{value:.1f}", va="center")
        axes.invert_yaxis()
        axes.set_xlim(max(0, min(values) - 8), 101)
        axes.set_xlabel("right answers on unseen phrasings, %")
        return _svg(figure)


def _svg(figure: Figure) -> Markup:
    figure.tight_layout()
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    # Only the element: no XML declaration inside HTML. The text is Matplotlib's own, with numbers and fixed names.
    return Markup(re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL))  # noqa: S704
