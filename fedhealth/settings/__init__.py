"""Frozen settings = the flags of scripts and commands = the run-config keys; each checked where it is made.

The names and docstrings here are what `--help` prints. Nothing else in the project parses or checks a setting.
"""

from fedhealth.settings.checks import LONGEST_WAIT, parse_address, require
from fedhealth.settings.choices import asks_for_choice
from fedhealth.settings.commands import (
    CertificatesSettings,
    CompareSettings,
    DoctorSettings,
    Protocol,
    ReceiptsSettings,
)
from fedhealth.settings.engine import EngineSettings
from fedhealth.settings.federation import FederationSettings, ModelName, Scaling, StrategyName, share_of
from fedhealth.settings.scripts import UCI_URL, ClientSettings, DatasetSettings, ServerSettings, Split
from fedhealth.settings.simulate import SimulateSettings

__all__ = [
    "LONGEST_WAIT",
    "UCI_URL",
    "CertificatesSettings",
    "ClientSettings",
    "CompareSettings",
    "DatasetSettings",
    "DoctorSettings",
    "EngineSettings",
    "FederationSettings",
    "ModelName",
    "Protocol",
    "ReceiptsSettings",
    "Scaling",
    "ServerSettings",
    "SimulateSettings",
    "Split",
    "StrategyName",
    "asks_for_choice",
    "parse_address",
    "require",
    "share_of",
]
