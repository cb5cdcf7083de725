"""Every setting: what is refused and in which words, and the way through Flower's run config."""

import ast
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.settings import CompareSettings
from fedhealth import config
from fedhealth.common.errors import UsageError
from fedhealth.config.checks import parse_address, parse_server
from fedhealth.config.commands import DoctorSettings
from fedhealth.config.engine import EngineSettings
from fedhealth.config.federation import FederationSettings, fewest_hospitals
from fedhealth.config.federation_flags import StrategyName
from fedhealth.config.scripts import ClientSettings, DatasetSettings, ServerSettings

ALL_SETTINGS = (FederationSettings, ServerSettings, ClientSettings, DatasetSettings, CompareSettings, EngineSettings)
CSV: dict[str, Any] = {"file": Path("client_1.csv")}
WHOLE, SHARE, SEED = "1 or more", "a share from 0.05 to 0.5", "a whole number from 0 to 2147483647"
RATE, SECONDS, PORT = (
    "a number above 0, at most 100, or 0 for the usual one",
    "seconds above 0, 30 days at most",
    "HOST:PORT, such as 127.0.0.1:8080",
)
MANY, URL, NAME = "a number from 1 to 1000", "an address that starts with http:// or https://", "1 to 100 characters"
KERAS, INVENTED, LATER = (
    "a path that ends in .keras",
    "a number from 40 to 10000000",
    "seconds, 0 or more, 30 days at most",
)
PROXY = "none, or http://HOST:PORT (http://USER:PASSWORD@HOST:PORT)"

