"""Strategy by name: how local weights become global ones.

Flower's own strategies, each with the settings that make sense for a handful of hospitals that all take part in every round,
and SCAFFOLD. What a strategy remembers between rounds stands in plain attributes: numbers, arrays, lists and dicts of arrays,
`ArrayRecord`s.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    Strategy,
)

from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.server.strategies.flower_fixes import EVERYBODY, LightQFedAvg, MultiKrumOfRound
from fedhealth.server.strategies.scaffold import Scaffold
from fedhealth.transport.protocol.training import TRAIN_LOSS

__all__ = ["STRATEGIES", "make_strategy"]

ADAPTIVE_RATE = 0.1
"""The usual server step of fedadam, fedyogi and fedadagrad."""
SECOND_MOMENT = 0.99
"""Share of the squared updates that fedadam and fedyogi keep (Reddi et al. 2021, appendix D.2)."""


def _fedavg(settings: FederationSettings) -> Strategy:
    """FedAvg: the mean of the hospitals' weights, by number of training patients (McMahan et al. 2017, algorithm 1)."""
    return FedAvg(**EVERYBODY)


def _fedprox(settings: FederationSettings) -> Strategy:
    """FedProx: hospitals train with a pull back to the global weights; the mean is FedAvg's (Li et al. 2020, algorithm 2)."""
    return FedProx(**EVERYBODY, proximal_mu=settings.proximal_mu)


def _fedavgm(settings: FederationSettings) -> Strategy:
    """FedAvgM: the server keeps part of the last rounds' direction (Hsu, Qi & Brown 2019, section 4.3)."""
    rate, momentum = settings.server_learning_rate or 1.0, settings.server_momentum
    return FedAvgM(**EVERYBODY, server_learning_rate=rate, server_momentum=momentum)


def _fedadam(settings: FederationSettings) -> Strategy:
    """FedAdam: Adam on the mean update (Reddi et al. 2021, algorithm 2).

    With a bias correction that the paper has not: the first steps are shorter than the server learning rate
    (findings/fedadam_first_step.sh).
    """
    rate = settings.server_learning_rate or ADAPTIVE_RATE
    return FedAdam(**EVERYBODY, eta=rate, beta_1=settings.server_momentum, beta_2=SECOND_MOMENT)


def _fedyogi(settings: FederationSettings) -> Strategy:
    """FedYogi: Yogi on the mean update, whose step shrinks slower than Adam's (Reddi et al. 2021, algorithm 2)."""
    rate = settings.server_learning_rate or ADAPTIVE_RATE
    return FedYogi(**EVERYBODY, eta=rate, beta_1=settings.server_momentum, beta_2=SECOND_MOMENT)


def _fedadagrad(settings: FederationSettings) -> Strategy:
    """FedAdagrad: Adagrad on the mean update, without momentum (Reddi et al. 2021, algorithm 2)."""
    return FedAdagrad(**EVERYBODY, eta=settings.server_learning_rate or ADAPTIVE_RATE)


def _fedmedian(settings: FederationSettings) -> Strategy:
    """FedMedian: each number is the median over hospitals, however many patients they have (Yin et al. 2018, algorithm 1)."""
    return FedMedian(**EVERYBODY)


def _fedtrimmedavg(settings: FederationSettings) -> Strategy:
    """FedTrimmedAvg: the mean over hospitals without the largest and smallest values (Yin et al. 2018, algorithm 1)."""
    return FedTrimmedAvg(**EVERYBODY, beta=settings.trim_share)


def _krum(settings: FederationSettings) -> Strategy:
    """Krum: the weights of the one hospital closest to its n - f - 2 nearest (Blanchard et al. 2017, section 4)."""
    return Krum(**EVERYBODY, num_malicious_nodes=settings.malicious)


def _multikrum(settings: FederationSettings) -> Strategy:
    """Multi-Krum: the mean of the n - f - 2 hospitals with the best Krum scores (Blanchard et al. 2017, section 6)."""
    return MultiKrumOfRound(**EVERYBODY, num_malicious_nodes=settings.malicious)


def _bulyan(settings: FederationSettings) -> Strategy:
    """Bulyan: of n - 2f chosen by Krum, the mean of the n - 4f values nearest the median (El Mhamdi et al. 2018, sec. 4)."""
    return Bulyan(**EVERYBODY, num_malicious_nodes=settings.malicious)


def _qfedavg(settings: FederationSettings) -> Strategy:
    """q-FedAvg: hospitals with a high loss count more (Li et al. 2020, "Fair resource allocation", algorithm 2).

    Hospitals count alike, not by patients; the loss is the mean over the round's training, not the one at its start.
    """
    return LightQFedAvg(
        **EVERYBODY,
        client_learning_rate=settings.local_learning_rate,
        q=settings.fairness,
        train_loss_key=TRAIN_LOSS,
    )


def _scaffold(settings: FederationSettings) -> Strategy:
    """SCAFFOLD: see `Scaffold`."""
    return Scaffold(settings)


STRATEGIES: Mapping[StrategyName, Callable[[FederationSettings], Strategy]] = {
    "fedavg": _fedavg,
    "fedprox": _fedprox,
    "fedavgm": _fedavgm,
    "fedadam": _fedadam,
    "fedyogi": _fedyogi,
    "fedadagrad": _fedadagrad,
    "fedmedian": _fedmedian,
    "fedtrimmedavg": _fedtrimmedavg,
    "krum": _krum,
    "multikrum": _multikrum,
    "bulyan": _bulyan,
    "qfedavg": _qfedavg,
    "scaffold": _scaffold,
}


def make_strategy(settings: FederationSettings, hospitals: int = 0) -> Strategy:
    """The strategy that the settings name, fresh, for so many hospitals (0: as many as the settings say)."""
    return STRATEGIES[settings.strategy](replace(settings, hospitals=hospitals) if hospitals else settings)
