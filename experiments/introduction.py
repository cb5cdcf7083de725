"""What the page of results says before its tables; every figure of a result in it is taken from the study it introduces."""

from collections.abc import Callable, Iterator, Sequence

from experiments.methods import AT_EPSILON
from experiments.results import Study

Figure = Callable[[str, str, str, str], str]
"""(protocol, method, hospital, metric) -> the figure as text."""

TEXT = """# What federation is worth

Each hospital alone (local), all of them federated, and all rows in one place (central: an upper bound that real
hospitals cannot have), on the same patients and seeds, by the same program as over the network. The whole page:

`python -m experiments.compare --source PATH{flags} --out DIR --page docs/results.md`

PATH holds the four UCI files. Sums over few patients, which real hospitals keep to themselves, count here.
Tables show the mean over repetitions and, in brackets, its standard deviation between
them. "Union" is all test patients together, "mean" the unweighted mean over hospitals. "+ intercept": each hospital adds
one number of its own to the log odds, fitted on its own training rows; it never leaves. "+ finetune": five epochs more
on its own training rows. "+ prevalence": a new hospital's share of ill patients is estimated without any label. "epsilon":
trained under differential privacy, with that promise to every patient. Differences carry 95 % intervals of a paired
bootstrap over patients. Data of this page: {data}.

## In short

{short}

## How the settings were chosen

On training rows. A coarse search compared learning rates from 0.02 to 1, batches from 8 to all rows, 5 to 200 rounds,
weight decay from 0 to 0.1, logistic regression and networks of 16 to 64 hidden units, dropout, server momentum, private
intercepts trained along, FedAvg and FedAdagrad, and five scales of the 0/1 columns, by log loss in three inner
cross-validations: folds of the training folds of `cv` (seeds 0 and 1), folds of FLamby's 486 training rows, and leaving
one of three hospitals out. Logistic regression with 0/1 columns as -1/+1, batches of 64 and weight decay 0.01 did well in
all three: with FedAdagrad (local learning rate 0.05, server rate 0.1, 20 rounds) and, in a second search of 480 settings
over the same folds, with FedAvg at learning rate 0.15 and 30 rounds (log loss 0.399, 0.433 and 0.503 in the three; with 20
rounds 0.403, 0.449 and 0.506). FedAvg, the simplest, is the default. Local and central training have its learning rate.

What this leaves open, plainly: the training folds of all outer folds together are all patients, so each patient had a
say in the coarse search, though never in a model that was tested on it. That the scale of the 0/1 columns matters was
first seen when a published figure for new hospitals was redone on test rows; which scale to take was then decided on
training rows. And an earlier default (a network, 60 rounds, 0/1 columns as they are) was seen on the test rows of
`flamby`, `cv` and `new-hospital` before the search went on; on FLamby's it did a little better than what
replaced it. The search was run on a NumPy copy of the training, for speed, and is not part of this program. What is:
"federated chosen" measures what is left of all this; there each case chooses anew among six candidates on its own
training rows only.

The two later choices were made the same way. How long a patient's gradient may be under differential privacy (2): by log
loss in folds of FLamby's training rows, among 108 settings, at epsilon 1 and 5, on a NumPy copy; the other settings stayed
as they are without it, though 40 rounds instead of 20 did a little better (0.445 and 0.451 at epsilon 1). How much belief
the estimate of a new hospital's prevalence starts with (100 patients): by leaving one of three training hospitals out; its
test figures at beliefs of 0, 20 and 100 had been seen before, and 20 did better on them.
"""


def introduce(study: Study, flags: str) -> str:
    """The page's first part; `flags` are those of its command."""
    return TEXT.format(flags=flags, data=study.data, short="\n".join(f"- {line}" for line in short_lines(study)))


