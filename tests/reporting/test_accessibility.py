"""Pages for all readers: landmarks, headings, tables, contrast, the data of charts, and pages of very many hospitals."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec import structs

from fedhealth.config.federation import FederationSettings
from fedhealth.data.sources.heart import HEART
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.reporting.format import POOLED
from fedhealth.reporting.html.chart_data import MOST_ROWS, data_table
from fedhealth.reporting.html.folding import fold_participation, fold_rows, fold_states
from fedhealth.reporting.html.pages import TEMPLATES, compare_runs, live_fragment, live_page, write_report
from fedhealth.server.events import RunStarted
from tests.support.processes import PATIENCE
from tests.support.run_folders import make_members, make_record, write_run

SIX = tuple(f"hospital {letter}" for letter in "abcdef")
MANY = tuple(f"hospital number {number}" for number in range(60))
SETTINGS = FederationSettings(hospitals=4, rounds=3)
VOID = {"meta", "input", "br"}


class Outline(HTMLParser):
    """What a screen reader finds: text outside the main landmark, heading levels, header cells, scrolling regions."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.levels: list[int] = []
        self.headings: dict[str, bool] = {}
        """Text of a heading or class of tiles -> whether it can be seen on a page whose sections are folded."""
        self.headers: list[str] = []
        self.unreachable = 0
        self.rows_shown = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if found.get("class") == "tiles":
            self.headings["tiles"] = "details" not in self.open
        if tag == "th":
            self.headers.append("")
        if found.get("class") == "scroll" and not (found.get("tabindex") == "0" and found.get("aria-label")):
            self.unreachable += 1
        self.rows_shown += tag in ("tr", "li") and "details" not in self.open

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] == "th":
            self.headers[-1] += text
        if self.open and re.fullmatch("h[2-3]", self.open[-1]):
            self.headings[text] = "details" not in self.open
        if text.strip() and "body" in self.open and not {"main", "script"} & set(self.open):
            self.outside.append(text)


def live_run(names: tuple[str, ...]) -> LiveRun:
    run = LiveRun("2026-11-24")
    run.on_event(RunStarted(SETTINGS, HEART, make_members(names), "synthetic"))
    run.on_event(make_record(1, names))
    return run


