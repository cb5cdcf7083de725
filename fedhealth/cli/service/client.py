"""`client.py --service FILE`: a hospital that takes part in one run after the other, as its policy allows.

It asks the server what is on before it joins, so that a run which it does not join is not disturbed. Whatever the server
does, also nothing for days, this client stays.
"""

import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fedhealth.cli.client_session import ClientSession
from fedhealth.cli.terminal import say
from fedhealth.client.receipts import Receipts
from fedhealth.client.run_policy import NotNowError, require_able, require_allowed, require_split, run_name
from fedhealth.client.split_memory import SplitMemory
from fedhealth.common.errors import FedHealthError, RunError
from fedhealth.config.scripts import ClientSettings
from fedhealth.config.service import ServicePolicy, read_policy
from fedhealth.data.schema_file import load_schema
from fedhealth.transport.grpc.client import join_metadata
from fedhealth.transport.grpc.declining import decline_metadata
from fedhealth.transport.grpc.preflight import check_server
from fedhealth.transport.grpc.retry import FIRST_PAUSE, LONGEST_PAUSE, WELCOME_SECONDS, Attempt, ServerLostError
from fedhealth.transport.tls.identity import load_identity


def serve_file(settings: ClientSettings, file: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take part in the runs that the policy in `file` allows, until the process is stopped.

    Raises
    ------
    UsageError
        The policy, the hospital's file or certificate, or the folder of receipts cannot be used.
    """
    schema = load_schema(settings.schema)
    policy = read_policy(file, schema.fingerprint)  # before the session, which prints who takes part
    session = ClientSession.prepare(settings)
    splits = SplitMemory(policy.splits, settings.file)
    with session.opened_receipts() as receipts:
        say(f"service: takes part in the runs at {settings.server} that {file} allows")
        client = ServiceClient(session, policy, splits, receipts)
        pause = FIRST_PAUSE
        while True:
            before = client.decline
            is_soon = client.visit() or client.decline != before  # the server waits for what this hospital declines
            pause = FIRST_PAUSE if is_soon else min(2 * pause, LONGEST_PAUSE)
            sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, no secret


class ServiceClient:
    """One hospital, over many runs.

    Parameters
    ----------
    clock : the time of the day, against which the policy's hours are held.

    Attributes
    ----------
    decline : what the next look declines, as metadata; empty if nothing.
    """

    def __init__(
        self,
        session: ClientSession,
        policy: ServicePolicy,
        splits: SplitMemory,
        receipts: Receipts,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.session = session
        self.policy = policy
        self.splits = splits
        self.receipts = receipts
        self._clock = clock
        self._begun = ""
        self.decline: Mapping[str, str | bytes] = {}
        self._said = ""
        session.approve = self.approve

    def visit(self) -> bool:
        """Ask the server what is on, and take part until that run ends or the link breaks; whether this hospital joined.

        Prints why it did not take part, once for each reason.
        """
        attempt = Attempt(WELCOME_SECONDS)
        try:
            self.look()
            self.session.take_part(self.receipts, attempt)
        except ServerLostError as error:
            self._say_once(f"lost {self.session.settings.server} ({error}); this client goes on trying")
        except FedHealthError as error:
            self._say_once(str(error))
        else:
            self._said = ""
            say(f"receipts of everything that was sent: {self.receipts.path} (last hash {self.receipts.last_hash})")
        return attempt.joined

    def look(self) -> None:
        """Ask without joining; the next look declines a run in which this hospital does not take part.

        Raises
        ------
        RunError
            No run is on, this hospital does not take part in it, or the server would not let it in.
        ServerLostError, UsageError
            There is no server, or none that can be trusted; it may be another one at the next look.
        """
        settings, hospital = self.session.settings, self.session.hospital.hospital
        name, schema = hospital.name, hospital.schema
        if settings.tls:  # renewed certificates count from the next look on
            self.session.identity = load_identity(settings.tls)
        self.receipts.write_join({**join_metadata(name, schema), **self.decline})
        identity, proxy = self.session.identity, settings.proxy
        try:
            check = check_server(settings.server, name, identity, proxy=proxy, schema=schema, decline=self.decline)
        except ServerLostError as error:
            raise RunError(f"no connection to {settings.server} ({error}); this client goes on trying") from None
        self.decline = {}
        if not check.run_config:
            raise RunError(f"no run is on at {settings.server}; waiting for the next one")
        self.require(check.run_config)
        if check.refusal:
            raise RunError(f"run {run_name(check.run_config)}: the server would refuse ({check.refusal})")

    def approve(self, run_config: Mapping[str, Any]) -> None:
        """Check the run again that was joined, for it may be the next one; from now on its split counts."""
        self.require(run_config)
        self.splits.remember(run_config)
        name = run_name(run_config)
        if name != self._begun:
            self.receipts.begin_run()
        self._begun = self.session.run_name = name
        self._said = ""
        say(f"run {name}: takes part")

    def require(self, run_config: Mapping[str, Any]) -> None:
        """Check whether this hospital takes part; a `RunError` with the run's name and the reason if not."""
        name = run_name(run_config)
        now = None if name == self._begun else self._clock().time()
        try:
            require_allowed(self.policy, run_config, now)
            require_split(self.splits, run_config)
            require_able(self.session.hospital, run_config)
        except RunError as error:
            if not isinstance(error, NotNowError):
                self.decline = decline_metadata(run_config, str(error))
            raise RunError(f"run {name}: does not take part: {error}") from None

    def _say_once(self, reason: str) -> None:
        if reason != self._said:
            say(reason)
        self._said = reason
