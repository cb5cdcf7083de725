"""What left the hospitals in a run, as far as its folder tells."""

from fedhealth.reporting.html.run_reader import RunRecord

Row = tuple[str, ...]
HEADINGS = ("message", "what is in it", "numbers in one", "how many came")


def departure_rows(run: RunRecord) -> list[Row]:
    """What left the hospitals, as far as the run folder tells: kinds of messages, numbers in each, how many came."""
    members, settings = run.settings.hospitals, run.settings.settings
    weights = f"{run.num_weights:,}" if run.num_weights else "n/a"
    used = count_used(run)
    tested = sum(len(entry.hospitals) for entry in run.history) + _tested_again(run)
    rows: list[Row] = [("describe", *_described(run), str(len(members)))]
    if settings["scaling"] == "federated":
        rows.append(("moments", "per number: how many patients have it, and a sum", "12", str(2 * len(members))))
    if settings.get("class-weights"):
        rows.append(("label counts", "healthy and ill patients to train on", "2", str(len(members))))
    rows.append(("first weights", "the seeded model before any training, from one hospital", weights, "1"))
    noisy = ", with noise" if _is_private(run) else ""
    rows.append(("weights", f"the model after training in the hospital{noisy}", weights, f"{used:,} used"))
    rows.append(("evaluation", *_counted(run), f"{tested:,}"))
    return [*rows, *_told_afterwards(run)]


def _told_afterwards(run: RunRecord) -> list[Row]:
    """What was asked after the rounds, if it was."""
    rows: list[Row] = []
    if run.summary is None:
        return rows
    if run.summary.subgroups:
        what = "by sex and age band: ill and healthy, called ill and called healthy at 0.5; no small group"
        rows.append(("subgroups", what, "20 at most", f"{len(run.summary.subgroups.told):,}"))
    if told := run.summary.importance:
        row = ("importance", "the AUROC that the final model loses when a feature is shuffled, the number tested", "14")
        rows.append((*row, f"{len(told.hospitals):,}"))
    if verdicts := run.summary.verdicts:
        row = (
            "verdict",
            "what the model is worth there (--share-verdict): two metrics, their difference, its interval",
            "5 or 10",
        )
        rows.append((*row, f"{len(verdicts):,}"))
    return rows


def count_held_out(run: RunRecord) -> int:
    """Patients of all hospitals who were held out for choices."""
    return sum(member.validation_patients for member in run.settings.hospitals)


def _tested_again(run: RunRecord) -> int:
    """How many evaluations came after the rounds, of a final model that no round had ended with."""
    chosen = run.summary.choices if run.summary else None
    if not chosen:
        return 0
    again = (chosen.best_round not in (None, len(run.history))) + (chosen.temperature is not None)
    return again * len(chosen.evaluation.hospitals)


def _described(run: RunRecord) -> tuple[str, str]:
    """What hospitals told of their size, and how many numbers that is."""
    if _is_private(run):
        return "a noisy count of patients to train on", "1"
    counted = "patients to train on, patients and ill patients to test on"
    return (f"{counted}, and to choose on", "5") if count_held_out(run) else (counted, "3")


def _counted(run: RunRecord) -> tuple[str, str]:
    """What an evaluation tells, and how many numbers that is."""
    if _is_private(run):
        return "noisy counts per group of risk (2 x 10)", "20"
    binned = "counts per bin of risk (2 x 200), two sums, the number tested"
    return (f"{binned}; the same of those to choose on", "806") if count_held_out(run) else (binned, "403")


def _is_private(run: RunRecord) -> bool:
    return any(member.epsilon for member in run.settings.hospitals)


def weight_bytes(run: RunRecord) -> str:
    """Bytes of the weights that came and were used, at 4 bytes per number."""
    amount = 4 * run.num_weights * (count_used(run) + 1)
    return f"{amount / 1e6:.1f} MB" if amount >= 1e6 else f"{amount / 1e3:.1f} kB"


def count_used(run: RunRecord) -> int:
    """How many hospitals' weights are in the models of all rounds."""
    return sum(name not in entry.left_out for entry in run.history for name in run.names)
