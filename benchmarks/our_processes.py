"""Our side of `round_latency`: the server's process, a hospital that only replies, and training without a network.

The hospitals that train are `client.py` itself. Also the data of all contestants: four synthetic hospitals.
"""

import time
import zlib
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedhealth.common.errors import RunError
from fedhealth.config.federation import FederationSettings
from fedhealth.data import preprocessing
from fedhealth.data.schema_file import heart_disease
from fedhealth.metrics.histogram import score_histogram
from fedhealth.transport.protocol.evaluation import (
    EvaluateReply,
    Histogram,
    decode_evaluate_request,
    encode_evaluate_reply,
)
from fedhealth.transport.protocol.fields import action
from fedhealth.transport.protocol.setup import DESCRIBE, Description, encode_description
from fedhealth.transport.protocol.training import TrainReply, add_evaluation, decode_train_request, encode_train_reply

if TYPE_CHECKING:
    from fedhealth.server.events import Event

LONGEST_WAIT = 60.0
"""Seconds that a hospital looks for its server, and the server for its hospitals."""


def make_hospitals(folder: Path) -> list[Path]:
    """Write a CSV for each of the four synthetic hospitals, and its model input (.npz)."""
    from fedhealth.data.dataset_writer import client_file, csv_bytes
    from fedhealth.data.hospital import load_hospital
    from fedhealth.data.patients import split_patients
    from fedhealth.data.sources.heart import HEART, HOSPITAL
    from fedhealth.data.sources.synthetic import sample_patients

    settings, files, splits = FederationSettings(), [], []
    for client, (_, rows) in enumerate(sample_patients(920, 0).groupby(HOSPITAL, sort=False), start=1):
        files.append(folder / client_file(client))
        files[-1].write_bytes(csv_bytes(HEART, rows))
        splits.append(split_patients(load_hospital(files[-1]).patients, settings.test_share, settings.seed))
    # Over all training rows, because the federation's two passes over sums give the same numbers.
    everybody = np.concatenate([train.features for train, _ in splits])
    standardisation = preprocessing.local_standardisation(HEART, everybody)
    for file, split in zip(files, splits, strict=True):
        examples: dict[str, Any] = {}
        for part, patients in zip(("train", "test"), split, strict=True):
            encoded = preprocessing.encode(HEART, patients.features, settings.missing_indicators)
            examples[f"{part}_inputs"] = preprocessing.standardise(encoded, standardisation)
            examples[f"{part}_labels"] = patients.labels
        np.savez(file.with_suffix(".npz"), **examples)
    return files


def issue_for(files: Sequence[Path], folder: Path) -> Path:
    """A folder with the certificates of the server and of the hospital of each file."""
    from fedhealth.transport.tls.authority import issue_certificates

    out = folder / "certs"
    issue_certificates(out, [file.stem for file in files], ["127.0.0.1"], days=9, ca_days=99, force=False)
    return out


def serve(
    orders: Connection,
    address: str,
    num_hospitals: int,
    certificates: Path | None = None,
    secure_rounds: int = 0,
) -> None:
    """For each number of rounds received on `orders`, run that many rounds and send back the times when they ended.

    With `secure_rounds`, secure aggregation is on, and every number of rounds on `orders` must be that: the hospitals check
    that all of them have the same settings as the server.
    """
    from fedhealth.server.app import make_server_app
    from fedhealth.server.records import RoundRecord
    from fedhealth.transport.grpc.grid import GrpcGrid
    from fedhealth.transport.tls.identity import load_identity

    settings = FederationSettings(
        hospitals=num_hospitals, rounds=secure_rounds or 30, secure_aggregation=secure_rounds > 0
    )
    tls = load_identity(certificates / "server") if certificates else None
    grid = GrpcGrid(settings.to_run_config(), num_hospitals, lambda what, who: None, tls)
    ends: list[float] = []

    def note(event: "Event") -> None:
        if isinstance(event, RoundRecord):
            if event.left_out:
                raise RunError(f"round {event.round_num}: {event.left_out}")
            ends.append(time.perf_counter())

    with grid.listening(address):
        while rounds := orders.recv():
            ends.clear()
            grid.context.run_config["rounds"] = rounds
            make_server_app(note, max_wait=LONGEST_WAIT)(grid, grid.context)
            orders.send(ends)


