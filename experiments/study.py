"""Run a study: every protocol, method and repetition."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.flamby import flamby_cases
from experiments.methods import epsilon_of, run_case
from experiments.nested_cv import run_chosen
from experiments.paired_bootstrap import Difference, Repetition, compare
from experiments.results import Result, Study
from experiments.scoring import LABELS, MEAN, METRIC_NAMES, POOLED, Tested, join, score
from experiments.splits import SMALL_SIZES, Case, cross_validation_cases, new_hospital_cases, small_cases
from fedhealth.client.trainers import Trainers
from fedhealth.common.atomic_files import write_file
from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.data.patients import Patients
from fedhealth.data.schema import Schema
from fedhealth.data.sources.canonical_table import Source
from fedhealth.data.sources.load import load_source
from fedhealth.metrics.ranking import only_class

Say = Callable[[str], None]
NUM_SYNTHETIC = 920


def load_patients(source: str, schema: Schema, *, url: str, raw_folder: Path, say: Say) -> tuple[Source, Path]:
    """The table and the path of its files; FLamby's protocol reads them again for values that the table does not keep."""
    loaded = load_source(source, schema=schema, url=url, patients=NUM_SYNTHETIC, seed=0, raw_folder=raw_folder, say=say)
    return loaded, raw_folder if source in ("auto", "uci") else Path(source)


def write_study(study: Study, out: Path, page: Path | None, flags: str) -> list[Path]:
    """Write results.json, differences.json and figures into `out`, and the page if requested; returns the written paths.

    `flags` are the flags of the page's commands besides the protocol.
    """
    from experiments.figures import write_figures
    from experiments.introduction import introduce
    from experiments.page import methods_in_figures, protocols_of, write_page

    files = {out / "results.json": study.to_json(), out / "differences.json": study.differences_json()}
    for path, records in files.items():
        write_file(path, (json.dumps(records, indent=1, allow_nan=False) + "\n").encode())
    for protocol in protocols_of(study):
        write_figures(study, protocol, methods_in_figures(study, protocol), out)
    if page is not None:
        write_page(study, page, introduce, flags)
    return [*files, *([page] if page is not None else [])]


def run_study(
    source: Source,
    path: Path,
    schema: Schema,
    hospitals: Mapping[str, Patients],
    *,
    protocols: Sequence[str],
    strategies: Sequence[StrategyName],
    settings: FederationSettings,
    seeds: int,
    say: Say,
    choose: bool = False,
    epsilons: Sequence[float] = (),
) -> Study:
    """Run all protocols on the hospitals' patients; FLamby's protocol reads the raw files at `path`.

    The first strategy is also run under differential privacy, once for each of `epsilons`.
    With `choose`, the settings are also selected in every case, on its training rows (`nested_cv.py`).
    """
    tested: dict[tuple[str, str], list[Repetition]] = {}
    choices: dict[str, Counter[str]] = {}
    trainers = Trainers()
    for protocol in protocols:
        for name, cases in make_cases(protocol, schema, hospitals, path, seeds):
            chosen: list[str] = []
            found = run_protocol(
                cases, settings, strategies, trainers, chosen=chosen if choose else None, epsilons=epsilons
            )
            choices |= {name: Counter(chosen)} if chosen else {}
            for method, repetitions in found.items():
                tested[name, method] = repetitions
                say(summary_line(name, method, repetitions))
    results = [result for (name, method), runs in tested.items() for result in summarise(name, method, runs)]
    return Study(source.description, results, all_differences(tested), tested, choices)


def make_cases(
    protocol: str, schema: Schema, hospitals: Mapping[str, Patients], path: Path, seeds: int
) -> Iterator[tuple[str, Iterable[Case]]]:
    """Yield (name, cases) of a protocol; `small` has one pair per size."""
    if protocol == "flamby":
        yield protocol, flamby_cases(path, seeds)
    elif protocol == "cv":
        yield protocol, cross_validation_cases(schema, hospitals, seeds)
    elif protocol == "cv-no-indicators":
        yield protocol, cross_validation_cases(schema, hospitals, seeds, protocol, missing_indicators=False)
    elif protocol == "new-hospital":
        yield protocol, new_hospital_cases(schema, hospitals, seeds)
    else:
        for size in SMALL_SIZES:
            yield f"small-{size}", small_cases(schema, hospitals, seeds, size)