BAD: list[tuple[type[Any], dict[str, Any], str]] = [
    (FederationSettings, {"hospitals": 0}, f"--hospitals is 0; give {WHOLE}"),
    (FederationSettings, {"rounds": 0}, f"--rounds is 0; give {WHOLE}"),
    (FederationSettings, {"rounds": -3}, f"--rounds is -3; give {WHOLE}"),
    (FederationSettings, {"patience": -1}, "--patience is -1; give 0 or more"),
    (FederationSettings, {"validation": 0.0}, f"--validation is 0.0; give {SHARE}"),
    (FederationSettings, {"validation": 0.6}, f"--validation is 0.6; give {SHARE}"),
    (FederationSettings, {"validation": math.nan}, f"--validation is nan; give {SHARE}"),
    (FederationSettings, {"fraction": 0.0}, "--fraction is 0.0; give a share above 0, at most 1"),
    (FederationSettings, {"fraction": 1.1}, "--fraction is 1.1; give a share above 0, at most 1"),
    (FederationSettings, {"evaluate_every": -1}, "--evaluate-every is -1; give 0 or more"),
    (FederationSettings, {"dp_epsilon": -1.0}, "--dp-epsilon is -1.0; give a number from 0 (no guarantee) to 100"),
    (FederationSettings, {"dp_noise": -0.5}, "--dp-noise is -0.5; give a number from 0 to 10000"),
    (FederationSettings, {"dp_delta": 1.0}, "--dp-delta is 1.0; give a share above 0, below 1"),
    (FederationSettings, {"dp_clip": 0.0}, "--dp-clip is 0.0; give a number above 0, at most 10000"),
    (ClientSettings, {**CSV, "max_epsilon": 0.0}, "--max-epsilon is 0.0; give a number above 0, at most 1000"),
    (ClientSettings, {**CSV, "proxy": ""}, f"--proxy is ; give {PROXY}"),
    (ClientSettings, {**CSV, "proxy": "va:secret@10.0.0.1:3128"}, f"--proxy is 10.0.0.1:3128; give {PROXY}"),
    (ClientSettings, {**CSV, "proxy": "socks5://va:secret@x"}, f"--proxy is socks5://x; give {PROXY}"),
    (EngineSettings, {"out": "runs/x"}, "--out is runs/x; give an absolute path"),
    (EngineSettings, {"data": "data"}, "--data is data; give an absolute path"),
    (EngineSettings, {"patients": 20}, "--patients is 20; give a number from 21 to 1000000"),
    (FederationSettings, {"local_epochs": 0}, f"--local-epochs is 0; give {WHOLE}"),
    (FederationSettings, {"batch_size": 0}, f"--batch-size is 0; give {WHOLE}"),
    (FederationSettings, {"learning_rate": -0.1}, f"--learning-rate is -0.1; give {RATE}"),
    (FederationSettings, {"learning_rate": 100.5}, f"--learning-rate is 100.5; give {RATE}"),
    (FederationSettings, {"learning_rate": math.nan}, f"--learning-rate is nan; give {RATE}"),
    (FederationSettings, {"learning_rate": math.inf}, f"--learning-rate is inf; give {RATE}"),
    (FederationSettings, {"test_share": 0.0}, f"--test-share is 0.0; give {SHARE}"),
    (FederationSettings, {"test_share": 1.0}, f"--test-share is 1.0; give {SHARE}"),
    (FederationSettings, {"test_share": math.nan}, f"--test-share is nan; give {SHARE}"),
    (FederationSettings, {"round_timeout": 0.0}, f"--round-timeout is 0.0; give {SECONDS}"),
    (FederationSettings, {"round_timeout": math.nan}, f"--round-timeout is nan; give {SECONDS}"),
    (FederationSettings, {"min_hospitals": 0}, f"--min-hospitals is 0; give {WHOLE}"),
    (FederationSettings, {"strikes": 0}, f"--strikes is 0; give {WHOLE}"),
    (FederationSettings, {"max_update_norm": -1.0}, "--max-update-norm is -1.0; give a number, 0 for no limit"),
    (FederationSettings, {"max_update_norm": math.nan}, "--max-update-norm is nan; give a number, 0 for no limit"),
    (FederationSettings, {"min_count": 0}, f"--min-count is 0; give {WHOLE}"),
    (FederationSettings, {"hidden": 0}, "--hidden is 0; give a number from 1 to 4096"),
    (FederationSettings, {"weight_decay": -0.1}, "--weight-decay is -0.1; give a number from 0 to 1"),
    (FederationSettings, {"weight_decay": math.nan}, "--weight-decay is nan; give a number from 0 to 1"),
    (
        FederationSettings,
        {"server_learning_rate": -1.0},
        "--server-learning-rate is -1.0; give a number from 0 (the usual one) to 100",
    ),
    (FederationSettings, {"server_momentum": 1.0}, "--server-momentum is 1.0; give a share from 0 to below 1"),
    (FederationSettings, {"proximal_mu": -1.0}, "--proximal-mu is -1.0; give a number from 0 to 100"),
    (FederationSettings, {"fairness": -0.1}, "--fairness is -0.1; give a number from 0 to 10"),
    (FederationSettings, {"trim_share": 0.5}, "--trim-share is 0.5; give a share from 0 to below 0.5"),
    (FederationSettings, {"intercept_prior": -1.0}, "--intercept-prior is -1.0; give a number from 0 to 1000"),
    (FederationSettings, {"malicious": -1}, "--malicious is -1; give 0 or more"),
    (CompareSettings, {"seeds": 0}, "--seeds is 0; give a number from 1 to 100"),
    (CompareSettings, {"protocol": ()}, "--protocol is empty; give at least one"),
    (CompareSettings, {"strategy": ()}, "--strategy is empty; give at least one"),
    (CompareSettings, {"rounds": 0}, f"--rounds is 0; give {WHOLE}"),
    (ServerSettings, {"dashboard": 70000}, "--dashboard is 70000; give a port from 0 to 65535"),
    (
        ServerSettings,
        {"without": ("va",)},
        "--without is va; give --resume FOLDER with it, for a new run --hospitals",
    ),
    (ServerSettings, {"keep": 0}, f"--keep is 0; give {WHOLE}"),
    (FederationSettings, {"seed": -1}, f"--seed is -1; give {SEED}"),
    (FederationSettings, {"seed": 2**31}, f"--seed is 2147483648; give {SEED}"),
    (ServerSettings, {"rounds": 0}, f"--rounds is 0; give {WHOLE}"),
    (ServerSettings, {"address": "8080"}, f"--address is 8080; give {PORT}"),
    (ServerSettings, {"max_wait": 0.0}, f"--max-wait is 0.0; give {SECONDS}"),
    (ServerSettings, {"max_wait": math.nan}, f"--max-wait is nan; give {SECONDS}"),
    (ClientSettings, {**CSV, "server": "localhost"}, f"--server is localhost; give {PORT}"),
    (ClientSettings, {**CSV, "max_wait": -1.0}, f"--max-wait is -1.0; give {LATER}"),
    (ClientSettings, {**CSV, "max_wait": math.nan}, f"--max-wait is nan; give {LATER}"),
    (ClientSettings, {**CSV, "min_count": 0}, f"--min-count is 0; give {WHOLE}"),
    (ClientSettings, {**CSV, "save_model": Path("model.h5")}, f"--save-model is model.h5; give {KERAS}"),
    (ClientSettings, {**CSV, "save_personal": Path("own.h5")}, f"--save-personal is own.h5; give {KERAS}"),
    (
        ClientSettings,
        {**CSV, "save_model": Path("a.keras"), "save_personal": Path("a.keras")},
        "--save-personal is a.keras; give another file than --save-model",
    ),
    (DatasetSettings, {"clients": 0}, f"--clients is 0; give {MANY}"),
    (DatasetSettings, {"clients": 1001}, f"--clients is 1001; give {MANY}"),
    (DatasetSettings, {"alpha": 0.0}, "--alpha is 0.0; give a number above 0"),
    (DatasetSettings, {"alpha": math.nan}, "--alpha is nan; give a number above 0"),
    (DatasetSettings, {"patients": 39}, f"--patients is 39; give {INVENTED}"),
    (DatasetSettings, {"patients": 10_000_001}, f"--patients is 10000001; give {INVENTED}"),
    (DatasetSettings, {"seed": -1}, f"--seed is -1; give {SEED}"),
    (DatasetSettings, {"url": "ftp://host/file"}, f"--url is ftp://host/file; give {URL}"),
]


