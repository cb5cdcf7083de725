"""A Flower mod of the hospital's app for runs with --secure-aggregation: the server can only read sums over all hospitals.

The app replies in the clear, and this mod masks the numbers of the reply. A message about patients whose reply cannot be
summed gets none.
"""

import contextlib
import logging
from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.local_model import read_request
from fedhealth.client.participation import Participation
from fedhealth.client.run_policy import require_wish
from fedhealth.common.errors import PatientsError, RunError
from fedhealth.common.fixed_point import MOST_EXAMPLES
from fedhealth.common.pairwise_masks import mask
from fedhealth.transport.messages import RUN_ID
from fedhealth.transport.protocol import evaluation, finalization, newton, roster, setup, training
from fedhealth.transport.protocol.masked_vectors import context_of, encode_masked

Reply = Callable[[], Message]
"""Calls the app, and returns its reply in the clear."""
WITHOUT_PATIENTS = frozenset({setup.INITIAL_WEIGHTS})
"""Messages whose reply does not depend on any patient."""
SUMMED = frozenset(
    {
        setup.COUNTS_SUM,
        setup.FIRST_MOMENTS,
        setup.SECOND_MOMENTS,
        setup.LABEL_COUNTS,
        training.TRAIN,
        evaluation.EVALUATE,
        finalization.SUBGROUPS,
        finalization.IMPORTANCE,
        newton.FIT_SUMS,
    }
)
"""Messages whose reply is masked."""


def secure_aggregation_mod(
    hospital: HospitalData, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """The masked reply, or the app's own reply in a run without secure aggregation.

    Raises
    ------
    RunError
        The hospital's limits exclude such a run, the message asks for what cannot be summed, or the roster is not accepted.
    """
    part, kind = hospital.participation(context.run_config), message.metadata.message_type
    hospital.masking.clear = hospital.masking.problem = None
    require_wish(hospital.limits, part.settings)
    if not part.settings.secure_aggregation:
        return call_next(message, context)
    if kind in WITHOUT_PATIENTS:
        return call_next(message, context)
    if kind in SUMMED:
        return _mask(hospital, part, message, context, call_next)
    if kind not in SINGLE:
        raise RunError(f"under secure aggregation this hospital does not reply to {kind}")
    return Message(SINGLE[kind](hospital, message, lambda: call_next(message, context)), reply_to=message)


def send_key(hospital: HospitalData, message: Message, reply: Reply) -> RecordDict:
    """The hospital's key of a run, signed."""
    run_id = read_request(roster.decode_key_request, message.content)
    return roster.encode_key_reply(hospital.masking.make_entry(hospital.hospital.name, run_id))


def accept_roster(hospital: HospitalData, message: Message, reply: Reply) -> RecordDict:
    """The digest of the roster, if it is accepted."""
    sent = read_request(roster.decode_roster, message.content)
    hospital.masking.accept(hospital.hospital.name, sent)
    return roster.encode_acceptance(sent.digest)


def describe(hospital: HospitalData, message: Message, reply: Reply) -> RecordDict:
    """The description without counts, epsilon and hash."""
    known = setup.decode_description(reply().content)
    return setup.encode_who(setup.Who(known.name, known.source, known.schema))


def finish(hospital: HospitalData, message: Message, reply: Reply) -> RecordDict:
    """Nothing: comparisons stay in the hospital. The key of the run is removed."""
    with contextlib.suppress(PatientsError):  # the client compares again when it prints
        reply()
    hospital.masking.state.remove_key(run_id_of(message))
    return finalization.encode_finish_reply({})


SINGLE: dict[str, Callable[[HospitalData, Message, Reply], RecordDict]] = {
    roster.KEY: send_key,
    roster.ROSTER: accept_roster,
    setup.DESCRIBE: describe,
    finalization.FINISH: finish,
}
"""Messages that each hospital replies to by itself, with nothing about its patients."""


def run_id_of(message: Message) -> bytes:
    """The run that a message belongs to: its group."""
    try:
        return bytes.fromhex(message.metadata.group_id)
    except ValueError:
        raise RunError("the server's message is invalid: it names no run") from None


def _mask(
    hospital: HospitalData, part: Participation, message: Message, context: Context, call_next: ClientAppCallable
) -> Message:
    """The masked reply; to the same request the same one, without computing it again."""
    masking, kind, request, run_id = (
        hospital.masking,
        message.metadata.message_type,
        message.content,
        run_id_of(message),
    )
    sums_over, own = masking.roster_of(run_id), hospital.hospital.name
    messages = part.sum_messages
    layout = read_request(lambda content: messages.layout(kind, content), request)
    about = context_of(sums_over.digest, part.settings.to_run_config(), kind, request, layout)
    words = masking.state.find_sent(run_id, about)
    if words is None:
        secrets = masking.secrets_of(own, run_id, sums_over)
        require_bounded(part, len(sums_over.names))
        try:
            clear = call_next(message, context).content
            vector = layout.join(messages.take_numbers(kind, clear, _test_pairs(part)), about)
            masking.clear = clear
        except (PatientsError, ValueError) as problem:
            note_problem(hospital, context, f"this hospital has no numbers in the sum of {kind}: {problem}")
            vector = layout.join_nothing(masking.random_words(run_id, about, layout.num_words))
        words = mask(vector, own, secrets, about)
        masking.state.keep(run_id, about, words)
    return Message(encode_masked(words), reply_to=message)


def note_problem(hospital: HospitalData, context: Context, problem: str) -> None:
    """Keep a problem in the hospital, for its console or, on Flower's engines, its log.

    With an error reply the server would know that it is this hospital's, and could ask on until it knows at which weights
    its patients cause it.
    """
    hospital.masking.problem = problem
    if context.run_id != RUN_ID:
        logging.getLogger("flwr").warning("%s", problem)


def require_bounded(part: Participation, hospitals: int) -> None:
    """Raise a `RunError` if the sum over hospitals of this size could be too large for 64 bits."""
    if len(part.split.train) * hospitals >= MOST_EXAMPLES:
        raise RunError(
            f"secure aggregation of {hospitals} hospitals allows fewer than {MOST_EXAMPLES // hospitals:,} training patients "
            "in each, and this hospital has more"
        )


def _test_pairs(part: Participation) -> tuple[int, int]:
    test = part.split.test
    ill = int(test.labels.sum())
    return len(test), ill * (len(test) - ill)