def short_lines(study: Study) -> Iterator[str]:
    """What a reader in a hurry should know; n/a where the study did not look."""
    values = {(r.protocol, r.method, r.hospital, r.metric): r.mean for r in study.results}
    first = next((r.method for r in study.results if r.method.startswith("federated")), "federated")
    own = f"{first} + intercept"

    def figure(protocol: str, method: str, hospital: str, metric: str) -> str:
        value = values.get((protocol, method, hospital, metric))
        return "n/a" if value is None else f"{value:.3f}"

    def row(protocol: str, hospital: str, metric: str, *methods: str) -> str:
        return ", ".join(f"{method} {figure(protocol, method, hospital, metric)}" for method in methods)

    everybody = ("local", first, own, "central")
    yield (
        "Where federation does not help: a hospital with all its data is at the ceiling already (cross-validation; mean "
        f"accuracy: {row('cv', 'mean', 'accuracy', *everybody)}; union AUROC: {row('cv', 'union', 'auroc', *everybody)})."
    )
    yield (
        f"Where it helps: ranking in the hospital with the hardest patients (VA, AUROC alone "
        f"{figure('cv', 'local', 'va', 'auroc')}, federated {figure('cv', first, 'va', 'auroc')}); little data (15 "
        f"patients each, mean AUROC alone {figure('small-15', 'local', 'mean', 'auroc')}, federated "
        f"{figure('small-15', first, 'mean', 'auroc')}); a hospital that brings no labels at all (mean AUROC "
        f"{figure('new-hospital', first, 'mean', 'auroc')})."
    )
    yield (
        "Hospitals differ in how many of their patients are ill, from 36 % to 94 %. One private number per hospital "
        f"takes the union's Brier score from {figure('cv', first, 'union', 'brier')} to "
        f"{figure('cv', own, 'union', 'brier')} (central, without and with: "
        f"{figure('cv', 'central', 'union', 'brier')}, {figure('cv', 'central + intercept', 'union', 'brier')})."
    )
    yield (
        "Switzerland's AUROC rests on 8 healthy patients in all (1 in FLamby's test): it says next to nothing, and the "
        "mean over hospitals inherits that."
    )
    yield (
        f"Which values are missing helps the model (union AUROC {figure('cv', first, 'union', 'auroc')} with, "
        f"{figure('cv-no-indicators', first, 'union', 'auroc')} without), because doctors order tests for those they "
        "worry about, and because it gives the hospital away: with a private intercept the gain is gone "
        f"({figure('cv', own, 'union', 'auroc')} with, {figure('cv-no-indicators', own, 'union', 'auroc')} without). It is "
        "habit, not medicine; a hospital with other habits may not want it: `--no-missing-indicators`."
    )
    yield (
        f"On FLamby's benchmark, mean accuracy is: {row('flamby', 'mean', 'accuracy', first, own)}. FLamby's own best "
        "federated figure is 0.731, 0.735 after fine-tuning, and 0.735 with all rows in one place (its results files and "
        "config at commit edacf54); it standardises inside each hospital, which wipes out what differs between them."
    )
    epsilons = sorted({r.epsilon for r in study.results if r.epsilon and r.protocol == "flamby"})
    if epsilons:
        yield privacy_line([(epsilon, f"{first}{AT_EPSILON}{epsilon:g}") for epsilon in epsilons], first, figure)
    guessed = f"{first} + prevalence"
    yield (
        "A hospital that was not in the federation and has no labels can still let the model estimate how many of its "
        "patients are ill, from their features (`predict --adapt-prevalence`): mean accuracy there goes from "
        f"{figure('new-hospital', first, 'mean', 'accuracy')} to {figure('new-hospital', guessed, 'mean', 'accuracy')}, the "
        f"Brier score from {figure('new-hospital', first, 'mean', 'brier')} to "
        f"{figure('new-hospital', guessed, 'mean', 'brier')} (all rows in one place, with the same: "
        f"{figure('new-hospital', 'central + prevalence', 'mean', 'accuracy')} and "
        f"{figure('new-hospital', 'central + prevalence', 'mean', 'brier')}). How far to trust the estimate (as if 100 "
        "patients spoke for the federation's share) was chosen by leaving training hospitals out."
    )
    yield (
        "What falls short: on FLamby's 254 test patients the union stays at accuracy "
        f"{figure('flamby', own, 'union', 'accuracy')}, AUROC {figure('flamby', own, 'union', 'auroc')} and Brier score "
        f"{figure('flamby', own, 'union', 'brier')}, where we aimed at 0.805, 0.885 and 0.136; all rows in one place give "
        f"{figure('flamby', 'central + intercept', 'union', 'accuracy')}, "
        f"{figure('flamby', 'central + intercept', 'union', 'auroc')} and "
        f"{figure('flamby', 'central + intercept', 'union', 'brier')}, and the standard error of that accuracy is 0.025. A "
        f"new hospital gets a mean accuracy of {figure('new-hospital', first, 'mean', 'accuracy')} from the model as it is, "
        "where we aimed at 0.80: without a label of its own the model does not know how many of its patients are ill."
    )


def privacy_line(methods: Sequence[tuple[float, str]], plain: str, figure: Figure) -> str:
    """What a promise costs in accuracy; `methods` are (epsilon, name), `plain` is the same without a promise."""

    def told(protocol: str, ending: str = "") -> str:
        each = [figure(protocol, method + ending, "mean", "accuracy") for _, method in methods]
        return f"{', '.join(each)}; {figure(protocol, plain + ending, 'mean', 'accuracy')} without"

    epsilons = ", ".join(f"{epsilon:g}" for epsilon, _ in methods)
    return (
        f"What a promise to every patient costs (differential privacy, docs/privacy.md): mean accuracy at epsilon {epsilons} "
        f"is, in cross-validation, {told('cv')}; with the private intercept, which never leaves its hospital, "
        f"{told('cv', ' + intercept')}; on FLamby's benchmark {told('flamby')} (FLamby's own federation under differential "
        "privacy has 0.702 at epsilon 1 and 0.700 at epsilon 5); in a hospital that is new to the model "
        f"{told('new-hospital')}. Where less privacy does not do better, that is chance: see the standard deviations."
    )