@pytest.mark.parametrize(("kind", "values", "line"), BAD, ids=[line.partition(";")[0] for _, _, line in BAD])
def test_a_bad_value_is_refused_in_one_line_that_says_what_to_give(
    kind: type[Any], values: dict[str, Any], line: str
) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert str(caught.value) == line


def test_every_setting_with_a_range_has_a_bad_value_above() -> None:
    free = {"name", "model", "strategy", "scaling", "missing_indicators", "verbose", "out", "file", "source", "split"}
    free |= {"codes", "label_1", "schema", "sheet", "decimal", "mapping", "feasibility"}
    free |= {"tls", "allow", "insecure", "resume", "receipts", "page", "choose", "reset_budget", "subgroups", "track"}
    free |= {
        "calibrate",
        "class_weights",
        "threshold",
        "importance",
        "personalise",
        "share_verdict",
        "service",
        "log_format",
        "timestamps",
        "secure_aggregation",
        "pin",
        "accept_roster",
    }
    tried = {name for _, values, _ in BAD for name in values} - {"file", "strategy", "out"}
    assert tried == {each.name for kind in ALL_SETTINGS for each in dataclasses.fields(kind)} - free


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FederationSettings, {"hospitals": 1, "rounds": 1, "local_epochs": 1, "batch_size": 1, "learning_rate": 100.0}),
        (FederationSettings, {"seed": 2**31 - 1, "test_share": 0.05, "round_timeout": 0.001}),
        (ClientSettings, {**CSV, "max_wait": 0.0, "name": "Köln", "save_model": Path("deep/model.keras")}),
        (DatasetSettings, {"clients": 1000, "patients": 40, "alpha": 1e-6, "url": "http://localhost/x.zip"}),
    ],
)
def test_the_last_good_value_is_accepted(kind: type[Any], values: dict[str, Any]) -> None:
    made = kind(**values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"strategy": "bulyan"}, "--strategy bulyan with --malicious 0 is a plain mean; give --malicious 1 or more"),
        (
            {"strategy": "bulyan", "malicious": 1},
            "--strategy bulyan with --malicious 1 needs at least 7 hospitals, --hospitals is 4; give another strategy",
        ),
        (
            {"strategy": "krum", "malicious": 1, "hospitals": 100, "fraction": 0.04},
            "--strategy krum with --malicious 1 needs at least 5 hospitals, --fraction 0.04 of 100 is 4;",
        ),
        ({"strategy": "krum", "malicious": 1}, "--strategy krum with --malicious 1 needs at least 5 hospitals"),
        (
            {"strategy": "multikrum", "hospitals": 2},
            "--strategy multikrum with --malicious 0 needs at least 3 hospitals",
        ),
        (
            {"strategy": "fedtrimmedavg", "trim_share": 0.2},
            "--trim-share is 0.2, which cuts nobody off among 4 hospitals",
        ),
    ],
)
def test_a_strategy_that_cannot_work_is_refused_with_the_reason(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(**values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"dp_noise": 1.0}, "--dp-epsilon and --dp-noise each decide the noise; give one of them"),
        ({"scaling": "local"}, "--scaling local and --dp-epsilon exclude each other: each hospital's own means"),
        (
            {"strategy": "qfedavg"},
            "--strategy qfedavg and --dp-epsilon exclude each other: it weights hospitals by their",
        ),
        (
            {"patience": 3},
            "--patience 3 and --dp-epsilon exclude each other: it needs histograms of validation patients",
        ),
        (
            {"calibrate": "temperature"},
            "--calibrate temperature and --dp-epsilon exclude each other: it needs histograms",
        ),
        ({"threshold": "youden"}, "--threshold youden and --dp-epsilon exclude each other: it needs histograms"),
        ({"feasibility": True}, "--feasibility and --dp-epsilon exclude each other: it asks for counts of patients"),
        ({"class_weights": True}, "--class-weights and --dp-epsilon exclude each other: they come from exact counts"),
        ({"evaluate_every": 5}, "--evaluate-every 5 and --dp-epsilon exclude each other: every evaluation discloses"),
    ],
)
def test_what_differential_privacy_does_not_cover_is_refused_with_the_reason(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(dp_epsilon=3.0, **values)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("noise", [{"dp_epsilon": 3.0}, {"dp_noise": 4.0}])
def test_under_differential_privacy_no_moments_are_asked_for_and_there_is_one_evaluation(
    noise: dict[str, float],
) -> None:
    private = FederationSettings(**noise)  # type: ignore[arg-type]
    assert (private.private, private.scaling, private.evaluate_every) == (True, "reference", 0)
    assert FederationSettings.from_run_config(private.to_run_config()) == private
    assert not FederationSettings().private


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "bulyan", "malicious": 1, "hospitals": 7},
        {"strategy": "krum", "malicious": 1, "hospitals": 5},
        {"strategy": "krum"},
        {"strategy": "fedtrimmedavg"},
        {"strategy": "fedavg", "hospitals": 1},
    ],
)
def test_a_strategy_with_enough_hospitals_is_accepted(values: dict[str, Any]) -> None:
    assert FederationSettings(**values).strategy == values["strategy"]


