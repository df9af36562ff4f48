"""`report.html`: one page without outside parts; its plots are SVG."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasuki.benchmarks import plots

ARMS: Final = ("base", "local", "federated", "personalised", "centralised")
_MEANING: Final = {
    "base": "the student as it was flashed",
    "local": "each home learns alone",
    "federated": "the fleet's adapter only",
    "personalised": "the fleet's adapter, and the home's own on top",
    "centralised": "reference: all homes' public commands in one place",
}


def write(figures: dict[str, Any], out: Path) -> Path:
    """Write `out`/report.html and return its path."""
    environment = Environment(
        loader=PackageLoader("tasuki.benchmarks", "."),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f} %"
    environment.filters["points"] = lambda value: "–" if value is None else f"{100 * value:.1f}"
    environment.filters["thousands"] = lambda value: f"{value:,.0f}"
    page = environment.get_template("report.html.j2").render(
        f=figures,
        arms=ARMS,
        meaning=_MEANING,
        accuracy=plots.accuracy(figures, ARMS),
        rounds=plots.rounds(figures),
        bytes=plots.traffic(figures),
        students=plots.students(figures["student"]),
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
