"""Rows of the table of everything that left the hospitals, from what the run folder records."""

from fedhealth.metrics.bins import NUM_BINS
from fedhealth.metrics.subgroups import find_divisions
from fedhealth.reporting.html.masked_disclosures import MASKED_BYTES, count_tested, masked_rows, num_weight_words
from fedhealth.reporting.html.run_reader import RunRecord

Row = tuple[str, ...]
HEADINGS = ("message", "content", "numbers per message", "messages")


def disclosure_rows(run: RunRecord) -> list[Row]:
    """A row per kind of message: its content, the numbers in each, how many the server received."""
    if run.are_sums:
        return masked_rows(run)
    members, settings = run.settings.hospitals, run.settings.settings
    weights = f"{run.num_weights:,}" if run.num_weights else "n/a"
    used = count_used(run)
    tested = count_tested(run)
    rows: list[Row] = [("describe", *_described(run), str(len(members)))]
    if settings["scaling"] == "federated":
        count = len(run.schema.numbers)
        what = f"for each of {count} measurements: number of patients with a value; sum, then sum of squared deviations"
        rows.append(("moments", what, f"{2 * count:,}", str(2 * len(members))))
    if settings.get("class-weights"):
        rows.append(("label counts", "numbers of healthy and of ill training patients", "2", str(len(members))))
    rows.append(("initial weights", "the untrained model (random seed), from one hospital", weights, "1"))
    what, amount, _ = _trained(run)
    rows.append(("weights", what, f"{amount:,}" if amount else "n/a", f"{used:,} used"))
    rows.append(("evaluation", *_counted(run), f"{tested:,}"))
    return [*rows, *_final_rows(run)]


def _trained(run: RunRecord) -> tuple[str, int, int]:
    """Content of the reply after training, how many numbers it holds (0: unknown), and the bytes of a number."""
    size = run.num_weights
    if run.settings.settings["strategy"] == "newton":
        what = (
            "mean loss; gradient and Hessian (upper triangle) at the global coefficients, summed over training patients"
        )
        return what, size + size * (size + 1) // 2, 8
    return f"the model after local training{', with noise' * _is_private(run)}", size, 4


def _final_rows(run: RunRecord) -> list[Row]:
    """Rows of the messages after the last round."""
    rows: list[Row] = []
    if run.summary is None:
        return rows
    if (fit := run.summary.odds_ratios) and any(row.standard_error is not None for row in fit.rows):
        size = run.num_weights
        what = (
            "gradient, Hessian and outer products of the patients' scores (upper triangles) at the final coefficients, "
            "summed over training patients"
        )
        most = len([name for name in run.names if not run.history or name not in run.history[-1].left_out])
        missing = not any(row.robust_error is not None for row in fit.rows)
        rows.append(("fit sums", what, f"{size + size * (size + 1):,}", f"{most:,}{' at most' * missing}"))
    if run.summary.subgroups:
        divisions = find_divisions(run.schema)
        what = f"confusion matrix at 0.5 by {' and '.join(divisions)} group, without small groups"
        most = 4 * sum(len(groups) for groups in divisions.values())
        rows.append(("subgroups", what, f"{most} at most", f"{len(run.summary.subgroups.disclosed):,}"))
    if importance := run.summary.importance:
        what = "drop in AUROC of the final model when a feature is permuted; number of test patients"
        rows.append(("importance", what, f"{1 + len(run.schema.features):,}", f"{len(importance.hospitals):,}"))
    if comparisons := run.summary.comparisons:
        what = "final against local model (--share-verdict): metric of both, difference, 95 % interval"
        rows.append(("comparison", what, "5 or 10", f"{len(comparisons):,}"))
    return rows


def count_held_out(run: RunRecord) -> int:
    """Number of validation patients of all hospitals."""
    return sum(member.validation_patients for member in run.settings.hospitals)


def _described(run: RunRecord) -> tuple[str, str]:
    """Content of the message in which a hospital describes itself, and how many numbers it holds."""
    if _is_private(run):
        return "a noisy number of training patients", "1"
    counted = "numbers of training patients, of test patients and of ill test patients"
    hashed = "; a keyed hash of the test patients" * any(member.split_hash for member in run.settings.hospitals)
    if count_held_out(run):
        return f"{counted}; the same of validation patients{hashed}", "5"
    return f"{counted}{hashed}", "3"


def _counted(run: RunRecord) -> tuple[str, str]:
    """Content of an evaluation, and how many numbers it holds."""
    if _is_private(run):
        return "noisy counts per bin of risk, by label (2 x 10)", "20"
    numbers = 2 * NUM_BINS + 3
    binned = f"counts per bin of risk, by label (2 x {NUM_BINS}); sums of log loss and squared error; number of test patients"
    if count_held_out(run):
        return f"{binned}; the same of validation patients", str(2 * numbers)
    return binned, str(numbers)


def _is_private(run: RunRecord) -> bool:
    return any(member.epsilon for member in run.settings.hospitals)


def weight_bytes(run: RunRecord) -> str:
    """Size of the received weights that were used, as text with the bytes per number."""
    _, numbers, each = _trained(run)
    if run.are_sums:
        numbers, each = num_weight_words(run), MASKED_BYTES
    amount = each * numbers * count_used(run) + 4 * run.num_weights
    size = f"{amount / 1e6:.1f} MB" if amount >= 1e6 else f"{amount / 1e3:.1f} kB"
    return f"{size} at {each} bytes per number"


def count_used(run: RunRecord) -> int:
    """Number of weights messages that were used, over all rounds: of those that were asked, and not left out."""
    used = 0
    for entry in run.history:
        left_out, asked = run.left_out(entry), entry.asked or run.names
        used += sum(name not in left_out for name in asked) if left_out else len(asked)
    return used
