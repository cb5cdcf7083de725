"""/healthz and /metrics beside the live page."""

import json
import urllib.error
import urllib.request

import pytest

from fedhealth.common.errors import UsageError
from fedhealth.reporting.dashboard import app
from fedhealth.reporting.dashboard.app import Dashboard
from fedhealth.reporting.dashboard.metrics import gauges, render_metrics
from fedhealth.reporting.dashboard.state import LiveRun
from tests.support.run_events import make_began, make_round


def test_what_is_not_known_yet_has_no_gauge() -> None:
    run = LiveRun("spring")
    run.on_link("joined", "va")
    assert {name: value for name, (_, value) in gauges(run).items()} == {
        "hospitals_connected": 1,
        "rounds_planned": 1,
        "rounds_finished": 0,
    }


def test_the_last_round_is_in_the_gauges() -> None:
    run, record = LiveRun("spring"), make_round(3)
    run.on_event(make_began())
    run.on_event(record)
    values = {name: value for name, (_, value) in gauges(run).items()}
    assert values["rounds_finished"] == 3
    assert (values["round_seconds"], values["auroc"]) == (record.seconds, record.pooled.auroc)


def test_prometheus_reads_the_run_and_its_phase() -> None:
    pytest.importorskip("prometheus_client", reason="pip install -r requirements-metrics.txt")
    run = LiveRun('"odd\\name')
    text, kind = render_metrics(run)
    lines = text.decode().splitlines()
    assert kind.startswith("text/plain; version=0.0.4")
    assert 'fedhealth_run_info{phase="waiting",run="\\"odd\\\\name"} 1.0' in lines
    assert "fedhealth_rounds_planned 1.0" in lines
    assert "# TYPE fedhealth_hospitals_connected gauge" in lines


@pytest.mark.enable_socket
def test_health_names_the_run_and_metrics_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: LiveRun) -> None:
        raise UsageError("/metrics needs the package prometheus-client")

    monkeypatch.setattr(app, "render_metrics", fail)
    page = Dashboard(0, "spring")
    with page.serving() as address:
        with urllib.request.urlopen(f"{address}healthz") as reply:
            assert json.load(reply) == {"status": "ok", "run": "spring", "phase": "waiting"}
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}metrics")
        assert (caught.value.code, caught.value.read()) == (501, b"/metrics needs the package prometheus-client")
        page.show(make_began())
        page.begin("summer")
        with urllib.request.urlopen(f"{address}healthz") as reply:
            assert json.load(reply) == {"status": "ok", "run": "summer", "phase": "waiting"}
