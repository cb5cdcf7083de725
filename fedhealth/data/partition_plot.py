"""How the hospitals differ, as a picture: an SVG with one row per hospital and one panel per property.

matplotlib is imported when a picture is drawn, without pyplot: no window, no global state, the same bytes every time.
"""

import io
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fedhealth.data.dataset_writer import client_file
from fedhealth.data.partition_table import MIXED, hospital_name
from fedhealth.data.patients import SYNTHETIC_PREFIX
from fedhealth.data.schema import Column, Schema
from fedhealth.data.validation import labels_of

MOST_ROWS = 40
"""Most hospitals that are legible; of more, this many are drawn, evenly chosen."""
MOST_NUMBERED = 16
"""Up to so many hospitals, the heat map also has its numbers."""
# Okabe & Ito's colours (2008), distinct for all common kinds of colour blindness.
BLUE, SKY, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
CODE_COLOURS = (ORANGE, SKY, GREEN, BLUE, VERMILLION, GREY)
NUM_BINS = 15
STYLE = {
    "svg.hashsalt": "fedhealth",  # or element ids change from run to run
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read by a screen reader
    "text.parse_math": False,  # a hospital's name may hold a dollar sign
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def draw_hospitals(schema: Schema, hospitals: Sequence[pd.DataFrame], *, title: str, file_format: str = "svg") -> bytes:
    """Draw one row per hospital: size, share ill, first number, first columns with two and with more codes, missing values.

    Synthetic patients are named as such in red.
    """
    import matplotlib
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it logs its font cache
    chosen = choose_rows(len(hospitals))
    drawn = [hospitals[i] for i in chosen]
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(15, 2.1 + 0.46 * max(len(drawn), 2)), layout="constrained")
        plan = plan_panels(schema)
        panels = figure.subplots(ncols=len(plan), sharey=True, width_ratios=[width for width, _ in plan])
        for axes, (_, draw) in zip(panels, plan, strict=True):
            draw(axes, drawn, pd.concat(hospitals))
        name_rows(panels[0], [row_name(schema, i, hospitals[i]) for i in chosen])
        write_headings(schema, figure, title, len(drawn), hospitals)
        metadata = {"Date": None, "Title": title} if file_format == "svg" else None
        figure.savefig(content, format=file_format, metadata=metadata)
    return content.getvalue()


def choose_rows(num_hospitals: int) -> list[int]:
    """Positions of the hospitals to draw: all, or `MOST_ROWS` evenly spread ones."""
    return [int(i) for i in np.linspace(0, num_hospitals - 1, min(num_hospitals, MOST_ROWS)).round()]


def row_name(schema: Schema, position: int, patients: pd.DataFrame) -> str:
    """File, and the hospital if it is one."""
    file = client_file(position + 1).removesuffix(".csv")
    hospital = hospital_name(schema, patients)
    return file if hospital == MIXED else f"{hospital[:28]}\n{file}"


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Name the rows, the first hospital on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def write_headings(schema: Schema, figure: Any, title: str, num_drawn: int, hospitals: Sequence[pd.DataFrame]) -> None:
    """The picture's title; what was left out; and, in red, that patients are synthetic."""
    left_out = f" ({num_drawn} of {len(hospitals)} hospitals, evenly chosen)" if num_drawn < len(hospitals) else ""
    figure.suptitle(title + left_out, x=0.01, ha="left", fontsize=13, fontweight="bold")
    if any(part[schema.hospital].str.startswith(SYNTHETIC_PREFIX).any() for part in hospitals):
        figure.text(0.99, 0.99, "synthetic patients", color="red", fontsize=14, fontweight="bold", ha="right", va="top")


Draw = Callable[[Any, Sequence[pd.DataFrame], pd.DataFrame], None]
"""Draws a panel on its axes: the hospitals, and all patients together."""


