"""Figures of a study, as SVG: AUROC by hospital, calibration, and accuracy against epsilon."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.methods import AT_EPSILON
from experiments.results import Study
from experiments.scoring import LABELS, METRIC_NAMES, Tested, join
from fedhealth.common.atomic_files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_GROUPS = 10
WIDTH, HEIGHT = 7.5, 3.2


def write_figures(study: Study, protocol: str, methods: Sequence[str], folder: Path) -> list[str]:
    """Write the figures of one protocol; returns their file names."""
    figures = {
        f"{protocol}-auroc.svg": draw_auroc(study, protocol, methods),
        f"{protocol}-calibration.svg": draw_calibration(study, protocol, methods),
    }
    if any(result.epsilon and result.protocol == protocol for result in study.results):
        figures[f"{protocol}-privacy.svg"] = draw_privacy(study, protocol)
    for name, figure in figures.items():
        write_figure(figure, folder / name)
    return list(figures)


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as SVG; equal figures give equal bytes."""
    import io

    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "fedhealth", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    write_file(path, content.getvalue())


def draw_auroc(study: Study, protocol: str, methods: Sequence[str]) -> "Figure":
    """AUROC of each hospital and pooled, by method; error bars of one standard deviation over repetitions."""
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
    axes.set_xticks(range(len(hospitals)), [LABELS.get(name, name) for name in hospitals])
    axes.set_ylabel("AUROC")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return figure


def draw_privacy(study: Study, protocol: str) -> "Figure":
    """Accuracy (mean over hospitals) and AUROC (pooled) against epsilon, with and without correction in each hospital.

    Error bars of one standard deviation over repetitions; dashed lines for the same method without differential privacy.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    for place, (hospital, metric) in enumerate((("mean", "accuracy"), ("union", "auroc")), start=1):
        axes = figure.add_subplot(1, 2, place)
        found = {
            r.method: r for r in study.results if (r.protocol, r.hospital, r.metric) == (protocol, hospital, metric)
        }
        private_results = [(r.epsilon, *private_parts(r.method), r) for r in found.values() if r.epsilon]
        for colour, correction in zip(
            ("tab:blue", "tab:orange"), dict.fromkeys(each[2] for each in private_results), strict=False
        ):
            epsilons, plain, _, private = zip(*(each for each in private_results if each[2] == correction), strict=True)
            means, spreads = [r.mean for r in private], [r.std for r in private]
            label = f"private{correction}"
            axes.errorbar(epsilons, means, spreads, fmt="o-", color=colour, label=label, capsize=2, markersize=4)
            without = found[plain[0] + correction].mean
            axes.axhline(without, color=colour, linewidth=0.8, linestyle="--", label=f"not private{correction}")
            axes.set_xscale("log")
            axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
        axes.minorticks_off()
        axes.set_xlabel("epsilon (smaller: more private)")
        axes.set_title(f"{METRIC_NAMES[metric]}, {LABELS[hospital]}", fontsize=9)
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside lower center", ncols=4)
    return figure


def private_parts(method: str) -> tuple[str, str]:
    """The method without its epsilon, and its correction in each hospital: ` + intercept`, or an empty text."""
    plain, _, rest = method.partition(AT_EPSILON)
    _, plus, correction = rest.partition(" + ")
    return plain, plus + correction


def draw_calibration(study: Study, protocol: str, methods: Sequence[str]) -> "Figure":
    """Observed share of ill patients against mean predicted risk, in ten groups of equal size by risk."""
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
