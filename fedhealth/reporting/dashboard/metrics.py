"""The numbers of a run for Prometheus, in its text format."""

from fedhealth.common.errors import UsageError
from fedhealth.reporting.dashboard.state import LiveRun
from fedhealth.server.records import name_each

QUALITY = ("loss", "auroc", "accuracy", "brier")


def render_metrics(run: LiveRun) -> tuple[bytes, str]:
    """The text and its content type; a `UsageError` if prometheus-client is not installed."""
    try:
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Gauge, generate_latest
    except ImportError:
        raise UsageError(
            "/metrics needs the package prometheus-client; pip install -r requirements-metrics.txt"
        ) from None
    registry = CollectorRegistry()
    about = Gauge("fedhealth_run_info", "The run and its phase", ["run", "phase"], registry=registry)
    about.labels(run.name, run.phase).set(1)
    for name, (meaning, value) in gauges(run).items():
        Gauge(f"fedhealth_{name}", meaning, registry=registry).set(value)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def gauges(run: LiveRun) -> dict[str, tuple[str, float]]:
    """Name -> (meaning, value); without what is not known yet, or undefined."""
    found: dict[str, tuple[str, float | None]] = {
        "hospitals_connected": ("Hospitals that are connected", len(run.joined)),
        "rounds_planned": ("Rounds of the run", float(run.settings.settings["rounds"])),
        "rounds_finished": ("Rounds that have ended", run.history[-1].round_num if run.history else 0),
    }
    if run.history:
        last, roster = run.history[-1], run.settings.roster
        found |= {
            "round_seconds": ("Duration of the last round", last.seconds),
            "hospitals_left_out": ("Hospitals that the last round left out", len(name_each(last.left_out, roster))),
        }
        for name in QUALITY:
            found[name] = (f"{name} of all tested patients after the last round", getattr(last.pooled, name))
    return {name: (meaning, value) for name, (meaning, value) in found.items() if value is not None}
