"""Render report.html, MODEL_CARD.md, the comparison of several runs, and the live page."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fedhealth.common.atomic_files import write_file
from fedhealth.common.errors import UsageError
from fedhealth.metrics.permutation_importance import NUM_SHUFFLES
from fedhealth.reporting import odds_ratio_table
from fedhealth.reporting.html import clinical, disclosures, folding, model_card, subgroups, tables
from fedhealth.reporting.html.charts import Charts, comparison_charts, run_charts
from fedhealth.reporting.html.curves import FEWEST_FOR_ROC, SMALL_COUNT
from fedhealth.reporting.html.forest import draw_forest
from fedhealth.reporting.html.importance import feature_parts
from fedhealth.reporting.html.local_benefit import COMPARISON_HEADINGS, comparison_rows
from fedhealth.reporting.html.many_hospitals import HEADINGS, left_out_lines, summarise_many, worst_participation
from fedhealth.reporting.html.paired_runs import HEADINGS as PAIR_HEADINGS
from fedhealth.reporting.html.paired_runs import pair_runs
from fedhealth.reporting.html.run_reader import RunRecord, read_run
from fedhealth.reporting.html.svg import draw_matrix

TEMPLATES = Path(__file__).with_name("templates")
COMPARISON = Path("comparison.html")
"""The page of several runs, in the current folder."""
GENERATOR = '<meta name="generator" content="fedhealth">'
"""In the head of every page."""


def write_report(folder: Path, out: Path | None = None) -> None:
    """Write `report.html` (or `out`) and `MODEL_CARD.md` into a run folder, from its files.

    Raises
    ------
    UsageError
        The folder holds no run, its files are damaged, or it cannot be written to.
    """
    run = read_run(folder)
    parts = run_parts(run)
    write_file(out or folder / "report.html", report_page(run, parts).encode())
    write_file(folder / "MODEL_CARD.md", model_card_text(run, parts).encode())


def compare_runs(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write one page that compares several runs, `COMPARISON` unless `out` is given; returns its path.

    Raises
    ------
    UsageError
        As for one run, or `COMPARISON` exists and was not written by this program.
    """
    if out is None and COMPARISON.is_file() and GENERATOR.encode() not in COMPARISON.read_bytes():
        raise UsageError(f"{COMPARISON}: exists, and was not written by this version of report; give --out FILE.html")
    path = out or COMPARISON
    write_file(path, comparison_page([read_run(folder) for folder in folders]).encode())
    return path


