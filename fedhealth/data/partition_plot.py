"""How the hospitals differ, as a picture: an SVG with one row per hospital and one panel per property.

matplotlib is imported when a picture is drawn, without pyplot: no window, no global state, the same bytes every time.
"""

import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedhealth.data import schema
from fedhealth.data.dataset_writer import client_file
from fedhealth.data.partition_table import MIXED, hospital_name

MOST_ROWS = 40
"""Most hospitals that are legible; of more, this many are drawn, evenly chosen."""
MOST_NUMBERED = 16
"""Up to so many hospitals, the heat map also has its numbers."""
# Okabe & Ito's colours (2008), distinct for all common kinds of colour blindness.
BLUE, SKY, ORANGE, GREEN, VERMILLION, GREY = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
CHEST_PAIN_COLOURS = {1: ORANGE, 2: SKY, 3: GREEN, 4: BLUE}
AGE_BINS = np.arange(20, 95, 5)
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


def draw_hospitals(hospitals: Sequence[pd.DataFrame], *, title: str, file_format: str = "svg") -> bytes:
    """Draw one row per hospital: size, share ill, ages, share of men, chest pain and missing values.

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
        panels = figure.subplots(ncols=6, sharey=True, width_ratios=[1.2, 1.2, 1.6, 1.2, 1.9, 3.2])
        draw_panels(panels, drawn, pd.concat(hospitals))
        name_rows(panels[0], [row_name(i, hospitals[i]) for i in chosen])
        write_headings(figure, title, len(drawn), hospitals)
        metadata = {"Date": None, "Title": title} if file_format == "svg" else None
        figure.savefig(content, format=file_format, metadata=metadata)
    return content.getvalue()


def choose_rows(num_hospitals: int) -> list[int]:
    """Positions of the hospitals to draw: all, or `MOST_ROWS` evenly spread ones."""
    return [int(i) for i in np.linspace(0, num_hospitals - 1, min(num_hospitals, MOST_ROWS)).round()]


def row_name(position: int, patients: pd.DataFrame) -> str:
    """File, and the hospital if it is one."""
    file = client_file(position + 1).removesuffix(".csv")
    hospital = hospital_name(patients)
    return file if hospital == MIXED else f"{hospital[:28]}\n{file}"


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Name the rows, the first hospital on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def write_headings(figure: Any, title: str, num_drawn: int, hospitals: Sequence[pd.DataFrame]) -> None:
    """The picture's title; what was left out; and, in red, that patients are synthetic."""
    left_out = f" ({num_drawn} of {len(hospitals)} hospitals, evenly chosen)" if num_drawn < len(hospitals) else ""
    figure.suptitle(title + left_out, x=0.01, ha="left", fontsize=13, fontweight="bold")
    if any(part[schema.HOSPITAL].str.startswith(schema.SYNTHETIC_PREFIX).any() for part in hospitals):
        figure.text(0.99, 0.99, "synthetic patients", color="red", fontsize=14, fontweight="bold", ha="right", va="top")


def draw_panels(panels: Sequence[Any], hospitals: Sequence[pd.DataFrame], everybody: pd.DataFrame) -> None:
    """Fill the six panels; a thin line marks the share among all patients."""
    sizes, ill, ages, men, chest_pain, missing = panels
    draw_sizes(sizes, hospitals)
    draw_shares(ill, [part[schema.TARGET].mean() for part in hospitals], everybody[schema.TARGET].mean(), VERMILLION)
    ill.set_title("ill")
    draw_ages(ages, hospitals)
    draw_shares(men, [part["sex"].mean() for part in hospitals], everybody["sex"].mean(), BLUE)
    men.set_title("men")
    draw_chest_pain(chest_pain, hospitals)
    draw_missing(missing, hospitals)


def draw_sizes(axes: Any, hospitals: Sequence[pd.DataFrame]) -> None:
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


def draw_ages(axes: Any, hospitals: Sequence[pd.DataFrame]) -> None:
    """A small histogram per hospital (bins of 5 years, as high as its row) with its median."""
    for row, part in enumerate(hospitals):
        counts, edges = np.histogram(part["age"].clip(AGE_BINS[0], AGE_BINS[-1]), bins=AGE_BINS)
        heights = 0.75 * counts / counts.max()
        axes.bar(edges[:-1], -heights, bottom=row + 0.35, width=5, align="edge", color=SKY, edgecolor="white")
        median = part["age"].median()
        axes.plot([median, median], [row - 0.4, row + 0.35], color="black", linewidth=1.5)
    axes.set_xticks([30, 50, 70])
    axes.set_title("age in years (line: median)")


def draw_chest_pain(axes: Any, hospitals: Sequence[pd.DataFrame]) -> None:
    """Stacked bars of the chest pain types' shares."""
    codes = next(column.codes for column in schema.FEATURES if column.name == "cp")
    left = np.zeros(len(hospitals))
    for code, meaning in codes.items():
        shares = np.array([(part["cp"] == code).mean() for part in hospitals])
        axes.barh(range(len(shares)), shares, left=left, height=0.6, color=CHEST_PAIN_COLOURS[code], label=meaning)
        left += shares
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("chest pain type")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, fontsize=8, ncols=2)


def draw_missing(axes: Any, hospitals: Sequence[pd.DataFrame]) -> None:
    """Heat map of the share of missing values per hospital and column."""
    shares = np.array([part[list(schema.FEATURE_NAMES)].isna().mean().to_numpy() for part in hospitals])
    rows, columns = shares.shape
    axes.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(rows, columns) if rows <= MOST_NUMBERED else ():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", color=colour, ha="center", va="center", fontsize=8)
    axes.set_xticks(range(columns), schema.FEATURE_NAMES, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_title("missing values in % of patients (white 0, dark 100)")
