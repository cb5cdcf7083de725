"""What a run with Newton's method has found: coefficients, covariance, separated columns, and the table of odds ratios."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from flwr.serverapp.strategy import Strategy

from fedhealth.config.federation import FederationSettings
from fedhealth.data.preprocessing import Standardisation
from fedhealth.data.schema import Schema
from fedhealth.metrics.odds_ratios import ExactFit, OddsRatios, list_contrasts, make_odds_ratios
from fedhealth.models.newton_sums import unpack_hessian
from fedhealth.server.checkpoints import Checkpoint
from fedhealth.server.finalization import Queries
from fedhealth.server.strategies.newton import Flags, Newton, has_converged
from fedhealth.transport.protocol.fields import Scale
from fedhealth.transport.protocol.newton import COEFFICIENTS, GRADIENT, HESSIAN, PRODUCTS
from fedhealth.transport.protocol.training import TrainRequest, encode_train_request

NEARLY_OPTIMAL = 1e-2
"""In nats, summed over all patients: what a step may promise when it is looked at for separation."""
LONG_STEP = 0.1
"""Of a coefficient of a standardised input."""
ALL_RIGHT = math.log(2) / 2
"""In nats, summed over all patients: one on the wrong side of 0.5 loses log 2, with a class weight at least half of it."""
SETTLED = 1e-6
"""In nats: each coefficient is then within a thousandth of its standard error of the optimum."""


def exact_fit(strategy: Strategy, settings: FederationSettings) -> ExactFit | None:
    """The fit with its covariance, the inverse of the Hessian at the last point; None of any other strategy."""
    if not isinstance(strategy, Newton) or not strategy.base.size:
        return None
    free, separated = np.ix_(strategy.free, strategy.free), find_separated(strategy)
    covariance = np.zeros_like(strategy.hessian)
    covariance[free] = np.linalg.inv(strategy.hessian[free])
    settled = has_converged(strategy) or float(strategy.decrement) < SETTLED
    names = [strategy.design.name(int(place)) for place in np.flatnonzero(separated[:-1])]
    # A point that predicts every patient is a complete separation, since a multiple of it does so better.
    is_complete = bool(names) and float(strategy.loss) < ALL_RIGHT
    return ExactFit(
        strategy.coefficients,
        covariance,
        frozenset(np.flatnonzero(strategy.constant).tolist()),
        frozenset(np.flatnonzero(separated).tolist()),
        is_complete,
        settled,
        tuple(_notes(settings, settled, names or ["the intercept"] * bool(separated.any()), is_complete)),
    )


def add_sums(
    fit: ExactFit | None, settings: FederationSettings, checkpoint: Checkpoint, scale: Scale | None, queries: Queries
) -> ExactFit | None:
    """The fit with its robust covariance and the hospitals' gradients and Hessians, from their sums at its coefficients.

    A penalty counts in the middle of the sandwich as the information that it adds, so that robust and other intervals are
    the same where the model holds; otherwise robust ones would be too narrow wherever the penalty decides.
    Without them, and with the reason in its notes, if a hospital that the fit rests on does not send them. A fit that is not
    at the optimum asks for nothing.
    """
    if fit is None or not fit.settled or not isinstance(checkpoint.strategy, Newton):
        return fit
    size = len(fit.coefficients)
    request = TrainRequest({COEFFICIENTS: fit.coefficients}, checkpoint.round_num, scale, checkpoint.class_weights)
    sums, silent = queries.query_fit_sums(encode_train_request(request), size)
    needed = [member.name for member in checkpoint.members if member.node_id in checkpoint.strategy.nodes]
    if lacking := [name for name in needed or silent if name not in sums]:
        reasons = "; ".join(f"{name}: {silent.get(name, 'no reply')}" for name in lacking)
        return replace(fit, notes=(*fit.notes, f"no robust intervals and no test of differences ({reasons})"))
    replies = [sums[name] for name in sorted(needed or sums)]
    products = unpack_hessian(np.sum([each.weights[PRODUCTS] for each in replies], axis=0), size)
    middle = products + np.diag(checkpoint.strategy.penalty(sum(each.num_examples for each in replies)))
    fit = replace(fit, robust_covariance=fit.covariance @ middle @ fit.covariance)
    if settings.personalise != "intercept" or len(replies) < 2:
        return fit
    hessians = np.array([unpack_hessian(each.weights[HESSIAN], size) for each in replies])
    return replace(fit, gradients=np.array([each.weights[GRADIENT] for each in replies]), hessians=hessians)


def tabulate(
    fit: ExactFit | None, settings: FederationSettings, schema: Schema, standardisation: Standardisation | None
) -> OddsRatios | None:
    """The odds ratios of a fit; None without one."""
    if fit is None or standardisation is None:
        return None
    return make_odds_ratios(list_contrasts(schema, settings.missing_indicators, standardisation.stds), fit)


def find_separated(strategy: Newton) -> Flags:
    """Which coefficients grow without end because their columns separate ill and healthy patients.

    Near a finite optimum, Newton steps shrink faster and faster. Without one (Albert & Anderson 1984, "On the existence of
    maximum likelihood estimates in logistic regression models") they keep their length, although hardly any loss is left
    to gain.
    """
    step, before = np.abs(strategy.step), np.abs(strategy.last_step)
    if before.size == 0 or float(strategy.decrement) > NEARLY_OPTIMAL or step.max() < LONG_STEP:
        return np.zeros(step.size, bool)
    separated: Flags = (step > step.max() / 100) & (step > before / 2)
    return separated


def _notes(settings: FederationSettings, settled: bool, separated: Sequence[str], is_complete: bool) -> Iterator[str]:
    """What restricts the table."""
    if not settled:
        yield "not converged, so there are no intervals: more --rounds are needed"
    if is_complete:
        yield (
            "complete separation: all columns together predict every patient, so that no coefficient has a finite optimum; "
            "leave columns out, or give --weight-decay above 0"
        )
    elif separated:
        yield (
            f"separation: {', '.join(separated)}. Some values of these columns have only ill or only healthy patients, so "
            "their coefficients have no finite optimum; merge codes, leave the columns out, or give --weight-decay above 0"
        )
    if settings.weight_decay:
        yield (
            f"penalised (--weight-decay {settings.weight_decay:g}): intervals are approximate, and odds ratios are nearer to "
            "1 than without; --weight-decay 0 gives the unpenalised fit"
        )
    if not settings.missing_indicators:
        code = "none of the codes" if settings.weight_decay else "the reference code"
        yield f"no missing indicators: a missing number counts as the mean, a missing code as {code}"
    if settings.class_weights:
        yield "class weights: intervals are approximate, robust ones are not"
    if settings.secure_aggregation:
        yield "no test of differences between hospitals, whose sums are not disclosed (secure aggregation)"
    elif settings.personalise != "intercept":
        yield "no test of differences between hospitals, which needs intercepts of their own: --personalise intercept"
