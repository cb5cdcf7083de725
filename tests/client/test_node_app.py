"""The app that Flower's engines call: which hospital it builds, valid node configs, and the text of errors."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from fedhealth.client import hospital_data, virtual
from fedhealth.client.limits import HospitalLimits, read_limits
from fedhealth.client.node_app import NodeApp
from fedhealth.common.errors import RunError, UsageError
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings
from fedhealth.transport.messages import SERVER_NODE_ID, set_identity
from tests.support.asking import write_hospital
from tests.support.hospital_files import write_hospitals

FLOWERS_RUN_ID = 4711
SETTINGS = {**FederationSettings().to_run_config(), **EngineSettings().to_run_config()}


def ask(app: NodeApp, node_config: dict[str, Any], run_id: int = FLOWERS_RUN_ID, **run_config: Any) -> Message:
    """The reply of a node of a Flower run to the first query for sums, which needs no TensorFlow."""
    set_identity(SERVER_NODE_ID)
    message = Message(RecordDict(), dst_node_id=7, message_type="query.label_counts")
    config = {**SETTINGS, **{key.replace("_", "-"): value for key, value in run_config.items()}}
    return app(message, Context(run_id, 7, node_config, RecordDict(), config))


def reason(reply: Message) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def labels(reply: Message) -> dict[str, Any]:
    return dict(reply.content.metric_records["labels"])


def test_a_supernode_is_the_hospital_of_the_csv_in_its_node_config(tmp_path: Path) -> None:
    path = write_hospital(tmp_path / "client_1.csv")  # 60 patients, of whom 30 are ill; a quarter is tested
    assert labels(ask(NodeApp(), {"data": str(path)})) == {"healthy": 22, "ill": 22}
    assert labels(ask(NodeApp(), {"data": str(path), "min-count": 23})) == {"healthy": 0, "ill": 0}


def test_a_supernode_reads_its_file_by_the_schema_and_the_mapping_of_its_node_config(tmp_path: Path) -> None:
    path, schema, mapping = (tmp_path / name for name in ("table.csv", "ward.toml", "map.toml"))
    schema.write_text(
        'title = "a test"\nsource = "a test"\n[[column]]\nname = "age"\nmeaning = "age"\nkind = "number"\nrange = [0, 120]\n'
        '[[outcome]]\nname = "dead"\nmeaning = "dead"\nkind = "yes/no"\npositive = [1]\n'
    )
    mapping.write_text('[[column]]\nname = "dead"\nin-file = "exitus"\n')
    rows = [f"{40 + place};{'yes' if place % 2 else 'no'}" for place in range(60)]
    path.write_text("\n".join(["age;exitus", *rows]))
    files = {"data": str(path), "schema": str(schema), "mapping": str(mapping)}
    assert labels(ask(NodeApp(), files)) == {"healthy": 22, "ill": 22}
    assert ask(NodeApp(), {"data": str(path)}).has_error()
    assert ask(NodeApp(), {**files, "decimal": "dot"}).has_error()


def test_a_hospital_is_read_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = hospital_data.load_hospital

    def load(path: Path, *others: Any) -> Any:
        read.append(path)
        return original(path, *others)

    monkeypatch.setattr(hospital_data, "load_hospital", load)
    app, one, two = NodeApp(), write_hospital(tmp_path / "one.csv"), write_hospital(tmp_path / "two.csv", 40)
    for path in (one, two, one):
        assert not ask(app, {"data": str(path)}).has_error()
    assert not ask(app, {"data": str(one)}, seed=3).has_error()
    assert read == [one, two]


def test_a_node_of_a_simulation_has_the_file_or_the_sample_of_its_number(tmp_path: Path) -> None:
    write_hospitals(tmp_path)
    app = NodeApp()
    by_file = [labels(ask(app, {"partition-id": number, "num-partitions": 4}, data=str(tmp_path))) for number in (0, 1)]
    sampled = [labels(ask(app, {"partition-id": number, "num-partitions": 4}, patients=80)) for number in (0, 1)]
    assert by_file[0] != by_file[1]
    assert sampled[0] != sampled[1]
    assert all(sum(counts.values()) == 60 for counts in sampled)


def test_a_folder_is_listed_once_for_all_nodes_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hospitals(tmp_path)
    listed: list[Path] = []
    original = virtual.list_hospital_files

    def list_files(folder: Path) -> list[Path]:
        listed.append(folder)
        return original(folder)

    monkeypatch.setattr(virtual, "list_hospital_files", list_files)
    app = NodeApp()
    for number in (0, 1, 2, 0):
        assert not ask(app, {"partition-id": number}, data=str(tmp_path)).has_error()
    assert listed == [tmp_path]


def test_a_supernode_without_data_gets_an_error_that_says_how_to_give_them() -> None:
    assert reason(ask(NodeApp(), {})).startswith("a SuperNode has no data; start it with --node-config")


@pytest.mark.parametrize(
    ("run_config", "words"),
    [
        ({"data": "data"}, "--data is data; give an absolute path"),
        ({"seed": "x"}, "--seed is 'x'"),
        ({"rounds": 0}, "--rounds is 0; give 1 or more"),
    ],
)
def test_invalid_settings_are_refused_by_a_node_of_a_simulation(run_config: dict[str, Any], words: str) -> None:
    text = reason(ask(NodeApp(), {"partition-id": 0}, **run_config))
    assert text.startswith(f"the server's settings are invalid: {words}")


def test_a_file_that_is_refused_is_not_quoted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_hospital(tmp_path / "client_1.csv")
    path.write_text(path.read_text().replace(",200.0,", ",99999,"))
    assert reason(ask(NodeApp(), {"data": str(path)})) == "DataError"


@pytest.mark.parametrize(
    ("node_config", "words"),
    [
        ({"min-count": 0}, "min-count is 0 in the node config; give 1 or more"),
        ({"min-count": True}, "min-count is True in the node config; give 1 or more"),
        ({"max-epsilon": 0}, "max-epsilon is 0 in the node config; give a number above 0"),
        ({"max-epsilon": "3"}, "max-epsilon is 3 in the node config; give a number above 0"),
        ({"share-verdict": 1}, "share-verdict is 1 in the node config; give true or false"),
        ({"require-dp": "yes"}, "require-dp is yes in the node config; give true or false"),
        ({"max_epsilon": 3.0}, "max_epsilon is not a key of a node config; did you mean max-epsilon?"),
        ({"min-counts": 9}, "min-counts is not a key of a node config; did you mean min-count?"),
        (
            {"budget": 3.0},
            "budget is not a key of a node config; known are data, schema, sheet, decimal, mapping, name, "
            "min-count, max-epsilon, require-dp, share-verdict, secure-aggregation, accept-roster, tls, pin, "
            "partition-id, num-partitions",
        ),
        (
            {"require-dp": True},
            "require-dp is true in the node config, but max-epsilon is missing; give it, without spaces around =",
        ),
    ],
)
def test_an_invalid_limit_is_one_line_here_and_its_type_at_the_server(
    tmp_path: Path, node_config: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_limits(node_config)
    assert str(caught.value) == words
    path = write_hospital(tmp_path / "client_1.csv")
    assert reason(ask(NodeApp(), {"data": str(path), **node_config})) == "UsageError"


def test_the_limits_of_a_node_config_are_the_hospitals() -> None:
    assert read_limits({"data": "x.csv"}) == HospitalLimits()
    config = {"min-count": 9, "max-epsilon": 4, "share-verdict": True, "require-dp": True}
    assert read_limits(config) == HospitalLimits(min_count=9, max_epsilon=4.0, share_comparisons=True)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The lines of Flower's log, which a SuperNode's process prints."""
    lines, logger = list[str](), logging.getLogger("flwr")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.disabled
    logger.disabled = False
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.disabled = before


