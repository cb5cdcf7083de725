"""Every strategy by name."""

from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.server.strategies.registry import STRATEGIES, make_strategy


def test_every_strategy_that_can_be_asked_for_is_there_and_fresh_each_time() -> None:
    assert set(STRATEGIES) == set(StrategyName.__args__)  # type: ignore[attr-defined]  # typing.Literal has it
    for name in STRATEGIES:
        settings = FederationSettings(hospitals=7, malicious=1, strategy=name)
        assert make_strategy(settings) is not make_strategy(settings)
