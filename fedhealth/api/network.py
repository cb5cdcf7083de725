"""Server and client over the network, from Python: what server.py and client.py do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedhealth.api.settings import check_settings
from fedhealth.common.errors import UsageError
from fedhealth.common.runtime_env import quiet_libraries
from fedhealth.config.scripts import ClientSettings, ServerSettings

if TYPE_CHECKING:
    from fedhealth.api.run import Round, Run
    from fedhealth.server.events import OnEvent


class Server:
    """The coordinator of a federation.

    `settings` are the flags of server.py, such as `address="0.0.0.0:8443"` and `tls="certs/server"`; a wrong one is a
    `UsageError`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = ServerSettings(**check_settings(ServerSettings, settings))
        _refuse_service(self.settings.service, "server.py")

    def run(self, on_round: "Callable[[Round], object] | None" = None) -> "Run":
        """Wait for the hospitals, train with them, write the run folder and its report.

        Raises
        ------
        UsageError
            A file or folder of the settings cannot be used.
        RunError
            Hospitals are missing, or too few are left.
        """
        settings = self.settings
        quiet_libraries(settings.verbose)
        from fedhealth.api.run import RoundCollector, Run
        from fedhealth.cli.terminal import escape_unencodable, say, use_line_format, warn
        from fedhealth.reporting.html.pages import write_report
        from fedhealth.reporting.screens import opened_screens
        from fedhealth.server.app import make_server_app
        from fedhealth.server.run_directory import opened_run
        from fedhealth.server.run_writer import FolderWriter
        from fedhealth.transport.grpc.grid import GrpcGrid
        from fedhealth.transport.tls.identity import load_identity

        escape_unencodable()
        use_line_format(settings)
        tls = load_identity(settings.tls) if settings.tls else None
        for warning in tls.warnings if tls else ():
            warn(warning)
        collector = RoundCollector(on_round)
        with opened_run(settings, warn) as opened, opened_screens(settings, opened.folder, say, warn) as screens:
            federation, past = opened.settings, opened.past
            config, number = federation.to_run_config(), federation.hospitals
            grid = GrpcGrid(config, number, screens.show_link, tls, settings.allow, schema=opened.schema)
            if past:
                grid.admit_only(past.remaining)
            link = "TLS" if tls else "plain text"
            writer = FolderWriter(opened.folder, settings.keep, settings.max_wait, warn, link)
            listeners: list[OnEvent] = [*screens.listeners, collector]
            app = make_server_app(
                *listeners,
                writer=writer,
                admission=grid,
                max_wait=settings.max_wait,
                past=past,
                schema=opened.schema,
            )
            with grid.listening(settings.address) as opened.address:
                say(f"listening on {opened.address}{' with TLS' if tls else ''}")
                app(grid, grid.context)
        write_report(opened.folder)
        return Run(collector.started, collector.finished, folder=opened.folder)


class Client:
    """One hospital's part in a federation.

    `file` is its CSV; `settings` are the flags of client.py, such as `server="fed.example.org:8443"`. A wrong one is a
    `UsageError`.
    """

    def __init__(self, file: str | Path, **settings: Any) -> None:
        self.settings = ClientSettings(**check_settings(ClientSettings, {"file": file, **settings}))
        _refuse_service(self.settings.service, "client.py")

    def run(self) -> None:
        """Check the file, join the server, and take part until the run ends.

        Raises
        ------
        UsageError, DataError
            The file or a certificate cannot be used.
        RunError
            The server cannot be reached, or the run failed.
        """
        quiet_libraries(self.settings.verbose)
        from fedhealth.cli.client_session import ClientSession
        from fedhealth.cli.terminal import escape_unencodable, use_line_format

        escape_unencodable()
        use_line_format(self.settings)
        ClientSession.prepare(self.settings).run()


def _refuse_service(file: Path | None, script: str) -> None:
    if file is not None:
        raise UsageError(f"service={file}: a service is started with python {script} --service {file}")
