"""Every strategy by name."""

from fedhealth.config.federation import FederationSettings
from fedhealth.config.federation_flags import StrategyName
from fedhealth.server.strategies.registry import STRATEGIES, make_strategy


def test_every_strategy_name_has_a_strategy_new_each_time() -> None:
    assert set(STRATEGIES) == set(StrategyName.__args__)  # type: ignore[attr-defined]  # typing.Literal has it
    for name in STRATEGIES:
        settings = FederationSettings(hospitals=7, malicious=1, strategy=name)
        assert make_strategy(settings) is not make_strategy(settings)
