"""A study as text: tables for the console, and the page docs/results.md."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.figures import write_figures
from experiments.paired_bootstrap import Difference
from experiments.results import Result, Study
from experiments.scoring import LABELS, MEAN, METRIC_NAMES, POOLED
from fedhealth.common.atomic_files import write_file
from fedhealth.common.text_table import format_table
from fedhealth.reporting.console.run_text import count

SHOWN = (POOLED, MEAN)
TITLES = {
    "flamby": "FLamby's benchmark: 740 patients, 13 columns, one split, five training seeds",
    "cv-no-indicators": "The same without indicators of missing values",
    "new-hospital": "A new hospital: trained on the others, tested on it",
    "small-15": "Little data: 15 training patients in each hospital",
    "small-30": "Little data: 30 training patients in each hospital",
    "small-60": "Little data: 60 training patients in each hospital",
}
COMPARED_ANYWHERE = {
    ("union", "accuracy"): "pooled accuracy",
    ("union", "auroc"): "pooled AUROC",
    ("union", "brier"): "pooled Brier",
    ("mean", "auroc"): "mean AUROC",
}
"""(hospital, metric) of a difference -> heading."""
COMPARED = {**COMPARED_ANYWHERE, ("va", "auroc"): "VA AUROC"}
"""The same for the heart disease data, of which VA has the patients that are hardest to rank."""

Lines = list[tuple[str, ...]]


def title_of(study: Study, protocol: str) -> str:
    """The heading of a protocol's tables."""
    if protocol != "cv":
        return TITLES.get(protocol, protocol)
    repetitions = next(each for (name, _), each in study.tested.items() if name == protocol)
    patients = sum(len(tested.places) for tested in repetitions[0].values())
    return f"Cross-validation: {patients} patients, five folds, {count(len(repetitions), 'seed')}"


def pooled_lines(study: Study, protocol: str) -> tuple[tuple[str, ...], Lines]:
    """Heading and lines: every method, pooled test patients and mean over hospitals."""
    values = {(r.method, r.hospital, r.metric): r for r in study.results if r.protocol == protocol}
    columns = [(where, metric) for where in SHOWN for metric in METRIC_NAMES]
    methods = dict.fromkeys(method for method, _, _ in values)
    total = len({hospital for _, hospital, _ in values} - {*SHOWN})
    heading = ("method", *(f"{LABELS[where]} {METRIC_NAMES[metric]}" for where, metric in columns))
    lines: Lines = []
    for method in methods:
        cells = [values.get((method, *column)) for column in columns]
        lines.append((method, *("n/a" if r is None else f"{r.mean:.3f} ({r.std:.3f}){over(r, total)}" for r in cells)))
    return heading, lines


def over(result: Result, total: int) -> str:
    """Over how many of `total` hospitals a mean is, such as `, 3 of 4`; empty if it is over all in every repetition."""
    if result.hospitals in (None, (total, total)):
        return ""
    fewest, most = result.hospitals or (0, 0)
    return f", {fewest} of {total}" if fewest == most else f", {fewest} to {most} of {total}"


def hospital_lines(study: Study, protocol: str) -> tuple[tuple[str, ...], Lines]:
    """Heading and lines: every method, AUROC and accuracy of each hospital."""
    values = {(r.method, r.hospital, r.metric): r for r in study.results if r.protocol == protocol}
    hospitals = [name for name in dict.fromkeys(hospital for _, hospital, _ in values) if name not in SHOWN]
    columns = [(name, metric) for metric in ("auroc", "accuracy") for name in hospitals]
    lines: Lines = []
    for method in dict.fromkeys(method for method, _, _ in values):
        cells = [values.get((method, *column)) for column in columns]
        most = max(r.n for r in cells if r is not None)
        lines.append((method, *("n/a" if r is None else f"{r.mean:.3f}{of_repetitions(r, most)}" for r in cells)))
    return ("method", *(f"{METRIC_NAMES[metric]} {name}" for name, metric in columns)), lines


def of_repetitions(result: Result, most: int) -> str:
    """In how many of `most` repetitions a metric is defined, such as `, in 16 of 20`; empty if in all."""
    return "" if result.n == most else f", in {result.n} of {most}"


