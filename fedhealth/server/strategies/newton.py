"""Newton's method on summed gradients and Hessians: the logistic regression of the pooled patients, exactly."""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from numpy.typing import NDArray

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.models.newton_sums import unpack_hessian
from fedhealth.server.strategies.design import NO_DESIGN, Design, find_constant, find_dependent
from fedhealth.server.strategies.flower_fixes import ALL_NODES
from fedhealth.transport.protocol.fields import encode_arrays
from fedhealth.transport.protocol.newton import GRADIENT, HESSIAN, PRODUCTS, encode_coefficients, reply_arrays
from fedhealth.transport.protocol.training import TRAIN_LOSS, TrainReply, decode_train_reply

MOST_INPUTS = 2000
TOLERANCE = 1e-9
"""The rounds end at a gradient of the mean loss of this L2 norm."""
ROUNDING = 1e-10
"""A loss counts as higher than before from this share of it on."""
LARGEST_ROUNDING = 1e-9
"""An eigenvalue of a hospital's Hessian may be below 0 by this share of its largest entry."""
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Newton(FedAvg):
    """Newton's method with step halving (Boyd & Vandenberghe 2004, algorithm 9.5), in float64.

    A hospital's reply has its loss, gradient and Hessian at the coefficients it was sent. The objective is that of the
    other strategies: the mean loss plus weight_decay / 2 times the sum of squared coefficients without the intercept. The
    attributes that are arrays are the state between rounds; they are empty, or infinite, before the first.

    Attributes
    ----------
    design : names of the columns; the reference codes, whose coefficients stay 0 if there is no penalty.
    coefficients : the point of the next round's sums; after the last round, the result.
    base : the last point that was accepted, and of which the next six are.
    loss, hessian : of the summed objective.
    gradient_norm : of the mean objective.
    decrement : twice the fall of the summed objective that the Newton step promises.
    step : from `base` to `coefficients`.
    last_step : the accepted step to `base`.
    free : which coefficients are fitted; the others stay as they are.
    constant : which columns have the same value for every patient.
    nodes : the hospitals that sent the sums at `base`.
    """

    def __init__(self, settings: FederationSettings, design: Design = NO_DESIGN) -> None:
        super().__init__(**ALL_NODES)
        self.design = design
        self.weight_decay = settings.weight_decay
        self.without_intercept = settings.personalise == "intercept" and settings.intercept_prior == 0
        self.model: dict[str, tuple[tuple[int, ...], str]] = {}
        self.coefficients: Doubles = np.zeros(0)
        self.base: Doubles = np.zeros(0)
        self.loss: Doubles = np.array(np.inf)
        self.hessian: Doubles = np.zeros((0, 0))
        self.gradient_norm: Doubles = np.array(np.inf)
        self.decrement: Doubles = np.array(np.inf)
        self.step: Doubles = np.zeros(0)
        self.last_step: Doubles = np.zeros(0)
        self.free: Flags = np.zeros(0, bool)
        self.constant: Flags = np.zeros(0, bool)
        self.nodes: NDArray[np.uint64] = np.zeros(0, np.uint64)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The train messages with the coefficients in float64 instead of the model's weights.

        Raises
        ------
        RunError
            The model has too many inputs.
        """
        self.model = {name: (tuple(array.shape), array.dtype) for name, array in arrays.items()}
        if not self.coefficients.size:
            self.coefficients = np.concatenate([array.numpy().ravel() for array in arrays.values()]).astype(np.float64)
        if (inputs := self.coefficients.size - 1) > MOST_INPUTS:
            raise RunError(
                f"--strategy newton with {inputs:,} inputs would send {inputs**2 * 4 // 1_000_000:,} MB per hospital and "
                f"round; {MOST_INPUTS:,} inputs are the most, so use fewer columns or --strategy fedavg"
            )
        return super().configure_train(server_round, encode_coefficients(self.coefficients), config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model after the next Newton step, or after half of the last one if the loss has risen.

        Raises
        ------
        RunError
            Columns are collinear.
        """
        held = list(replies)
        if not held:
            return None, None
        decoded = [decode_train_reply(reply.content) for reply in held]
        patients = sum(each.num_examples for each in decoded)
        loss = sum((each.train_loss or 0.0) * each.num_examples for each in decoded)
        gradient = np.sum([each.weights[GRADIENT] for each in decoded], axis=0)
        hessian = unpack_hessian(np.sum([each.weights[HESSIAN] for each in decoded], axis=0), len(gradient))
        nodes = np.array(sorted(reply.metadata.src_node_id for reply in held), np.uint64)
        if not (same := np.array_equal(nodes, self.nodes)):  # a loss of other patients is no higher or lower one
            self.nodes = nodes
            self._choose_free(hessian, patients)
        penalty = self.penalty(patients)
        penalised = loss + float(penalty @ self.coefficients**2) / 2
        if same and penalised > self.loss + ROUNDING * max(1.0, abs(float(self.loss))):
            self.step = self.step / 2
            self.coefficients = self.base + self.step
        else:
            self.loss = np.array(penalised)
            self._take_step(gradient + penalty * self.coefficients, hessian + np.diag(penalty), patients)
        return self._as_weights(), MetricRecord({TRAIN_LOSS: loss / patients})

    def penalty(self, patients: int) -> Doubles:
        """The factor of half of each squared coefficient in the summed objective; that of the intercept is 0."""
        return np.append(np.full(self.coefficients.size - 1, self.weight_decay * patients), 0.0)

    def _take_step(self, gradient: Doubles, hessian: Doubles, patients: int) -> None:
        """Accept the point and go to the next by the Newton step on the free coefficients."""
        self.base, self.hessian, self.last_step = self.coefficients, hessian, self.step
        self.step = np.zeros_like(self.base)
        self.step[self.free] = -self._solve(hessian[np.ix_(self.free, self.free)], gradient[self.free])
        self.gradient_norm = np.array(np.linalg.norm(gradient[self.free]) / patients)
        self.decrement = np.array(-gradient @ self.step)
        self.coefficients = self.base + self.step

    def _solve(self, hessian: Doubles, gradient: Doubles) -> Doubles:
        try:
            factor = np.linalg.cholesky(hessian)
        except np.linalg.LinAlgError:
            raise RunError(
                "--strategy newton: the Hessian is no longer positive definite, since columns separate ill and healthy "
                "patients or are nearly collinear; give --weight-decay above 0, or fewer --rounds to see which"
            ) from None
        solved: Doubles = np.linalg.solve(factor.T, np.linalg.solve(factor, gradient))
        return solved

    def _choose_free(self, hessian: Doubles, patients: int) -> None:
        """Fit all coefficients but those of constant columns and, without a penalty, of reference codes."""
        self.constant = find_constant(hessian, patients)
        self.free = ~self.constant
        self.free[-1] = not self.without_intercept
        if self.weight_decay == 0:
            self.free[list(self.design.references)] = False
            self._require_independent(hessian[np.ix_(self.free, self.free)])

    def _require_independent(self, hessian: Doubles) -> None:
        if dependent := find_dependent(hessian, last_first=bool(self.free[-1])):
            places = np.flatnonzero(self.free)
            name, *others = (self.design.name(int(places[place])) for place in dependent)
            without = ", or --no-missing-indicators" if name.endswith("=missing") else ""
            raise RunError(
                f"--strategy newton --weight-decay 0: {name} is collinear with {', '.join(others)}, so that their "
                "coefficients are not defined; leave one of these columns out of the schema, or give --weight-decay above "
                f"0{without}"
            )

    def _as_weights(self) -> ArrayRecord:
        """The coefficients as the model's weights."""
        sizes = [int(np.prod(shape)) for shape, _ in self.model.values()]
        parts = np.split(self.coefficients, np.cumsum(sizes)[:-1])
        return encode_arrays(
            {
                name: part.reshape(shape).astype(dtype)
                for (name, (shape, dtype)), part in zip(self.model.items(), parts, strict=True)
            }
        )


def has_converged(strategy: Strategy) -> bool:
    """Whether a strategy has reached its optimum, so that the rounds end."""
    return isinstance(strategy, Newton) and float(strategy.gradient_norm) <= TOLERANCE


def expected_reply(strategy: Strategy, arrays: ArrayRecord) -> ArrayRecord:
    """Arrays with the names, types and shapes of a valid reply, given the global weights."""
    return reply_arrays(strategy.coefficients.size) if isinstance(strategy, Newton) else arrays


def check_convex(reply: TrainReply) -> None:
    """Raise a `ValueError` if a reply has a matrix with an eigenvalue below 0, which no log loss and no scores have."""
    for name, what in (
        (HESSIAN, "its Hessian is that of no log loss"),
        (PRODUCTS, "its products are those of no scores"),
    ):
        if name in reply.weights:
            size = len(reply.weights[GRADIENT])
            matrix = unpack_hessian(reply.weights[name], size)
            rounding = LARGEST_ROUNDING * max(float(np.abs(matrix).max()), reply.num_examples)
            try:
                np.linalg.cholesky(matrix + rounding * np.eye(size))
            except np.linalg.LinAlgError:
                raise ValueError(what) from None
