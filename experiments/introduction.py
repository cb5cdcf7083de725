"""The first part of the page of results; every result in it is taken from the study."""

from collections.abc import Callable, Iterator, Sequence

from experiments.methods import AT_EPSILON
from experiments.page import interval
from experiments.results import Study

Figure = Callable[[str, str, str, str], str]
"""(protocol, method, hospital, metric) -> the mean as text."""

TEXT = """# Local, federated and central training compared

Each hospital trains alone (local), all hospitals train together (federated), or one model is trained on the pooled rows
(central, which real hospitals cannot do: an upper bound). Patients and seeds are the same, and so is the program, which is
the one that runs over the network. The command for the whole page:

`python -m experiments.compare --source PATH{flags} --out DIR --page docs/results.md`

PATH is the folder of the four UCI files. No sum is suppressed here; real hospitals suppress sums over few patients.
Tables show the mean over repetitions and, in brackets, the standard deviation between repetitions. "Pooled" metrics are
computed on all test patients together (`union` in the JSON files), "mean" is the unweighted mean over
all hospitals, unless the cell says over how many: a local model of a hospital whose training patients are all ill has learned
no ranking, so it has no AUROC.
"+ intercept": each hospital adds an intercept to the log odds, fitted on its own training rows and never sent.
"+ joint intercept" (newton): the hospitals' intercepts are optimal together with all coefficients.
"+ finetune": five more epochs on the hospital's own training rows. "+ prevalence": the prevalence of a new hospital is
estimated without labels. "epsilon": trained under differential privacy with this epsilon for every patient. Differences
have 95 % intervals of a paired bootstrap over patients. Data of this page: {data}.

## In short

{short}

## How the settings were chosen

Settings were chosen on training rows. A coarse search compared learning rates from 0.02 to 1, batches from 8 to all rows,
5 to 200 rounds, weight decay from 0 to 0.1, logistic regression and networks of 16 to 64 hidden units, dropout, server
momentum, private intercepts that are trained with the model, FedAvg and FedAdagrad, and five scales of the 0/1 columns. The
criterion was log loss in three inner cross-validations: folds of the training folds of `cv` (seeds 0 and 1), folds of
FLamby's 486 training rows, and leaving one of three hospitals out. Logistic regression with 0/1 columns as -1/+1, batches of
64 and weight decay 0.01 did well in all three: with FedAdagrad (local learning rate 0.05, server rate 0.1, 20 rounds) and,
in a second search of 480 settings over the same folds, with FedAvg at learning rate 0.15 and 30 rounds (log loss 0.399,
0.433 and 0.503 in the three; with 20 rounds 0.403, 0.449 and 0.506). FedAvg, the simplest, is the default. Local and central
training have its learning rate.

Limits of this procedure: the training folds of all outer folds together contain all patients, so each patient influenced
the coarse search, though never a model that was tested on this patient. That the scale of the 0/1 columns matters was first
noticed when a published result for new hospitals was reproduced on test rows; the scale itself was then chosen on training
rows. An earlier default (a network, 60 rounds, unscaled 0/1 columns) was evaluated on the test rows of `flamby`, `cv` and
`new-hospital` before the search continued; on FLamby's it was slightly better than its replacement. The search used a NumPy
copy of the training, for speed, and is not part of this program. The method "federated chosen" shows how much of a bias
remains: it selects among six candidates in each case, on the training rows of this case only.

Two later choices were made in the same way. The clipping norm of a patient's gradient under differential privacy (2) was
chosen by log loss in folds of FLamby's training rows, among 108 settings of FedAdagrad, at epsilon 1 and 5, with the NumPy
copy; the other settings are those without differential privacy, though 40 rounds instead of 20 were slightly better (0.445
and 0.451 at epsilon 1). The weight of the prior of a new hospital's prevalence (100 patients) was chosen by leaving one
of three training hospitals out; its test results at weights of 0, 20 and 100 had been seen before, and 20 was better on
them.

Newton's weight decay (0.03) and the weight of the prior on a joint intercept (1 patient) were chosen later, by log loss
on the same three kinds of inner folds, among 9 weight decays from 0.003 to 0.2 and 9 weights from 0 to 64 patients.
Weight decay 0.01 is the other strategies', whose 30 rounds stop before the optimum; at the optimum it is too little
(log loss without intercepts 0.398, 0.452 and 0.541, with joint intercepts 0.390 and 0.419; with 0.03: 0.396, 0.447,
0.532, 0.386 and 0.415). Newton's test results with 0.01 had been seen before. A prior of 4 to 16 patients is better on
FLamby's 254 test patients (pooled AUROC 0.885 to 0.886, Brier score 0.137 to 0.136 with joint intercepts) but worse on
its training rows (0.421 to 0.431), so it was not chosen.
"""


def introduce(study: Study, flags: str) -> str:
    """The page's first part; `flags` are the flags of its command."""
    return TEXT.format(flags=flags, data=study.data, short="\n".join(f"- {line}" for line in short_lines(study)))