@cache
def environment() -> Environment:
    """The Jinja environment; autoescape is on for every template, because hospitals' names are untrusted."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html",), default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(style=Markup(_text("style.css")), generator=Markup(GENERATOR))  # noqa: S704  # our own
    made.globals.update(small=SMALL_COUNT, fewest=FEWEST_FOR_ROC, shuffles=NUM_SHUFFLES)
    made.filters["md"] = model_card.escape_markdown
    return made


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def script_and_policy(name: str, connect: str = "'none'") -> dict[str, Markup]:
    """The script of a page with that of its search fields, and a content security policy that allows only them, by hash."""
    script = _text("search.js") + _text(name)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"script": Markup(script), "policy": Markup(policy)}  # noqa: S704  # our own file


def report_page(run: RunRecord, parts: Mapping[str, Any] | None = None) -> str:
    """report.html of one run; `parts` are its `run_parts`, if they are known."""
    template = environment().get_template("report.html")
    return template.render(run=run, **script_and_policy("report.js"), **(parts or run_parts(run)))


def run_parts(run: RunRecord) -> dict[str, Any]:
    """Values for the templates, of a finished or unfinished run."""
    tested, ill = tables.tested_counts(run) if run.history else (0, 0)
    charts: Charts = run_charts(run)
    return {
        "tables": tables,
        "disclosures": disclosures,
        "subgroups": subgroups,
        "clinical": clinical,
        "charts": charts,
        "metrics": tables.metric_rows(run) if run.history else [],
        "confusion": tables.confusion_rows(run),
        "tested": tested,
        "ill": ill,
        "folding": folding,
        "many": summarise_many(run),
        "left_out": left_out_lines(run),
        "quantile_headings": HEADINGS,
        **participation_parts(run),
        "guarantee": model_card.guarantee_lines(run),
        "odds_ratios": odds_ratio_parts(run),
        "importance": feature_parts(run),
        "comparisons": comparison_rows(run),
        "comparison_headings": COMPARISON_HEADINGS,
        "source": tables.describe_source(run.settings.dataset),
    }


def odds_ratio_parts(run: RunRecord) -> dict[str, Any] | None:
    """The forest plot and the table of a run with the strategy newton; None of any other."""
    odds_ratios = run.summary.odds_ratios if run.summary else None
    if odds_ratios is None:
        return None
    rows = odds_ratio_table.table_rows(odds_ratios)
    chart, lines = draw_forest(odds_ratios), odds_ratio_table.remarks(odds_ratios)
    return {"headings": odds_ratio_table.HEADINGS, "rows": rows, "chart": chart, "remarks": lines}


def participation_parts(run: RunRecord) -> dict[str, Any]:
    """The matrix of hospitals and rounds; of very many hospitals also the folded one of all."""
    if not run.history:
        return {"matrix": "", "whole_matrix": ""}
    if run.is_very_many:
        return {"matrix": draw_matrix("participation by round", worst_participation(run)), "whole_matrix": ""}
    rows = tables.participation(run)
    shown = folding.fold_participation(rows)
    whole = draw_matrix("participation by round, all hospitals", rows) if len(shown) < len(rows) else ""
    return {"matrix": draw_matrix("participation by round", shown), "whole_matrix": whole}


def comparison_page(runs: Sequence[RunRecord]) -> str:
    """The page of several runs: common charts, metrics side by side, and the settings that differ."""
    rows = [tables.metric_rows(run) for run in runs]
    settings = [dict(tables.setting_rows(run)) for run in runs]
    flags = list(dict.fromkeys(flag for each in settings for flag in each))
    differing = [(flag, [each.get(flag, "") for each in settings]) for flag in flags]
    differing.insert(0, ("schema", [f"{run.schema.title} ({run.settings.schema})" for run in runs]))
    return (
        environment()
        .get_template("comparison.html")
        .render(
            runs=runs,
            tables=tables,
            metrics=list(zip(*rows, strict=True)),
            settings=[(flag, values) for flag, values in differing if len(set(values)) > 1],
            charts=comparison_charts(runs),
            pairs=pair_runs(runs),
            pair_headings=PAIR_HEADINGS,
            **script_and_policy("report.js"),
        )
    )


class Live(Protocol):
    """A run in progress (`LiveRun`)."""

    phase: str

    def record(self) -> RunRecord:
        """The run so far, as if read from its folder."""
        ...


def live_page(live: Live) -> tuple[str, str]:
    """The live page, and the content security policy to send with it."""
    parts = script_and_policy("live.js", connect="'self'")
    fragment = Markup(live_fragment(live))  # noqa: S704  # escaped by its template
    return environment().get_template("live.html").render(fragment=fragment, **parts), str(parts["policy"])


def live_fragment(live: Live) -> str:
    """The part of the live page that changes."""
    run = live.record()
    done, rounds = run.history[-1].round_num if run.history else 0, int(run.settings.settings["rounds"])
    template = environment().get_template("live_fragment.html")
    return template.render(live=live, run=run, done=done, rounds=rounds, **run_parts(run))


def model_card_text(run: RunRecord, parts: Mapping[str, Any] | None = None) -> str:
    """The model card as Markdown (headings after Mitchell et al. 2019, "Model Cards for Model Reporting").

    `parts` are as for `report_page`.
    """
    settings, parts = run.settings_in_use, parts or run_parts(run)
    return (
        environment()
        .get_template("model_card.md")
        .render(
            run=run,
            settings=settings,
            scaling=model_card.SCALINGS.get(str(settings["scaling"]), settings["scaling"]),
            md_table=model_card.markdown_table,
            intended=model_card.intended_use(run.schema),
            metric_table=[(row.name, row.value, row.interval, row.meaning) for row in parts["metrics"]],
            reliability=model_card.reliability_rows(run),
            limits=model_card.limit_lines(run),
            privacy=model_card.privacy_lines(run),
            **parts,
        )
    )