def run_protocol(
    cases: Iterable[Case],
    settings: FederationSettings,
    strategies: Sequence[StrategyName],
    trainers: Trainers,
    *,
    chosen: list[str] | None,
    epsilons: Sequence[float] = (),
) -> dict[str, list[Repetition]]:
    """Method -> its repetitions, each with the folds joined; appends selected candidates to `chosen` if it is a list."""
    parts: dict[str, dict[int, dict[str, list[Tested]]]] = {}
    for case in cases:
        methods = [run_case(case, settings, strategies, trainers, epsilons)]
        methods += [] if chosen is None else [run_chosen(case, settings, chosen, trainers)]
        for method, risks in itertools.chain(*methods):
            repetition = parts.setdefault(method, {}).setdefault(case.repetition, {})
            for name, values in risks.items():
                rows = case.test[name]
                only = only_class(case.train[name].patients.labels) if method == "local" else ""
                repetition.setdefault(name, []).append(Tested(rows.places, rows.patients.labels, values, only))
    return {
        method: [{name: join(folds) for name, folds in hospitals.items()} for hospitals in repetitions.values()]
        for method, repetitions in parts.items()
    }


def summarise(protocol: str, method: str, repetitions: Sequence[Repetition]) -> list[Result]:
    """Mean and standard deviation over repetitions, per hospital and metric."""
    scores = [score(repetition) for repetition in repetitions]
    results = []
    for hospital, metric in scores[0]:
        values = [each[hospital, metric] for each in scores if (hospital, metric) in each]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        mean, count, epsilon = float(np.mean(values)), len(values), epsilon_of(method)
        over = count_hospitals(scores, repetitions, metric) if hospital == MEAN else None
        results.append(Result(protocol, method, hospital, metric, mean, spread, count, epsilon, over))
    return results


def count_hospitals(
    scores: Sequence[Mapping[tuple[str, str], float]], repetitions: Sequence[Repetition], metric: str
) -> tuple[int, int]:
    """The fewest and the most hospitals that have this metric in a repetition."""
    pairs = zip(scores, repetitions, strict=True)
    counts = [sum((name, metric) in values for name in hospitals) for values, hospitals in pairs]
    return min(counts), max(counts)


def all_differences(
    tested: Mapping[tuple[str, str], Sequence[Repetition]],
) -> dict[tuple[str, str, str], Sequence[Difference]]:
    """Each federated method minus local and minus central (with the same kind of correction, if any)."""
    found: dict[tuple[str, str, str], Sequence[Difference]] = {}
    for (protocol, method), repetitions in tested.items():
        if not method.startswith("federated") or epsilon_of(method) is not None:
            continue
        _, personal, how = method.partition(" + ")
        central = f"central + {'prevalence' if how == 'prevalence' else 'intercept'}" if personal else "central"
        for reference in ("local", central):
            if (protocol, reference) in tested:
                found[protocol, method, reference] = compare(repetitions, tested[protocol, reference])
    return found


def summary_line(protocol: str, method: str, repetitions: Sequence[Repetition]) -> str:
    """Pooled and mean figures of one method, in one line."""
    values = {(r.hospital, r.metric): r.mean for r in summarise(protocol, method, repetitions)}
    shown = [
        f"{LABELS[where]} {METRIC_NAMES[metric]} {values[where, metric]:.3f}"
        for where in (POOLED, MEAN)
        for metric in ("accuracy", "auroc")
    ]
    return f"{protocol:<16}  {method:<34}  {'  '.join(shown)}  Brier {values[POOLED, 'brier']:.4f}"
