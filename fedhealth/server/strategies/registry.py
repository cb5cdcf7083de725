"""The strategies by name: how local weights are aggregated.

Flower's strategies, with settings for a few hospitals that all take part in every round, SCAFFOLD and Newton's method. A
strategy's state between rounds is in plain attributes: numbers, arrays, lists and dicts of arrays, `ArrayRecord`s.
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
from fedhealth.data.schema import Schema
from fedhealth.server.strategies.design import make_design
from fedhealth.server.strategies.flower_fixes import ALL_NODES, LightQFedAvg, MultiKrumOfRound
from fedhealth.server.strategies.newton import Newton
from fedhealth.server.strategies.scaffold import Scaffold
from fedhealth.transport.protocol.training import TRAIN_LOSS

__all__ = ["STRATEGIES", "make_strategy"]

ADAPTIVE_RATE = 0.1
"""Default server learning rate of fedadam, fedyogi and fedadagrad."""
SECOND_MOMENT = 0.99
"""beta_2 of fedadam and fedyogi (Reddi et al. 2021, appendix D.2)."""


def _fedavg(settings: FederationSettings) -> Strategy:
    """FedAvg: the mean of the hospitals' weights, weighted by training patients (McMahan et al. 2017, algorithm 1)."""
    return FedAvg(**ALL_NODES)


def _fedprox(settings: FederationSettings) -> Strategy:
    """FedProx: FedAvg with a proximal term in local training (Li et al. 2020, algorithm 2)."""
    return FedProx(**ALL_NODES, proximal_mu=settings.proximal_mu)


def _fedavgm(settings: FederationSettings) -> Strategy:
    """FedAvgM: FedAvg with server momentum (Hsu, Qi & Brown 2019, section 4.3)."""
    rate, momentum = settings.server_learning_rate or 1.0, settings.server_momentum
    return FedAvgM(**ALL_NODES, server_learning_rate=rate, server_momentum=momentum)


def _fedadam(settings: FederationSettings) -> Strategy:
    """FedAdam: Adam on the mean update (Reddi et al. 2021, algorithm 2).

    Flower adds a bias correction that is not in the paper; the first steps are shorter than the server learning rate
    (findings/fedadam_first_step.sh).
    """
    rate = settings.server_learning_rate or ADAPTIVE_RATE
    return FedAdam(**ALL_NODES, eta=rate, beta_1=settings.server_momentum, beta_2=SECOND_MOMENT)


def _fedyogi(settings: FederationSettings) -> Strategy:
    """FedYogi: Yogi on the mean update (Reddi et al. 2021, algorithm 2)."""
    rate = settings.server_learning_rate or ADAPTIVE_RATE
    return FedYogi(**ALL_NODES, eta=rate, beta_1=settings.server_momentum, beta_2=SECOND_MOMENT)


def _fedadagrad(settings: FederationSettings) -> Strategy:
    """FedAdagrad: Adagrad on the mean update, without momentum (Reddi et al. 2021, algorithm 2)."""
    return FedAdagrad(**ALL_NODES, eta=settings.server_learning_rate or ADAPTIVE_RATE)


def _fedmedian(settings: FederationSettings) -> Strategy:
    """FedMedian: each weight is the unweighted median over hospitals (Yin et al. 2018, algorithm 1)."""
    return FedMedian(**ALL_NODES)


def _fedtrimmedavg(settings: FederationSettings) -> Strategy:
    """FedTrimmedAvg: each weight is the trimmed mean over hospitals (Yin et al. 2018, algorithm 1)."""
    return FedTrimmedAvg(**ALL_NODES, beta=settings.trim_share)


def _krum(settings: FederationSettings) -> Strategy:
    """Krum: the weights of the hospital closest to its n - f - 2 nearest neighbours (Blanchard et al. 2017, section 4)."""
    return Krum(**ALL_NODES, num_malicious_nodes=settings.malicious)


def _multikrum(settings: FederationSettings) -> Strategy:
    """Multi-Krum: the mean of the n - f - 2 hospitals with the best Krum scores (Blanchard et al. 2017, section 6)."""
    return MultiKrumOfRound(**ALL_NODES, num_malicious_nodes=settings.malicious)


def _bulyan(settings: FederationSettings) -> Strategy:
    """Bulyan: mean of the n - 4f values nearest the median, of n - 2f chosen by Krum (El Mhamdi et al. 2018, section 4)."""
    return Bulyan(**ALL_NODES, num_malicious_nodes=settings.malicious)


def _qfedavg(settings: FederationSettings) -> Strategy:
    """q-FedAvg: hospitals with a higher loss get more weight (Li et al. 2020, "Fair resource allocation", algorithm 2).

    Hospitals are not weighted by patients; the loss is the mean during the round's training, not the loss at its start.
    """
    return LightQFedAvg(
        **ALL_NODES,
        client_learning_rate=settings.local_learning_rate,
        q=settings.fairness,
        train_loss_key=TRAIN_LOSS,
    )


def _scaffold(settings: FederationSettings) -> Strategy:
    """SCAFFOLD: see `Scaffold`."""
    return Scaffold(settings)


def _newton(settings: FederationSettings) -> Strategy:
    """Newton's method: see `Newton`."""
    return Newton(settings)


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
    "newton": _newton,
}


def make_strategy(settings: FederationSettings, hospitals: int = 0, schema: Schema | None = None) -> Strategy:
    """A new strategy of the name in the settings, for `hospitals` hospitals (0: the number in the settings)."""
    strategy = STRATEGIES[settings.strategy](
        replace(settings, hospitals=hospitals) if hospitals and not settings.secure_aggregation else settings
    )
    if isinstance(strategy, Newton) and schema:
        strategy.design = make_design(schema, settings.missing_indicators)
    return strategy