def plan_panels(schema: Schema) -> list[tuple[float, Draw]]:
    """(width, function that draws it) of each panel; a thin line marks the share among all patients."""

    def ill(axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
        shares = [float(labels_of(schema, part).mean()) for part in hospitals]
        draw_shares(axes, shares, float(labels_of(schema, everybody).mean()), VERMILLION)
        axes.set_title("ill")

    panels: list[tuple[float, Draw]] = [(1.2, draw_sizes), (1.2, ill)]
    if schema.numbers:
        panels.append((1.6, partial(draw_number, schema.numbers[0])))
    if two := next((column for column in schema.categories if len(column.codes) == 2), None):
        panels.append((1.2, partial(draw_second_code, two)))
    if more := next((column for column in schema.categories if 2 < len(column.codes) <= len(CODE_COLOURS)), None):
        panels.append((1.9, partial(draw_codes, more)))
    return [*panels, (3.2, partial(draw_missing, schema))]


def draw_sizes(axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """Bars of how many patients each hospital has."""
    sizes = [len(part) for part in hospitals]
    bars = axes.barh(range(len(sizes)), sizes, height=0.6, color=GREY)
    axes.bar_label(bars, padding=3)
    axes.set_xlim(0, 1.3 * max(sizes))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("patients")


def draw_shares(axes: Any, shares: Sequence[float], share_of_all: float, colour: str) -> None:
    """Bars of a share, 0 to 100 %, with a line at the share among all patients."""
    axes.barh(range(len(shares)), shares, height=0.6, color=colour)
    for row, share in enumerate(shares):
        axes.text(1.48, row, f"{100 * share:.0f} %", ha="right", va="center")
    axes.axvline(share_of_all, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1.6)
    axes.set_xticks([share_of_all], [f"all: {100 * share_of_all:.0f} %"])
    axes.spines["bottom"].set_visible(False)


def draw_number(column: Column, axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """A small histogram per hospital (bins of equal width, as high as its row) with its median."""
    known = everybody[column.name].dropna()
    edges = np.histogram_bin_edges(known, bins=NUM_BINS)
    for row, part in enumerate(hospitals):
        counts, _ = np.histogram(part[column.name].dropna(), bins=edges)
        heights = 0.75 * counts / max(1, counts.max())
        axes.bar(
            *(edges[:-1], -heights),
            bottom=row + 0.35,
            width=np.diff(edges),
            align="edge",
            color=SKY,
            edgecolor="white",
        )
        median = part[column.name].median()
        axes.plot([median, median], [row - 0.4, row + 0.35], color="black", linewidth=1.5)
    axes.set_title(
        f"{column.meaning} in {column.unit} (line: median)" if column.unit else f"{column.meaning} (line: median)"
    )


def draw_second_code(column: Column, axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """Bars of the share of patients with the second of two codes."""
    code, word = list(column.codes.items())[1]
    draw_shares(
        axes, [(part[column.name] == code).mean() for part in hospitals], (everybody[column.name] == code).mean(), BLUE
    )
    axes.set_title(f"{column.meaning}: {word}")


def draw_codes(column: Column, axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """Stacked bars of the codes' shares."""
    left = np.zeros(len(hospitals))
    for colour, (code, meaning) in zip(CODE_COLOURS, column.codes.items(), strict=False):
        shares = np.array([(part[column.name] == code).mean() for part in hospitals])
        axes.barh(range(len(shares)), shares, left=left, height=0.6, color=colour, label=meaning)
        left += shares
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(column.meaning)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, fontsize=8, ncols=2)


def draw_missing(schema: Schema, axes: Any, hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """Heat map of the share of missing values per hospital and column."""
    shares = np.array([part[list(schema.feature_names)].isna().mean().to_numpy() for part in hospitals])
    rows, columns = shares.shape
    axes.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(rows, columns) if rows <= MOST_NUMBERED else ():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", color=colour, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(columns), schema.feature_names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_title("missing values in % of patients (white 0, dark 100)")
