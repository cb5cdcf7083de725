"""Strategy by name: how local weights become global ones."""

from collections.abc import Callable, Mapping

from flwr.serverapp.strategy import FedAvg, Strategy

from fedhealth.settings import StrategyName


def _fedavg() -> Strategy:
    """FedAvg: the mean of the hospitals' weights, by number of training patients (McMahan et al. 2017, algorithm 1)."""
    return FedAvg(
        fraction_train=1.0,
        fraction_evaluate=1.0,
        min_train_nodes=1,
        min_evaluate_nodes=1,
        min_available_nodes=1,
        weighted_by_key="num-examples",
    )


STRATEGIES: Mapping[StrategyName, Callable[[], Strategy]] = {"fedavg": _fedavg}


def make_strategy(name: StrategyName) -> Strategy:
    """The strategy of that name, fresh."""
    return STRATEGIES[name]()
