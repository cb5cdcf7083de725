"""Two pictures of a study, as SVG: what each hospital gets out of it, and whether risks mean what they say."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedhealth.compare.scoring import Tested, join
from fedhealth.compare.study import Study
from fedhealth.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_GROUPS = 10
WIDTH, HEIGHT = 7.5, 3.2


def write_figures(study: Study, protocol: str, methods: Sequence[str], folder: Path) -> list[str]:
    """Draw the pictures of one protocol; returns their file names."""
    names = [f"{protocol}-auroc.svg", f"{protocol}-calibration.svg"]
    write_figure(draw_auroc(study, protocol, methods), folder / names[0])
    write_figure(draw_calibration(study, protocol, methods), folder / names[1])
    return names


def write_figure(figure: "Figure", path: Path) -> None:
    """The same figure gives the same bytes."""
    import io

    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "fedhealth", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    write_file(path, content.getvalue())


def draw_auroc(study: Study, protocol: str, methods: Sequence[str]) -> "Figure":
    """AUROC of each hospital and the union, by method; bars of one standard deviation over repetitions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    values = {(r.method, r.hospital): r for r in study.results if r.protocol == protocol and r.metric == "auroc"}
    hospitals = [name for name in dict.fromkeys(hospital for _, hospital in values) if name != "mean"]
    for place, method in enumerate(methods):
        shown = [(x, values[method, name]) for x, name in enumerate(hospitals) if (method, name) in values]
        offsets = [x + (place - (len(methods) - 1) / 2) * 0.15 for x, _ in shown]
        means, spreads = [r.mean for _, r in shown], [r.std for _, r in shown]
        axes.errorbar(offsets, means, yerr=spreads, fmt="o", markersize=5, capsize=2, label=method)
    axes.set_xticks(range(len(hospitals)), hospitals)
    axes.set_ylabel("AUROC")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def draw_calibration(study: Study, protocol: str, methods: Sequence[str]) -> "Figure":
    """Share of ill patients against mean predicted risk, in tenths of the patients by risk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(HEIGHT + 1, HEIGHT + 1))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for method in methods:
        tested = join([hospital for run in study.tested[protocol, method] for hospital in run.values()])
        axes.plot(*reliability(tested), marker="o", markersize=4, linewidth=1, label=method)
    axes.set_xlabel("predicted risk")
    axes.set_ylabel("share of patients who are ill")
    axes.legend(fontsize=7, frameon=False)
    return figure


def reliability(tested: Tested) -> tuple[list[float], list[float]]:
    """Mean risk and share of ill patients of each group of equal size."""
    groups = np.array_split(np.argsort(tested.risks, kind="stable"), NUM_GROUPS)
    full = [group for group in groups if len(group)]
    return [float(tested.risks[g].mean()) for g in full], [float(tested.labels[g].mean()) for g in full]