def run_client(address: str, file: Path, certificates: Path | None = None) -> None:
    """A hospital that trains: the script itself. Each has its own receipts folder, since here a hospital joins twice."""
    import client

    tls = ["--tls", str(certificates / file.stem)] if certificates else []
    receipts = file.parent / f"receipts-{'tls' if tls else 'plain'}"
    client.main([str(file), "--server", address, "--max-wait", f"{LONGEST_WAIT:g}", "--receipts", str(receipts), *tls])


def run_light_client(address: str, examples: Path, certificates: Path | None = None) -> None:
    """A hospital that does not train, until the server ends the run."""
    from fedhealth.transport.grpc.client import join
    from fedhealth.transport.grpc.retry import Attempt, keep_trying
    from fedhealth.transport.tls.identity import load_identity

    app = light_app(examples)
    tls = load_identity(certificates / examples.stem) if certificates else None

    def take_part(attempt: Attempt) -> None:
        with join(address, examples.stem, {}, tls=tls, attempt=attempt) as connection:
            connection.serve(app, on_reply=lambda message, reply: None, on_failure=lambda error: None)

    keep_trying(take_part, address, max_wait=LONGEST_WAIT, on_pause=lambda *args: None)


def light_app(examples: Path) -> ClientApp:
    """Replies with records of the real names and sizes, created for every message; nothing is computed."""
    from benchmarks.light_hospitals import contents, default_weights

    data = dict(np.load(examples))
    num_train = len(data["train_labels"])
    histogram = score_histogram(np.linspace(0, 1, len(data["test_labels"])), data["test_labels"])
    answers = contents(default_weights()) | {DESCRIBE: describe(examples.stem, data)}
    app = ClientApp()

    def tested() -> EvaluateReply:
        return EvaluateReply(Histogram(histogram.num_examples, **vars(histogram)))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        request = decode_train_request(message.content)
        content = encode_train_reply(TrainReply(request.weights, num_train, 0.5))
        return Message(add_evaluation(content, tested()) if request.evaluates else content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        decode_evaluate_request(message.content)
        return Message(encode_evaluate_reply(tested()), reply_to=message)

    def answer(message: Message, context: Context) -> Message:
        return Message(answers[message.metadata.message_type], reply_to=message)

    for message_type in answers:
        if message_type.startswith("query."):
            app.query(action(message_type))(answer)
    return app


def describe(name: str, data: dict[str, Any]) -> RecordDict:
    """The hospital's description."""
    train, test = data["train_labels"], data["test_labels"]
    return encode_description(
        Description(name, "synthetic", heart_disease().fingerprint, len(train), len(test), int(test.sum()))
    )


def train_alone(orders: Connection, files: list[Path]) -> None:
    """The computation of all hospitals in a round, one after the other, without messages: rounds in, end times out."""
    from fedhealth.models.local_training import Examples, shuffled_orders
    from fedhealth.models.training import Trainer

    hospitals = [dict(np.load(file)) for file in files]
    settings = FederationSettings()
    num_inputs = hospitals[0]["train_inputs"].shape[1]
    trainer = Trainer(settings.model, num_inputs, settings.local_learning_rate, settings.batch_size, settings.seed)
    weights = trainer.initial_weights()
    round_num = 0
    while rounds := orders.recv():
        ends = []
        for _ in range(rounds):
            round_num += 1
            for file, data in zip(files, hospitals, strict=True):
                examples = Examples(data["train_inputs"], data["train_labels"])
                seed = [settings.seed, round_num, zlib.crc32(file.stem.encode())]
                shuffled = shuffled_orders(len(examples.labels), settings.local_epochs, seed)
                weights, _loss = trainer.train(weights, examples, shuffled)
                trainer.predict(weights, data["test_inputs"])
            ends.append(time.perf_counter())
        orders.send(ends)