@pytest.mark.parametrize(
    ("limits", "understood"),
    [
        (
            {},
            "schema heart disease, name as in the file, min-count 5, max-epsilon none, so no limit, "
            "secure-aggregation accept, share-verdict false",
        ),
        (
            {"name": "lakeside", "min-count": 9, "max-epsilon": 4, "require-dp": True, "share-verdict": True},
            "schema heart disease, name lakeside, min-count 9, max-epsilon 4, "
            "secure-aggregation accept, share-verdict true",
        ),
    ],
)
def test_the_first_line_of_the_log_is_what_was_understood_of_the_node_config(
    tmp_path: Path, limits: dict[str, Any], understood: str, log: list[str]
) -> None:
    path = tmp_path / "missing.csv"
    ask(NodeApp(), {"data": str(path), **limits})
    assert log[0] == f"node config: file {path}, {understood}"


def test_a_key_that_is_refused_is_named_in_the_log_of_the_hospital_and_not_at_the_server(
    tmp_path: Path, log: list[str]
) -> None:
    path = write_hospital(tmp_path / "client_1.csv")
    assert reason(ask(NodeApp(), {"data": str(path), "max_epsilon": 3.0})) == "UsageError"
    assert log == ["max_epsilon is not a key of a node config; did you mean max-epsilon?"]
    assert reason(ask(NodeApp(), {"partition-id": 0, "max_epsilon": 3.0})) == "UsageError"


def test_a_limit_of_one_and_of_true_are_two_hospitals(tmp_path: Path) -> None:
    path, app = write_hospital(tmp_path / "client_1.csv"), NodeApp()
    assert not ask(app, {"data": str(path), "min-count": 1}).has_error()
    assert reason(ask(app, {"data": str(path), "min-count": True})) == "UsageError"


def test_our_own_engines_see_the_error_itself() -> None:
    with pytest.raises(RunError, match="a SuperNode has no data"):
        ask(NodeApp(), {}, run_id=1)
