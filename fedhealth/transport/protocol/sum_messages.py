"""The numbers of each message as parts of a vector, and the sum of all hospitals' vectors as one reply.

The decoded sum is the reply that one hospital with all patients would send, so that all code that reads replies reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from fedhealth.common import fixed_point
from fedhealth.common.bounded_cache import BoundedCache
from fedhealth.data.schema import Schema
from fedhealth.transport.protocol import evaluation, finalization, newton, setup, training
from fedhealth.transport.protocol.fields import ARRAYS, take_config
from fedhealth.transport.protocol.masked_vectors import Kind, Layout, Part, Values
from fedhealth.transport.protocol.run_settings import RunSettings

KEPT_LAYOUTS = 8
"""A run has about as many kinds of messages."""
THOUSANDTHS = 1000
"""Steps of an AUROC drop, which has three decimals."""


@dataclass(frozen=True)
class SumMessages:
    """The vectors of a run's messages.

    Parameters
    ----------
    bins : number of bins of a histogram.
    groups : the subgroups, in order.
    """

    settings: RunSettings
    schema: Schema
    bins: int
    groups: Sequence[str] = field(default=())
    _layouts: BoundedCache[tuple[Part, ...], Layout] = field(
        default_factory=lambda: BoundedCache(KEPT_LAYOUTS), init=False, repr=False, compare=False
    )

    def layout(self, kind: str, request: RecordDict) -> Layout:
        """The layout of the replies to a request.

        Raises
        ------
        ValueError
            The replies to such messages are not summed.
        """
        numbers = len(self.schema.numbers)
        match kind:
            case setup.COUNTS_SUM:
                parts = [Part("patients", "count", 5)]
            case setup.FIRST_MOMENTS | setup.SECOND_MOMENTS:
                parts = [Part("counts", "count", numbers), Part("sums", "real", numbers)]
            case setup.LABEL_COUNTS:
                parts = [Part("labels", "count", 2)]
            case training.TRAIN | newton.FIT_SUMS:
                parts = self._train_parts(request, final=kind == newton.FIT_SUMS)
            case evaluation.EVALUATE:
                parts = self._evaluation_parts()
            case finalization.SUBGROUPS:
                parts = [Part("outcomes", "count", 4 * len(self.groups))]
            case finalization.IMPORTANCE:
                parts = [Part("drops", "count", len(self.schema.features)), Part("patients", "count", 2)]
            case _:
                raise ValueError(f"replies to {kind} are not summed")
        return self._layouts.get(tuple(parts), lambda: Layout(tuple(parts)))

    def _train_parts(self, request: RecordDict, *, final: bool) -> list[Part]:
        sent = request.get(ARRAYS)
        if not isinstance(sent, ArrayRecord):
            raise ValueError("the server's weights are invalid: they are not those of this model")
        kind: Kind = "weight"
        if self.settings.strategy == "newton":
            kind, sent = "real", newton.reply_arrays(int(np.prod(next(iter(sent.values())).shape)), final=final)
        parts = [Part("patients", "count", 1)]
        parts += [Part(f"array {name}", kind, int(np.prod(each.shape))) for name, each in sent.items()]
        parts += [] if self.settings.private else [Part("loss", "real", 1)]
        return parts + (self._evaluation_parts() if _evaluates(request) else [])

    def _evaluation_parts(self) -> list[Part]:
        validates = self.settings.validation_share > 0 and not self.settings.private
        names = (evaluation.TESTED, *([evaluation.VALIDATION] if validates else []))
        return [
            part
            for name in names
            for part in (Part(f"{name} bins", "count", 2 * self.bins), Part(f"{name} sums", "real", 2))
        ]

    def take_numbers(self, kind: str, reply: RecordDict, test_pairs: tuple[int, int] = (0, 0)) -> dict[str, Values]:
        """One hospital's numbers by part, from its reply in the clear.

        Parameters
        ----------
        test_pairs : number of test patients, and of pairs of an ill and a healthy one, for the importance.

        Raises
        ------
        ValueError
            A weight is too large, or the reply has another form.
        """
        match kind:
            case setup.COUNTS_SUM:
                known = setup.decode_description(reply)
                counts = [known.train_patients, known.test_patients, known.test_ill]
                counts += [known.validation_patients, known.validation_ill]
                values = {"patients": np.array([count or 0 for count in counts])}
            case setup.FIRST_MOMENTS | setup.SECOND_MOMENTS:
                moments = setup.decode_moments(reply)
                values = {"counts": np.array(moments.counts), "sums": np.array(moments.sums)}
            case setup.LABEL_COUNTS:
                labels = setup.decode_label_counts(reply)
                values = {"labels": np.array([labels.healthy, labels.ill])}
            case training.TRAIN | newton.FIT_SUMS:
                values = self._take_training(reply)
            case evaluation.EVALUATE:
                values = _take_evaluation(reply)
            case finalization.SUBGROUPS:
                disclosed = finalization.decode_subgroups(reply)
                values = {"outcomes": np.array([disclosed.get(group, (0, 0, 0, 0)) for group in self.groups])}
            case _:
                values = self._take_importance(reply, *test_pairs)
        return values

    def _take_training(self, reply: RecordDict) -> dict[str, Values]:
        content, evaluated = training.split_train_reply(reply)
        trained = training.decode_train_reply(content)
        patients = trained.num_examples
        if self.settings.strategy == "newton":
            weighed = dict(trained.weights)
        else:
            if not all(np.all(np.abs(values) < fixed_point.LIMIT) for values in trained.weights.values()):
                raise ValueError(f"a weight is not between -{fixed_point.LIMIT:g} and {fixed_point.LIMIT:g}")
            weighed = {name: fixed_point.weigh(values, patients) for name, values in trained.weights.items()}
        values: dict[str, Values] = {"patients": np.array([patients])}
        values |= {f"array {name}": numbers for name, numbers in weighed.items()}
        if trained.train_loss is not None:
            values["loss"] = np.array([trained.train_loss * patients])
        return values | (_take_evaluation(evaluated) if evaluated else {})

    def _take_importance(self, reply: RecordDict, patients: int, pairs: int) -> dict[str, Values]:
        sent = finalization.decode_importance(reply)
        drops = [round(drop * THOUSANDTHS) * pairs for drop in sent.drops] if sent else [0] * len(self.schema.features)
        return {"drops": np.array(drops, np.int64), "patients": np.array([patients, pairs if sent else 0])}

    def make_reply(self, kind: str, request: RecordDict, sums: Mapping[str, Values], who: setup.Who) -> RecordDict:
        """The reply of one hospital that has all patients, from the summed numbers by part; `who` is its description.

        Raises
        ------
        ValueError
            The sums cannot be those of patients.
        """
        match kind:
            case setup.COUNTS_SUM:
                content = setup.encode_description(self._describe(who, sums["patients"].tolist()))
            case setup.FIRST_MOMENTS | setup.SECOND_MOMENTS:
                moments = setup.MomentSums(tuple(sums["counts"].tolist()), tuple(sums["sums"].tolist()))
                content = setup.encode_moments(moments)
            case setup.LABEL_COUNTS:
                content = setup.encode_label_counts(setup.LabelCounts(*sums["labels"].tolist()))
            case training.TRAIN | newton.FIT_SUMS:
                content = self._make_train_reply(request, sums)
            case evaluation.EVALUATE:
                content = evaluation.encode_evaluate_reply(self._make_evaluation(sums))
            case finalization.SUBGROUPS:
                each = zip(self.groups, sums["outcomes"].reshape(-1, 4).tolist(), strict=True)
                content = finalization.encode_subgroups({group: tuple(counts) for group, counts in each if sum(counts)})
            case _:
                patients, pairs = sums["patients"].tolist()
                drops = tuple((sums["drops"] / (THOUSANDTHS * pairs)).tolist()) if pairs else ()
                content = finalization.encode_importance(
                    finalization.ImportanceDrops(drops, patients) if pairs else None
                )
        return content

    def _describe(self, who: setup.Who, counts: list[int]) -> setup.Description:
        trained, tested, test_ill, held, held_ill = counts
        if self.settings.private:
            return setup.Description(who.name, who.source, who.schema, trained, epsilon=self.settings.dp_epsilon)
        validates = self.settings.validation_share > 0
        more = (held, held_ill) if validates else (None, None)
        return setup.Description(who.name, who.source, who.schema, trained, tested, test_ill, *more)

    def _make_train_reply(self, request: RecordDict, sums: Mapping[str, Values]) -> RecordDict:
        patients = int(sums["patients"][0])
        if not 0 < patients < fixed_point.MOST_EXAMPLES:
            raise ValueError(f"{patients} training patients; there must be fewer than {fixed_point.MOST_EXAMPLES}")
        loss = float(sums["loss"][0]) / patients if "loss" in sums else None
        if self.settings.strategy == "newton":
            names = [part.removeprefix("array ") for part in sums if part.startswith("array ")]
            weights = {name: sums[f"array {name}"] for name in names}
        else:
            weights = {
                name: fixed_point.weighted_mean(sums[f"array {name}"], patients)
                .astype(array.dtype)
                .reshape(tuple(array.shape))
                for name, array in request.array_records[ARRAYS].items()
            }
        reply = training.encode_train_reply(training.TrainReply(weights, patients, loss))
        return training.add_evaluation(reply, self._make_evaluation(sums)) if _evaluates(request) else reply

    def _make_evaluation(self, sums: Mapping[str, Values]) -> evaluation.EvaluateReply:
        def histogram(name: str) -> evaluation.Histogram:
            bins = sums[f"{name} bins"].reshape(2, self.bins)
            if bins.min() < 0:
                raise ValueError("a bin is not a count of patients")
            return evaluation.Histogram(int(bins.sum()), *bins, *sums[f"{name} sums"].tolist())

        held = f"{evaluation.VALIDATION} bins" in sums
        return evaluation.EvaluateReply(
            histogram(evaluation.TESTED), histogram(evaluation.VALIDATION) if held else None
        )


def _evaluates(request: RecordDict) -> bool:
    config = take_config(request, *request)
    return bool(config.get(training.EVALUATES, False))


def _take_evaluation(content: RecordDict) -> dict[str, Values]:
    reply, values = evaluation.decode_evaluate_reply(content), dict[str, Values]()
    for name, each in ((evaluation.TESTED, reply.tested), (evaluation.VALIDATION, reply.validation)):
        if each is not None:
            values[f"{name} bins"] = np.stack([each.positives, each.negatives])
            values[f"{name} sums"] = np.array([each.log_loss, each.squared_error])
    return values
