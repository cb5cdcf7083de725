"""One session of client.py: a hospital joins a federation, replies to the server, and saves the final model."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context, Message

from fedhealth.cli.terminal import say, warn
from fedhealth.client.app import make_client_app
from fedhealth.client.dp_session import DpSession
from fedhealth.client.hospital_data import HospitalData
from fedhealth.client.limits import HospitalLimits
from fedhealth.client.masking_party import MaskingParty, read_pins
from fedhealth.client.masking_state import MaskingState, masking_path
from fedhealth.client.personalization import FinalModel, Model
from fedhealth.client.privacy.ledger import reset_ledger
from fedhealth.client.receipts import Receipts, opened_receipts
from fedhealth.client.split_memory import SplitMemory
from fedhealth.client.trainers import Trainers
from fedhealth.common.addresses import is_loopback
from fedhealth.common.errors import FedHealthError, RunError, UsageError
from fedhealth.common.reminders import Reminder
from fedhealth.common.runtime_env import silenced_stderr
from fedhealth.config.scripts import ClientSettings
from fedhealth.data.readers.read_any import load_options
from fedhealth.data.schema_file import load_schema
from fedhealth.reporting.console.hospital import client_line, outcome_lines
from fedhealth.transport.grpc.client import join
from fedhealth.transport.grpc.retry import Attempt, keep_trying
from fedhealth.transport.protocol.feasibility import FEASIBILITY
from fedhealth.transport.protocol.fields import find_round
from fedhealth.transport.protocol.finalization import FINISH
from fedhealth.transport.protocol.training import TRAIN
from fedhealth.transport.tls.identity import Identity, load_identity


class ClientSession:
    """The participation of one hospital.

    Attributes
    ----------
    hospital : the hospital's patients, limits, ledger and trainers.
    identity : the hospital's certificate; None without TLS.
    approve : called with the run config after each join, before any reply; an error that it raises ends the connection.
    run_name : the name of a service's run, which is added to the names of the saved models.
    """

    def __init__(self, settings: ClientSettings, hospital: HospitalData, identity: Identity | None = None) -> None:
        self.settings = settings
        self.hospital = hospital
        self.identity = identity
        self.run_name = ""
        self.approve: Callable[[Mapping[str, Any]], None] = self.require_same_split
        self._splits = SplitMemory()
        self._context: Context | None = None
        self._is_done = False
        self._reminder = Reminder()

    @classmethod
    def prepare(cls, settings: ClientSettings) -> "ClientSession":
        """Read and check certificate and file; raises a `UsageError` or `DataError` if one is wrong. Needs no server."""
        identity = load_identity(settings.tls) if settings.tls else None
        name = identity.name if identity else settings.name
        if settings.name not in (None, name):
            raise UsageError(
                f"--name is {settings.name}, but {settings.tls} has the certificate of {name}; leave --name out"
            )
        if settings.reset_budget and (aside := reset_ledger(settings.file)):
            warn(f"the privacy loss of earlier runs no longer counts (--reset-budget); their ledger is now {aside}")
        limits = HospitalLimits(
            settings.min_count, settings.max_epsilon, settings.share_verdict, settings.secure_aggregation
        )
        masking = MaskingParty(
            MaskingState(masking_path(settings.file)),
            identity,
            is_local=identity is None and is_loopback(settings.server),
            pins=read_pins(settings.pin) if settings.pin else None,
            accepted=frozenset(settings.accept_roster),
        )
        schema = load_schema(settings.schema)
        options = load_options(schema, settings.sheet, settings.decimal, settings.mapping)
        hospital = HospitalData.from_csv(
            settings.file, Trainers(), name, limits, schema=schema, options=options, masking=masking
        )
        session = cls(settings, hospital, identity)
        session.introduce()
        return session

    def introduce(self) -> None:
        """Print the hospital's name, its number of patients, and warnings about file and certificate."""
        hospital, file, shown = self.hospital.hospital, self.settings.file, ""
        if self.identity and hospital.name != hospital.name_in_file:
            shown = f" (the name in its certificate; the file says {hospital.name_in_file})"
        patients = len(hospital.patients)
        say(f"{hospital.name}{shown}: {patients} patients in {file}; no row leaves this computer")
        for warning in (*hospital.warnings, *(self.identity.warnings if self.identity else ())):
            warn(warning)

    def run(self) -> None:
        """Join the server, rejoin it after a lost connection, and reply to it until it ends the run.

        Raises
        ------
        RunError
            The server cannot be reached, the run failed, or it ended without this hospital.
        """
        settings = self.settings
        with self.opened_receipts() as receipts:
            keep_trying(partial(self.take_part, receipts), settings.server, settings.max_wait, self.say_pause)
            say(f"receipts of everything that was sent: {receipts.path} (last hash {receipts.last_hash})")
        self.require_final()

    def opened_receipts(self) -> AbstractContextManager[Receipts]:
        """Open the receipts of this hospital; with --verbose they are printed as well."""
        folder = self.settings.receipts or self.settings.file.parent / "receipts"
        echo = say if self.settings.verbose else None
        return opened_receipts(folder, self.hospital.hospital.name, echo=echo)

    def take_part(self, receipts: Receipts, attempt: Attempt) -> None:
        """Join, then load TensorFlow while other hospitals join, then reply to the server's messages."""
        server, name = self.settings.server, self.hospital.hospital.name
        self.hospital.masking.identity = self.identity  # a service renews it
        link = partial(join, tls=self.identity, schema=self.hospital.hospital.schema, proxy=self.settings.proxy)
        joining = partial(link, attempt=attempt, on_join=receipts.write_join)
        with joining(server, name, {}, previous=self._context) as connection:
            self._context = connection.context
            run_config = connection.context.run_config
            self.approve(run_config)
            self.warn_of_unused_flags(run_config)
            trains = not run_config.get("feasibility")
            say(f"joined the federation at {server} as {name}{'; loading TensorFlow' if trains else ''}")
            if trains:
                with silenced_stderr():
                    self.hospital.trainers.load()
            app = receipts.note_rounds(make_client_app(self.hospital))
            show = partial(self.show_reply, run_config)
            write = partial(receipts.write_message, clear=self.hospital.masking.in_the_clear)
            connection.serve(app, show, on_failure=self.warn_of_failure, on_send=write)

    def require_final(self) -> None:
        """Raise a `RunError` if the final model was not received: this computer may have been suspended at the end."""
        if self._is_done:
            return
        flags = [
            f"--{flag}" for flag in ("save-model", "save-personal") if getattr(self.settings, flag.replace("-", "_"))
        ]
        unsaved = f", so nothing was saved ({', '.join(flags)})" if flags else ""
        raise RunError(
            f"the run ended while this hospital was absent: it has no final model{unsaved}; ask the coordinator for it"
        )

    def require_same_split(self, run_config: Mapping[str, Any]) -> None:
        """Raise a `RunError` for a second split in one session: the difference of two sums could reveal a patient."""
        if not self._splits.allows(run_config):
            raise RunError(
                "the server asks for another split of the patients (--seed, --test-share, --validation) than before; "
                "if this is intended, start this client again"
            )
        self._splits.remember(run_config)

    def warn_of_unused_flags(self, run_config: Mapping[str, Any]) -> None:
        """Print the flags that have no effect with this server's settings."""
        if self.settings.save_personal and run_config.get("personalise") == "none":
            warn("--save-personal has no effect: the server's settings have no personal models (--personalise none)")
        if self.settings.share_verdict and (run_config.get("dp-epsilon") or run_config.get("dp-noise")):
            warn("--share-verdict has no effect: comparisons are not sent under differential privacy (--dp-epsilon)")
        elif self.settings.share_verdict and run_config.get("secure-aggregation"):
            warn("--share-verdict has no effect: comparisons are not sent under secure aggregation")

    def say_pause(self, attempts: int, pause: float, left: float, reason: str) -> None:
        """Print why this client waits before it tries to join again: the first time, then more and more rarely."""
        if attempts == 1:
            self._reminder = Reminder()
        if not self._reminder.is_due(reason):
            return
        say(
            f"no connection to {self.settings.server} (attempt {attempts}); trying again in {pause:.1f} s, "
            f"timeout in {left:.0f} s ({reason})"
        )

    def warn_of_failure(self, error: Exception) -> None:
        """Print why there was no reply to a message; the server does not receive this text."""
        warn(str(error) if isinstance(error, FedHealthError) else f"{type(error).__name__}: {error}")

    def show_reply(self, run_config: Mapping[str, Any], message: Message, reply: Message) -> None:
        """Print a line about a reply and the privacy loss so far; after the last message, finish."""
        if line := client_line(self.hospital.hospital.schema, message, self.hospital.masking.in_the_clear(reply)):
            say(line)
        if problem := self.hospital.masking.problem:
            warn(problem)
        kind = message.metadata.message_type
        if kind == TRAIN and not reply.has_error():
            session = self.hospital.participation(run_config).dp_session
            if session:
                say(privacy_line(find_round(message.content), session))
        if kind == FEASIBILITY and not reply.has_error():
            self._is_done = True
        if kind == FINISH and (final := self.hospital.participation(run_config).final):
            self.finish(final)

    def finish(self, final: FinalModel) -> None:
        """Print the comparison of the final model with a local one, and save the models that flags ask for."""
        self._is_done = True
        threshold = final.threshold
        selected = "" if threshold is None else f"; it predicts positive from a risk of {threshold:g}"
        say(f"the run is over; this hospital has the final model{selected}")
        outcome = final.outcome
        for line in outcome_lines(outcome):
            say(line)
        self.save("save-model", self.settings.save_model, outcome.models.get("global"))
        self.save("save-personal", self.settings.save_personal, outcome.models.get("personal"))

    def save(self, flag: str, path: Path | None, model: Model | None) -> None:
        """Write a model to the path of its flag, if the flag was given; in a service, to one with the run's name in it."""
        if path and self.run_name:
            path = path.with_stem(f"{path.stem}-{self.run_name}")
        if path and model:
            save_model(flag, path, model)
        elif path:
            warn(f"--{flag} {path}: there is no personal model, so nothing is saved")


def privacy_line(round_num: int, session: DpSession) -> str:
    """The epsilon of this run's guarantee, and what all runs have spent; reads the ledger without a charge."""
    limit = f", {session.max_epsilon:g} at most (--max-epsilon)" if session.max_epsilon else ""
    return (
        f"round {round_num}   privacy: this run guarantees epsilon {session.plan.epsilon:.3g}; "
        f"all runs of this file have spent {session.spent().epsilon:.3g} so far{limit}"
    )


def save_model(flag: str, path: Path, model: Model) -> None:
    """Save one model as a .keras file; a `RunError` if that fails."""
    from fedhealth.models import keras_models

    indicators = model.settings.missing_indicators
    try:
        keras_models.save_model(
            path, model.local.schema, model.weights, indicators, standardisation=model.standardisation
        )
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        which = "final" if flag == "save-model" else "personal"
        raise RunError(f"--{flag} {path}: the {which} model cannot be saved ({reason})") from None
    say(f"saved {'it' if flag == 'save-model' else 'the personal model'} to {path}; Keras 3.3 and later load it")