def one_class_lines(study: Study, protocol: str) -> list[str]:
    """Where a model was trained on patients of one class, so that it has no AUROC."""
    lines = []
    for (name, method), repetitions in study.tested.items():
        for hospital in repetitions[0] if name == protocol else ():
            found = [only for each in repetitions if (only := each[hospital].trained_on_only)]
            if found:
                often = "" if len(found) == len(repetitions) else f" in {len(found)} of {len(repetitions)} repetitions"
                lines.append(
                    f"{method}, {hospital}: no AUROC{often}, because its training patients are all {max(found)}; the mean "
                    "AUROC, and its difference, are over the others there"
                )
    return lines


def difference_lines(study: Study, protocol: str) -> tuple[tuple[str, ...], Lines]:
    """Heading and lines: federated minus local and minus central, with 95 % intervals."""
    lines: Lines = []
    shown = COMPARED if any(result.hospital == "va" for result in study.results) else COMPARED_ANYWHERE
    for (name, method, reference), found in study.differences.items():
        if name != protocol or method.endswith("finetune"):
            continue
        where = {(each.hospital, each.metric): each for each in found}
        lines.append((f"{method} - {reference}", *(interval(where.get(column)) for column in shown)))
    return ("difference", *shown.values()), lines


def interval(difference: Difference | None) -> str:
    """A difference with its interval as text, such as `+0.012 [+0.003, +0.021]`."""
    if difference is None:
        return "n/a"
    return f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def selection_lines(study: Study, protocol: str) -> list[str]:
    """How often each candidate was selected on training rows."""
    chosen = study.choices.get(protocol, {})
    counts = ", ".join(f"{name} {times}x" for name, times in sorted(chosen.items(), key=lambda each: -each[1]))
    return [f"selected on training rows, case by case: {counts}"] if chosen else []


def console_text(study: Study, terminal: bool) -> str:
    """All tables, protocol by protocol."""
    blocks = []
    for protocol in protocols_of(study):
        blocks.append(f"\n{title_of(study, protocol)}")
        for make in (pooled_lines, hospital_lines, difference_lines):
            heading, lines = make(study, protocol)
            blocks += ["", format_table(heading, lines, text_columns=1, terminal=terminal)] if lines else []
        blocks += one_class_lines(study, protocol) + selection_lines(study, protocol)
    return "\n".join(blocks)


def protocols_of(study: Study) -> list[str]:
    """The protocols of a study, in the order of the runs."""
    return list(dict.fromkeys(result.protocol for result in study.results))


def write_page(study: Study, path: Path, introduction: Callable[[Study, str], str], flags: str) -> None:
    """Write the page, and its figures into a folder of the same name; `flags` are the flags of its commands."""
    parts = [introduction(study, flags)]
    for protocol in protocols_of(study):
        flag = protocol.split("-")[0] if protocol.startswith("small") else protocol
        command = f"python -m experiments.compare --source PATH --protocol {flag}{flags} --out DIR"
        parts.append(f"## {title_of(study, protocol)}\n")
        for make in (pooled_lines, hospital_lines, difference_lines):
            heading, lines = make(study, protocol)
            parts += [f"`{command}`\n", markdown(heading, lines)] if lines else []
        parts += [f"{line}\n" for line in one_class_lines(study, protocol) + selection_lines(study, protocol)]
        for name in write_figures(study, protocol, methods_in_figures(study, protocol), path.with_suffix("")):
            parts.append(f"![{name}]({path.stem}/{name})\n")
    write_file(path, "\n".join(parts).encode())


def methods_in_figures(study: Study, protocol: str) -> list[str]:
    """The methods shown in figures: local, the first strategy with and without its intercept, central."""
    methods = [method for name, method in study.tested if name == protocol]
    first = next(method for method in methods if method.startswith("federated"))
    return [method for method in ("local", first, f"{first} + intercept", "central") if method in methods]


def markdown(heading: Sequence[str], lines: Lines) -> str:
    """A Markdown table."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *lines)) + "\n"