def in_browser(page: Path, folder: Path) -> str:
    """The page in a browser after its scripts have run."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom"]
    more = ["--hide-scrollbars", "--window-size=1400,900", "--virtual-time-budget=3000"]
    done = subprocess.run([chromium, *flags, *more, f"file://{page}"], capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout


def report(folder: Path, names: tuple[str, ...] = SIX) -> str:
    record = make_record(1, names)
    write_report(write_run(folder, names, [structs.replace(record, round_num=number) for number in (1, 2, 3)]))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("pages")
    made = {"report": report(out / "one"), "live": live_page(live_run(SIX))[0]}
    compare_runs([out / "one", out / "one"], out / "both.html")
    return {**made, "comparison": (out / "both.html").read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", ["report", "live", "comparison"])
def test_a_page_can_be_found_through_by_its_structure(pages: dict[str, str], name: str) -> None:
    outline = Outline(pages[name])
    assert pages[name].count("<main") == 1
    assert outline.outside == []
    assert outline.levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in zip(outline.levels, outline.levels[1:], strict=False))
    assert outline.headers
    assert all(header.strip() for header in outline.headers)
    assert outline.unreachable == 0


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def palettes() -> dict[str, dict[str, str]]:
    """Scheme -> variable -> colour; the dark scheme takes what it does not change from the light one."""
    light, dark = re.findall(r":root \{([^}]*)\}", (TEMPLATES / "style.css").read_text(encoding="utf-8"))[:2]
    found = [dict(re.findall(r"--(\w+): (#\w+)", each)) for each in (light, dark)]
    return {"light": found[0], "dark": found[0] | found[1]}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#e69f00", "#fff") == pytest.approx(2.25, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_page(scheme: str) -> None:
    colours = palettes()[scheme]
    for text in ("ink", "soft", "alarm"):
        assert contrast(colours[text], colours["paper"]) >= 4.5
    for place in range(7):  # WCAG 2.2, 1.4.11: graphics
        assert contrast(colours[f"c{place}"], colours["paper"]) >= 3


# --- the data of charts -----------------------------------------------------------------------------------------------


def test_lines_with_the_same_x_values_are_columns_of_one_table() -> None:
    table = data_table("Loss <1", [("va", [(1, "0.7"), (2, "0.6")]), ("a&b", [(2, "0.5")])], "round", "loss")
    assert "<caption>Data: Loss &lt;1</caption>" in table
    assert re.findall(r"<th scope=\"col\">(.*?)</th>", table) == ["round", "loss: va", "loss: a&amp;b"]
    assert re.findall(r"<td>(.*?)</td>", table) == ["1", "0.7", "n/a", "2", "0.6", "0.5"]


def test_lines_with_other_x_values_are_a_row_per_point() -> None:
    table = data_table("ROC", [("va", [(0, "0.0"), (0, "0.5"), (1, "1.0")])], "x", "y")
    assert re.findall(r"<td>(.*?)</td>", table) == ["va", "0", "0.0", "va", "0", "0.5", "va", "1", "1.0"]


def test_a_long_line_is_listed_from_its_first_to_its_last_point() -> None:
    table = data_table("Loss", [("va", [(place, str(place)) for place in range(1, 1001)])], "round", "loss")
    rows = re.findall(r"<tr><td>(\d+)</td>", table)
    assert (len(rows), rows[0], rows[-1]) == (MOST_ROWS, "1", "1000")


@pytest.mark.parametrize("name", ["report", "live", "comparison"])
def test_every_line_chart_has_its_data_as_a_table(pages: dict[str, str], name: str) -> None:
    charts = re.findall(r'<svg class="chart" .*?aria-label="(.*?)"', pages[name])
    assert charts
    assert re.findall(r"<caption>Data: (.*?)</caption>", pages[name]) == charts


# --- very many hospitals ----------------------------------------------------------------------------------------------


def test_of_very_many_rows_the_ten_highest_and_lowest_are_shown_with_the_total() -> None:
    rows = [(f"h{place}", "few" if place == 7 else f"0.{place:03}") for place in range(40)]
    folded = fold_rows(("hospital", "AUROC"), [*rows, (POOLED, "0.5")], "AUROC")
    names = [row[0] for row in folded.shown]
    assert names == [
        *(f"h{n}" for n in range(39, 29, -1)),
        *(f"h{n}" for n in (10, 9, 8, 6, 5, 4, 3, 2, 1, 0)),
        names[-1],
    ]
    assert names[-1] == POOLED
    assert len(folded.all) == 41
    assert fold_rows(("hospital", "AUROC"), rows[:30], "AUROC").shown == rows[:30]


def test_of_very_many_hospitals_those_that_miss_most_are_shown() -> None:
    rows = [(name, ["trained", "absent" if name == MANY[50] else "trained"]) for name in MANY]
    assert len(fold_participation(rows)) == 20
    assert fold_participation(rows)[0][0] == MANY[50]
    states = [(name, "left" if name == MANY[50] else "working", "") for name in MANY]
    assert fold_states(states)[0] == (MANY[50], "left", "")


def test_a_page_of_very_many_hospitals_shows_few_rows_and_folds_the_rest(tmp_path: Path) -> None:
    page, live = report(tmp_path, MANY), live_page(live_run(MANY))[0]
    for text in (page, live):
        assert all(name in text for name in MANY)
        assert '<input type="search">' in text
    assert Outline(page).rows_shown < 160
    assert Outline(live).rows_shown < 80


# --- narrow screens ---------------------------------------------------------------------------------------------------


def test_what_is_secondary_is_folded_and_results_and_absences_are_not(tmp_path: Path) -> None:
    headings = Outline(report(tmp_path)).headings
    assert [text for text, is_seen in headings.items() if not is_seen] == [
        "Confidence intervals",
        "Subgroups",
        "What left the hospitals",
        "Settings, time and software",
        "Suppression of small groups",
    ]
    seen = {"tiles", "Metrics on all test patients, pooled", "Results by hospital", "Participation by round"}
    assert seen <= {text for text, is_seen in headings.items() if is_seen}


FRAME = """<!DOCTYPE html><html><head><title></title></head><body><iframe src="report.html" width="%d" height="900"></iframe>
<script>addEventListener("message", function (event) { document.title = event.data; });</script></body></html>"""
ASK = """<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth, document.documentElement.scrollHeight,
document.querySelectorAll("details.section[open]").length].join(" "), "*");</script></body>"""


@pytest.mark.parametrize(("width", "hospitals"), [(390, 4), (390, 300), (1280, 4)])
def test_on_a_telephone_the_page_is_short_and_elsewhere_all_sections_are_unfolded(
    tmp_path: Path, width: int, hospitals: int
) -> None:
    page = report(tmp_path, tuple(f"synthetic-hospital-{number:06}" for number in range(hospitals)))
    free = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", page).replace("</body>", ASK)
    (tmp_path / "report.html").write_text(free, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME % width, encoding="utf-8")
    found = re.search(
        r"<title>(\d+) (\d+) (\d+) (\d+)</title>", in_browser(tmp_path / "frame.html", tmp_path / "browser")
    )
    assert found is not None
    inner, needed, height, unfolded = (int(number) for number in found.groups())
    assert (inner, needed) == (width, width)
    if width == 390:
        assert (height <= 6000, unfolded) == (True, 0), height
    else:
        assert unfolded == page.count('<details class="section">') > 4


# --- the live page in a browser ---------------------------------------------------------------------------------------

HARNESS = """<!DOCTYPE html><html><head><title></title><style>.scroll { width: 90px; overflow: auto; }</style></head>
<body><p id="connection"></p><div id="run">%s</div><script>
var heard = {};
window.EventSource = function () { this.addEventListener = function (name, call) { heard[name] = call; }; };
</script><script>%s</script><script type="application/json" id="fresh">%s</script><script>
var region = document.querySelector(".scroll"), cell = region.querySelector("td");
region.scrollLeft = 40; region.focus(); getSelection().selectAllChildren(cell);
heard.run({data: JSON.parse(document.getElementById("fresh").textContent)});
document.title = [document.querySelector("h1").textContent, region.scrollLeft, getSelection().toString(),
  document.activeElement === region].join(" | ");
</script></body></html>"""


def test_an_update_of_the_live_page_keeps_scroll_position_selection_and_focus(tmp_path: Path) -> None:
    run = live_run(SIX)
    first = live_fragment(run)
    run.on_event(make_record(2, SIX))
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("search.js", "live.js"))
    page = tmp_path / "page.html"
    page.write_text(HARNESS % (first, script, json.dumps(live_fragment(run)).replace("</", "<\\/")), encoding="utf-8")
    assert "<title>Round 2 of 3 | 40 | hospital a | true</title>" in in_browser(page, tmp_path)