@pytest.mark.parametrize(
    ("fewest", "values"),
    [
        (4, {"strategy": "fedtrimmedavg"}),
        (3, {"strategy": "fedtrimmedavg", "trim_share": 0.34}),
        (10, {"strategy": "fedtrimmedavg", "trim_share": 0.1}),
        (50, {"strategy": "fedtrimmedavg", "trim_share": 1 / 49}),  # 49 of these are less than 1
        (5, {"strategy": "krum", "malicious": 1}),
        (5, {"strategy": "multikrum", "malicious": 1}),
        (7, {"strategy": "bulyan", "malicious": 1}),
        (1, {"strategy": "fedmedian"}),
    ],
)
def test_a_strategy_says_how_many_hospitals_a_round_needs(fewest: int, values: dict[str, Any]) -> None:
    settings = FederationSettings(hospitals=100, **values)
    assert fewest_hospitals(settings) == fewest
    if settings.strategy == "fedtrimmedavg":
        assert [int(settings.trim_share * number) for number in (fewest - 1, fewest)] == [0, 1]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("hospital.example:1", ("hospital.example", 1)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("[::1]", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address, "server") == parsed


@pytest.mark.parametrize(
    "address", ["", ":", "host", "host:", ":8080", "host:65536", "host:-1", "host:80a", "host:8 0", "host:+80", "[::1]"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(address, "server")
    assert str(caught.value) == f"--server is {address}; give {PORT}"


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080"])
@pytest.mark.parametrize(("kind", "file"), [(ClientSettings, "file"), (DoctorSettings, "data")])
def test_a_client_gives_no_address_that_is_only_for_listening(kind: type[Any], file: str, address: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind(server=address, **{file: Path("client_1.csv")})
    assert str(caught.value) == (
        f"--server is {address}, where a server only listens; give its own address, such as 127.0.0.1:8080, or "
        "fed.example.org:8443 on another machine"
    )
    assert ServerSettings(address=address, insecure=True).address == address


@pytest.mark.parametrize("proxy", [None, "none", "http://proxy.example.org:3128", "http://va:secret@10.0.0.1:3128"])
def test_a_proxy_is_none_or_a_url(proxy: str | None) -> None:
    assert ClientSettings(**CSV, proxy=proxy).proxy == DoctorSettings(data=CSV["file"], proxy=proxy).proxy == proxy
    with pytest.raises(UsageError, match=r"^--proxy is localhost:1; give none, or http://"):
        DoctorSettings(data=CSV["file"], proxy="localhost:1")


def test_a_client_needs_the_port_that_the_system_chose() -> None:
    with pytest.raises(UsageError, match=r"^--server is localhost:0; give the port that the server prints"):
        parse_server("localhost:0")


# --- the run config ---------------------------------------------------------------------------------------------------

federation_settings = st.builds(
    FederationSettings,
    hospitals=st.integers(1, 1000),
    rounds=st.integers(1, 1000),
    local_epochs=st.integers(1, 100),
    batch_size=st.integers(1, 10_000),
    learning_rate=st.floats(0, 100, exclude_min=True),
    model=st.sampled_from(["mlp", "logistic"]),
    strategy=st.just("fedavg"),
    scaling=st.sampled_from(["federated", "reference", "local"]),
    missing_indicators=st.booleans(),
    test_share=st.floats(0.05, 0.5),
    round_timeout=st.floats(0, 1e6, exclude_min=True),
    seed=st.integers(0, 2**31 - 1),
)


@settings(derandomize=True, deadline=None)
@given(federation_settings)
def test_settings_come_back_from_the_run_config_as_they_went_in(given_settings: FederationSettings) -> None:
    run_config = given_settings.to_run_config()
    assert FederationSettings.from_run_config(run_config) == given_settings
    assert all(type(value) in (bool, int, float, str) for value in run_config.values())
    assert all("_" not in key for key in run_config)


def test_a_server_s_run_config_holds_only_what_travels() -> None:
    server = ServerSettings(rounds=7, address="127.0.0.1:1", max_wait=5.0, out=Path("somewhere"), verbose=True)
    assert not {"address", "out", "max-wait", "verbose"} & set(server.to_run_config())
    assert server.federation() == FederationSettings(rounds=7)
    assert server.to_run_config() == server.federation().to_run_config()
    assert FederationSettings.from_run_config(server.to_run_config()) == FederationSettings(rounds=7)


def test_a_key_that_is_missing_takes_its_default() -> None:
    assert FederationSettings.from_run_config({}) == FederationSettings()
    assert FederationSettings.from_run_config({"rounds": 3}) == FederationSettings(rounds=3)


@pytest.mark.parametrize("key", ["rouns", "local_epochs", "address", ""])
def test_an_unknown_key_is_refused_with_the_known_ones(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings.from_run_config({"rounds": 3, key: 1})
    line = str(caught.value)
    assert line.startswith(f"run config: unknown key {key}; known are hospitals, rounds, strategy, ")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("rounds", "20", "int"),
        ("rounds", 20.0, "int"),
        ("rounds", True, "int"),
        ("rounds", None, "int"),
        ("learning-rate", "0.1", "float"),
        ("learning-rate", True, "float"),
        ("missing-indicators", 1, "bool"),
        ("missing-indicators", "true", "bool"),
        ("model", 1, "str"),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings.from_run_config({key: value})
    assert str(caught.value) == f"--{key} is {value!r}; give a value of type {expected}"


def test_a_whole_number_is_accepted_for_a_fraction() -> None:
    made = FederationSettings.from_run_config({"learning-rate": 1, "round-timeout": 60})
    assert (made.learning_rate, made.round_timeout) == (1.0, 60.0)
    assert type(made.learning_rate) is float


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("model", "mlp, logistic"),
        ("strategy", ", ".join(StrategyName.__args__)),
        ("scaling", "federated, reference, local"),
        ("calibrate", "none, temperature"),
        ("threshold", "half, youden"),
        ("personalise", "none, intercept, finetune"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(key: str, choices: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings.from_run_config({key: "magic"})
    assert str(caught.value) == f"--{key} is magic; give one of {choices}"


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({}, 0.15),
        ({"strategy": "scaffold"}, 0.15),
        ({"strategy": "fedadagrad"}, 0.05),
        ({"strategy": "fedadagrad", "learning_rate": 0.3}, 0.3),
    ],
)
def test_the_usual_learning_rate_depends_on_the_strategy_and_a_given_one_does_not(
    values: dict[str, Any], rate: float
) -> None:
    assert FederationSettings(**values).local_learning_rate == pytest.approx(rate)


def test_a_value_out_of_its_range_is_refused_in_a_run_config_too() -> None:
    with pytest.raises(UsageError, match="--rounds is 0; give 1 or more"):
        FederationSettings.from_run_config({"rounds": 0})


# --- the help ---------------------------------------------------------------------------------------------------------


def undocumented_fields(tree: ast.Module) -> list[str]:
    """Fields of classes that no docstring follows: `--help` would say nothing about them."""
    return [
        f"{record.name}.{ast.unparse(statement.target)}"
        for record in tree.body
        if isinstance(record, ast.ClassDef)
        for statement, following in zip(record.body, [*record.body[1:], None], strict=True)
        if isinstance(statement, ast.AnnAssign)
        and not (
            isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
            and following.value.value.strip()
        )
    ]


def test_every_setting_has_a_docstring_for_the_help() -> None:
    assert undocumented_fields(ast.parse("class Settings:\n    rounds: int = 1\n    seed: int = 0\n    'Seed.'")) == [
        "Settings.rounds"
    ]
    for file in Path(config.__file__).parent.glob("*.py"):
        assert undocumented_fields(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_settings_cannot_be_changed_once_checked() -> None:
    for made in (ServerSettings(), ClientSettings(**CSV), DatasetSettings()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.verbose = True  # type: ignore[union-attr, misc]  # that is the point


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"model": "mlp"},
            "--model mlp and --strategy newton exclude each other: its loss is not convex; leave one out",
        ),
        (
            {"dp_epsilon": 3.0},
            "--dp-epsilon and --strategy newton exclude each other: the Hessian is sent without noise",
        ),
        ({"dp_noise": 3.0}, "--dp-noise and --strategy newton exclude each other"),
        ({"scaling": "local"}, "--scaling local and --strategy newton exclude each other"),
        ({"fraction": 0.5}, "--fraction 0.5 and --strategy newton exclude each other"),
        ({"max_update_norm": 2.0}, "--max-update-norm 2 and --strategy newton exclude each other"),
        ({"patience": 3}, "--patience 3 and --strategy newton exclude each other"),
        ({"evaluate_every": 0}, "--evaluate-every 0 and --strategy newton exclude each other"),
    ],
)
def test_newton_refuses_what_it_cannot_do_with_the_reason(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        FederationSettings(strategy="newton", **values)
    assert str(caught.value).startswith(line)
