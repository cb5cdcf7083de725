"""Validation of decoded replies against what the hospital declared; decoders check what holds for every hospital.

Each check raises a `ValueError` that says what is wrong.
"""

from flwr.app import ArrayRecord
from flwr.common.constant import ErrorCode

from fedhealth.common.array_codec import name_of
from fedhealth.common.safe_text import printable
from fedhealth.data.preprocessing import Moments
from fedhealth.metrics.histogram import ScoreHistogram, check_histogram
from fedhealth.metrics.paired_comparison import DIGITS, PairedComparison
from fedhealth.metrics.subgroups import Disclosed, Divisions, Outcomes, check_subgroups
from fedhealth.server.records import Member
from fedhealth.transport.protocol.evaluation import EvaluateReply, Histogram
from fedhealth.transport.protocol.finalization import Comparison, Comparisons, ImportanceDrops, SubgroupCounts
from fedhealth.transport.protocol.setup import Description, LabelCounts, MomentSums
from fedhealth.transport.protocol.training import TrainReply

LONGEST_REASON = 200
"""Maximum number of characters of a hospital's reason that are shown."""
TOO_FEW = "fewer ill or healthy test patients than --min-count"
ABSENT = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for a node that is not connected or did not reply in time. The hospital may come back."""


def readable(text: object) -> str:
    """Untrusted text, escaped for one line of a terminal."""
    return printable(str(text), LONGEST_REASON)


def make_member(node_id: int, described: Description, *, private: bool, validates: bool) -> Member:
    """The member with this description, in a run under differential privacy (`private`) or with a validation set."""
    if (described.epsilon is not None) != private:
        raise ValueError(f"it sent {'no' if private else 'an'} epsilon")
    if (described.validation_patients is not None) != validates:
        raise ValueError(f"it sent {'no ' if validates else ''}counts of validation patients")
    return Member(
        node_id,
        readable(described.name),
        readable(described.source),
        described.train_patients,
        described.test_patients or 0,
        described.test_ill or 0,
        described.validation_patients or 0,
        described.validation_ill or 0,
        described.epsilon,
        described.split_hash,
    )


def check_moments(num_numbers: int, sent: MomentSums, member: Member) -> Moments:
    """Counts and sums for each of the numeric features; no count may exceed the declared training patients."""
    if len(sent.counts) != num_numbers:
        raise ValueError("its sums have the wrong length")
    if not all(0 <= count <= member.train_patients for count in sent.counts):
        raise ValueError(f"a count is negative or above its {member.train_patients} training patients")
    return Moments(**vars(sent))


def check_summed_label_counts(sent: LabelCounts, member: Member) -> LabelCounts:
    """Healthy and ill training patients of the hospitals that disclose them."""
    if min(sent.healthy, sent.ill) < 0 or sent.healthy + sent.ill > member.train_patients:
        raise ValueError(f"{sent.healthy} healthy and {sent.ill} ill are not of its {member.train_patients} patients")
    return sent


def check_label_counts(sent: LabelCounts, member: Member) -> LabelCounts:
    """Healthy and ill training patients, which must add up to the declared number, or to 0 if they are not disclosed."""
    if min(sent.healthy, sent.ill) < 0 or sent.healthy + sent.ill not in (0, member.train_patients):
        raise ValueError(
            f"{sent.healthy} healthy and {sent.ill} ill do not add up to its {member.train_patients} training patients"
        )
    return sent


def check_trained(sent: TrainReply, global_arrays: ArrayRecord, member: Member) -> TrainReply:
    """Weights with the model's names, types and shapes, trained on the declared number of patients.

    Under differential privacy no loss may be sent.
    """
    described = [(name, name_of(values.dtype), values.shape) for name, values in sent.weights.items()]
    if described != [(name, array.dtype, tuple(array.shape)) for name, array in global_arrays.items()]:
        raise ValueError("its weights have other names, shapes or types than the model's")
    if sent.num_examples != member.train_patients:
        raise ValueError(f"it trained on {sent.num_examples} patients but declared {member.train_patients}")
    if (sent.train_loss is None) != (member.epsilon is not None):
        raise ValueError(f"it sent {'no' if sent.train_loss is None else 'a'} training loss")
    return sent


def check_evaluation(sent: EvaluateReply, member: Member) -> tuple[ScoreHistogram, ScoreHistogram | None]:
    """The score histograms of its test patients and, if there are any, of its validation patients."""
    if (sent.validation is not None) != bool(member.validation_patients):
        raise ValueError(f"it sent {'a' if sent.validation else 'no'} histogram of validation patients")
    if member.epsilon is not None:
        return check_histogram(**vars(sent.tested)), None  # noisy counts fit no declared number
    tested = _check_declared(sent.tested, member.test_patients, member.test_ill)
    if sent.validation is None:
        return tested, None
    return tested, _check_declared(sent.validation, member.validation_patients, member.validation_ill)


def _check_declared(sent: Histogram, patients: int, declared_ill: int) -> ScoreHistogram:
    """A score histogram of the declared numbers of patients."""
    histogram = check_histogram(**vars(sent))
    ill = int(histogram.positives.sum())
    if (sent.num_examples, ill) != (patients, declared_ill):
        declared = f"{patients} ({declared_ill} ill)"
        raise ValueError(f"it evaluated {sent.num_examples} patients ({ill} ill) but declared {declared}")
    return histogram


def check_disclosed(
    divisions: Divisions, sent: SubgroupCounts, member: Member, least: int, *, are_sums: bool = False
) -> Disclosed:
    """Outcomes by subgroup of the declared test patients, each of at least `least` patients."""
    disclosed = {group: Outcomes(*counts) for group, counts in sent.items()}
    check_subgroups(divisions, disclosed, member.test_patients, member.test_ill, least, are_sums=are_sums)
    return disclosed


def check_importance(num_features: int, sent: ImportanceDrops | None, member: Member) -> list[float]:
    """The AUROC drop of each feature over the declared test patients."""
    if sent is None:
        raise ValueError(TOO_FEW)
    if len(sent.drops) != num_features:
        raise ValueError(f"it sent {len(sent.drops)} drops, but there are {num_features} features")
    if sent.num_examples != member.test_patients:
        raise ValueError(f"it sent drops of {sent.num_examples} patients but declared {member.test_patients}")
    if member.test_pairs == 0:
        raise ValueError("it has no ill or no healthy test patient, so its AUROC is undefined")
    return list(sent.drops)


def check_comparisons(sent: Comparisons) -> dict[str, PairedComparison]:
    """The comparisons of the global and the personal model with the local-only model; empty if they are not shared."""
    return {model: _check_comparison(comparison) for model, comparison in sent.items()}


def _check_comparison(sent: Comparison) -> PairedComparison:
    off = abs(sent.value - sent.alone - sent.difference)
    if min(sent.value, sent.alone) < 0 or sent.low > sent.high or off > 2 * 0.1 ** DIGITS[sent.metric]:
        raise ValueError("its comparison contradicts itself")
    return PairedComparison(**vars(sent))
