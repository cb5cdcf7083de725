"""A hospital's Flower `ClientApp`: replies contain counts, sums, weights and histograms, never a patient's row.

Every message is validated before it is used, and the hospital's own limits decide what is sent. The text of a
`RunError` is sent to the server, so the errors raised here never contain a patient's values.

Every message contains all that its reply needs, so a hospital that reconnects continues at once. TensorFlow is imported
by the first message that needs it.
"""

import zlib
from collections.abc import Callable
from functools import partial

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.client import newton
from fedhealth.client.dp_mod import dp_mod
from fedhealth.client.error_mod import error_mod
from fedhealth.client.evaluation import Risks, count_risks, try_to_evaluate
from fedhealth.client.feasibility import count_feasibility
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.local_model import read_request, require_finite, require_risks
from fedhealth.client.participation import Participation
from fedhealth.client.secure_aggregation import secure_aggregation_mod
from fedhealth.common.errors import RunError
from fedhealth.data import preprocessing
from fedhealth.data.patients import Patients
from fedhealth.metrics.subgroups import count_subgroups
from fedhealth.models.local_training import Weights, shuffled_orders
from fedhealth.models.update_clipping import clip_update
from fedhealth.transport.protocol import evaluation, feasibility, finalization, roster, setup, training
from fedhealth.transport.protocol.fields import action
from fedhealth.transport.protocol.newton import FIT_SUMS

Handler = Callable[[HospitalData, Participation, RecordDict], RecordDict]
"""Content of a message -> content of the reply."""


def make_client_app(hospital: HospitalData) -> ClientApp:
    """The hospital's app."""
    app = ClientApp(mods=[error_mod, partial(secure_aggregation_mod, hospital), partial(dp_mod, hospital)])
    for message_type, handler in QUERIES.items():
        app.query(action(message_type))(partial(_reply, handler, hospital))
    app.train()(partial(_reply, train, hospital))
    app.evaluate()(partial(_reply, evaluate, hospital))
    return app


def _reply(handler: Handler, hospital: HospitalData, message: Message, context: Context) -> Message:
    part, kind = hospital.participation(context.run_config), message.metadata.message_type
    if part.settings.feasibility != (kind == feasibility.FEASIBILITY):
        setting = "--feasibility" if part.settings.feasibility else "no --feasibility"
        raise RunError(f"the server asks for {kind}, which its own settings exclude ({setting})")
    return Message(handler(hospital, part, message.content), reply_to=message)