def short_lines(study: Study) -> Iterator[str]:
    """The summary, one sentence group per line; n/a where the study has no result."""
    values = {(r.protocol, r.method, r.hospital, r.metric): r.mean for r in study.results}
    first = next((r.method for r in study.results if r.method.startswith("federated")), "federated")
    own = f"{first} + intercept"

    def figure(protocol: str, method: str, hospital: str, metric: str) -> str:
        value = values.get((protocol, method, hospital, metric))
        return "n/a" if value is None else f"{value:.3f}"

    def row(protocol: str, hospital: str, metric: str, *methods: str) -> str:
        return ", ".join(f"{method} {figure(protocol, method, hospital, metric)}" for method in methods)

    methods = ("local", first, own, "central")
    yield (
        "Federation does not help where a hospital has all its data: local training does as well (cross-validation; mean "
        f"accuracy: {row('cv', 'mean', 'accuracy', *methods)}; pooled AUROC: {row('cv', 'union', 'auroc', *methods)})."
    )
    yield (
        f"It helps the ranking in the hospital with the hardest patients (VA, AUROC local "
        f"{figure('cv', 'local', 'va', 'auroc')}, federated {figure('cv', first, 'va', 'auroc')}), with little data (15 "
        f"training patients each, mean AUROC {difference_from_local(study, 'small-15', first)} over local, of the hospitals "
        "in which both have one), and in a hospital without labels (mean AUROC "
        f"{figure('new-hospital', first, 'mean', 'auroc')})."
    )
    yield (
        "The prevalence differs between hospitals, from 36 % to 94 %. A private intercept in each hospital changes the "
        f"pooled Brier score from {figure('cv', first, 'union', 'brier')} to {figure('cv', own, 'union', 'brier')} (central: "
        f"from {figure('cv', 'central', 'union', 'brier')} to {figure('cv', 'central + intercept', 'union', 'brier')})."
    )
    yield (
        "Switzerland's AUROC is computed from only 8 healthy patients (1 in FLamby's test set): it is unreliable, and this "
        "affects the mean over hospitals."
    )
    yield (
        f"Indicators of missing values help the model (pooled AUROC {figure('cv', first, 'union', 'auroc')} with, "
        f"{figure('cv-no-indicators', first, 'union', 'auroc')} without), because doctors order tests for patients whom they "
        "suspect to be ill, and because the indicators identify the hospital: with a private intercept the gain disappears "
        f"({figure('cv', own, 'union', 'auroc')} with, {figure('cv-no-indicators', own, 'union', 'auroc')} without). They "
        "reflect local practice, not disease; `--no-missing-indicators` leaves them out."
    )
    yield (
        f"On FLamby's benchmark, mean accuracy is: {row('flamby', 'mean', 'accuracy', first, own)}. FLamby's own best "
        "federated result is 0.731, 0.735 after fine-tuning, and 0.735 with central training (its results files and config "
        "at commit edacf54); it standardises inside each hospital, which removes the differences between hospitals."
    )
    epsilons = sorted({r.epsilon for r in study.results if r.epsilon and r.protocol == "flamby"})
    if epsilons:
        yield privacy_line([(epsilon, f"{first}{AT_EPSILON}{epsilon:g}") for epsilon in epsilons], first, figure)
    adapted = f"{first} + prevalence"
    yield (
        "In a hospital that was not in the federation and has no labels, the prevalence can be estimated from the patients' "
        "features (`predict --adapt-prevalence`): mean accuracy changes from "
        f"{figure('new-hospital', first, 'mean', 'accuracy')} to {figure('new-hospital', adapted, 'mean', 'accuracy')}, the "
        f"Brier score from {figure('new-hospital', first, 'mean', 'brier')} to "
        f"{figure('new-hospital', adapted, 'mean', 'brier')} (central with the same correction: "
        f"{figure('new-hospital', 'central + prevalence', 'mean', 'accuracy')} and "
        f"{figure('new-hospital', 'central + prevalence', 'mean', 'brier')}). The weight of the prior on the "
        "federation's prevalence (100 patients) was chosen by leaving training hospitals out."
    )
    yield (
        "Targets that were not reached: on FLamby's 254 test patients, pooled accuracy is "
        f"{figure('flamby', own, 'union', 'accuracy')}, AUROC {figure('flamby', own, 'union', 'auroc')} and Brier score "
        f"{figure('flamby', own, 'union', 'brier')}; the targets were 0.805, 0.885 and 0.136; central training gives "
        f"{figure('flamby', 'central + intercept', 'union', 'accuracy')}, "
        f"{figure('flamby', 'central + intercept', 'union', 'auroc')} and "
        f"{figure('flamby', 'central + intercept', 'union', 'brier')}, and the standard error of this accuracy is 0.025. In "
        f"new hospitals, mean accuracy of the unchanged model is {figure('new-hospital', first, 'mean', 'accuracy')}; the "
        "target was 0.80. Without labels the model does not know the prevalence there."
    )


def difference_from_local(study: Study, protocol: str, method: str) -> str:
    """The difference in mean AUROC between a method and local training, with its interval."""
    found = study.differences.get((protocol, method, "local"), ())
    return interval(next((each for each in found if (each.hospital, each.metric) == ("mean", "auroc")), None))


def privacy_line(methods: Sequence[tuple[float, str]], plain: str, figure: Figure) -> str:
    """The cost of differential privacy in accuracy; `methods` are (epsilon, name), `plain` is the method without it."""

    def accuracies(protocol: str, ending: str = "") -> str:
        each = [figure(protocol, method + ending, "mean", "accuracy") for _, method in methods]
        return f"{', '.join(each)} ({figure(protocol, plain + ending, 'mean', 'accuracy')})"

    epsilons = ", ".join(f"{epsilon:g}" for epsilon, _ in methods)
    return (
        f"The cost of differential privacy (docs/privacy.md): mean accuracy at epsilon {epsilons} (in brackets: without it) "
        f"is, in cross-validation, {accuracies('cv')}; with the private intercept, which is never sent, "
        f"{accuracies('cv', ' + intercept')}; on FLamby's benchmark {accuracies('flamby')}, where FLamby's own federation "
        "under differential privacy has 0.702 at epsilon 1 and 0.700 at epsilon 5; in a new hospital "
        f"{accuracies('new-hospital')}. Where a larger epsilon is not more accurate, the difference is random variation: see "
        "the standard deviations."
    )