def count_what_is_there(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """How many of all patients lack each value and have the outcome; small counts are suppressed."""
    return feasibility.encode_feasibility(count_feasibility(hospital.hospital, part.min_count))


def describe(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Name, source of the data, counts of patients and the keyed hash of the test patients.

    The reply also means that the hospital is ready to train.
    """
    if part.settings.strategy == "newton":
        newton.require_disclosable(part)
    part.model.trainer.warm_up()
    known, split, held = hospital.hospital, part.split, part.split.validation
    return setup.encode_description(
        setup.Description(
            known.name,
            known.source,
            known.schema.fingerprint,
            len(split.train),
            len(split.test),
            count_ill(split.test),
            len(held) if held else None,
            count_ill(held) if held else None,
            split_hash=hospital.hash_test_patients(part),
        )
    )


def first_moments(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Counts and sums of the numeric features over the training patients."""
    moments = preprocessing.first_moments(hospital.hospital.schema, part.split.train.features, part.min_count)
    return setup.encode_moments(setup.MomentSums(**vars(moments)))


def second_moments(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Counts and sums of squared deviations from the federation's means, over the training patients."""
    schema, means = hospital.hospital.schema, read_request(setup.decode_second_moments_request, content)
    if len(means) != len(schema.numbers):
        raise RunError(f"the server's means are invalid: {len(schema.numbers)} numbers are needed")
    moments = preprocessing.second_moments(schema, part.split.train.features, means, part.min_count)
    return setup.encode_moments(setup.MomentSums(**vars(moments)))


def label_counts(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Counts of healthy and ill training patients; zeros if either is too small to be disclosed."""
    ill = count_ill(part.split.train)
    healthy = len(part.split.train) - ill
    disclosed = (healthy, ill) if min(healthy, ill) >= part.min_count else (0, 0)
    return setup.encode_label_counts(setup.LabelCounts(*disclosed))


def initial_weights(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """The seeded initial weights, which are the same in every hospital."""
    return setup.encode_initial_weights(part.model.name_weights(part.model.trainer.initial_weights()))


def train(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """The local weights after training the global weights on the training patients, and the training loss.

    If the request asks for it, also the evaluation of the global weights. For Newton's method: sums over the training
    patients instead of weights.
    """
    request, exact = read_request(training.decode_train_request, content), part.settings.strategy == "newton"
    sent = newton.to_weights(part, request) if exact else part.model.order_weights(request.weights)
    risks, reply = (None, newton.sum_up(part, request)) if exact else _train_weights(hospital, part, request, sent)
    evaluated = try_to_evaluate(part, request, sent, risks) if request.evaluates else None
    return training.add_evaluation(reply, evaluated) if evaluated else reply


def _train_weights(
    hospital: HospitalData, part: Participation, request: training.TrainRequest, sent: Weights
) -> tuple[Risks | None, RecordDict]:
    """The risks of the test patients under the weights `sent`, if they are needed, and the reply with the trained ones."""
    settings, model, patients = part.settings, part.model, part.split.train
    standardisation = part.standardisation(request.scale)
    examples = model.prepare(patients, standardisation)
    seed = [settings.seed, request.round_num, zlib.crc32(hospital.hospital.name.encode())]
    orders = shuffled_orders(num_patients=len(patients), num_epochs=settings.local_epochs, seed=seed)
    risks, objective = None, model.objective(request)
    if request.evaluates and not request.class_weights:  # which other weights would be evaluated for
        tests = model.prepare(part.split.test, standardisation)
        risks, weights, loss = model.trainer.predict_and_train(sent, tests, examples, orders, objective)
    else:
        weights, loss = model.trainer.train(sent, examples, orders, objective)
    require_finite(*weights, loss)
    named = model.name_weights(weights)
    if settings.secure_aggregation and settings.max_update_norm:  # else the server does it
        named, _ = clip_update(named, request.weights, settings.max_update_norm)
    return risks, training.encode_train_reply(training.TrainReply(named, len(patients), loss))


def evaluate(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Histograms of predicted risk by label under the global weights, for the test and the validation patients."""
    request = read_request(evaluation.decode_evaluate_request, content)
    return evaluation.encode_evaluate_reply(count_risks(part, part.model.order_weights(request.weights), request.scale))


def subgroups(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """True and false positives and negatives among the test patients by subgroup; small cells are suppressed."""
    if not part.settings.subgroups:
        raise RunError("the server asks for subgroups, which its own settings exclude (--no-subgroups)")
    request, test = read_request(finalization.decode_final_request, content), part.split.test
    weights = part.model.order_weights(request.weights)
    risks = require_risks(part.model.predict(weights, test, part.standardisation(request.scale)))
    disclosed = count_subgroups(hospital.hospital.schema, test.features, test.labels, risks, part.min_count)
    return finalization.encode_subgroups({group: outcomes.counts() for group, outcomes in disclosed.items()})


def importance(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Permutation importance on the test patients: the AUROC drop per feature.

    The reply is empty if fewer than `min_count` of them are ill, or healthy.
    """
    request, test = read_request(finalization.decode_final_request, content), part.split.test
    weights, standardisation = part.model.order_weights(request.weights), part.standardisation(request.scale)
    if min(count_ill(test), len(test) - count_ill(test)) < part.min_count:
        return finalization.encode_importance(None)
    seed = [part.settings.seed, zlib.crc32(hospital.hospital.name.encode())]
    drops = part.model.importance(weights, test, standardisation, seed)
    return finalization.encode_importance(finalization.ImportanceDrops(tuple(drops), len(test)))


def fit_sums(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """The sums of an exact fit at the final coefficients."""
    return newton.fit_sums(part, content)


def finish(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """Keep the final model; the reply is empty unless the hospital shares its comparisons with the local-only model."""
    final = part.keep_final(read_request(finalization.decode_final_request, content))
    is_shared = hospital.limits.share_comparisons and len(part.split.test) >= part.min_count
    comparisons = final.outcome.comparisons if is_shared else {}
    return finalization.encode_finish_reply(
        {model: finalization.Comparison(**vars(comparison)) for model, comparison in comparisons.items()}
    )


def refuse(hospital: HospitalData, part: Participation, content: RecordDict) -> RecordDict:
    """No reply: `secure_aggregation_mod` replies to such a message in a run with --secure-aggregation."""
    raise RunError("the server asks for keys, which its own settings exclude (no --secure-aggregation)")


def count_ill(patients: Patients) -> int:
    """Number of ill patients."""
    return int(patients.labels.sum())


QUERIES: dict[str, Handler] = {
    feasibility.FEASIBILITY: count_what_is_there,
    setup.DESCRIBE: describe,
    setup.COUNTS_SUM: describe,
    setup.FIRST_MOMENTS: first_moments,
    setup.SECOND_MOMENTS: second_moments,
    setup.LABEL_COUNTS: label_counts,
    setup.INITIAL_WEIGHTS: initial_weights,
    finalization.SUBGROUPS: subgroups,
    finalization.IMPORTANCE: importance,
    FIT_SUMS: fit_sums,
    finalization.FINISH: finish,
    roster.KEY: refuse,
    roster.ROSTER: refuse,
}
