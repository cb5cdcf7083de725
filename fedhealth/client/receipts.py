"""Receipts: a line for everything that leaves a hospital, written before it leaves, so that nobody has to take our word.

One JSON object per line in `<hospital>.jsonl`. Each line holds the SHA-256 of the line before it (without its line break;
the first refers to 64 zeros), so that a line which is changed, removed or moved later breaks the chain. What the chain alone
cannot show: its end cut off, or all of it written anew; for that, note its last hash elsewhere.

Each line goes to the operating system at once (flush, no fsync): it outlives this program, whatever kills it, but a power
failure may cost the last lines.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fedhealth.common.atomic_files import locked
from fedhealth.common.errors import RunError, UsageError

if TYPE_CHECKING:
    from flwr.app import Context, Message

App = TypeVar("App", bound=Callable[..., Any])

NOTHING_BEFORE = "0" * 64
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes; what is longer is no receipt."""
BLOCK = 64 * 1024


class Receipts:
    """One hospital's chain, open for writing by this process alone.

    Attributes
    ----------
    path : the file.
    last_hash : what the next line will refer to.
    """

    def __init__(self, path: Path, file: io.FileIO, echo: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.last_hash = NOTHING_BEFORE
        self._file = file
        self._echo = echo
        self._number, self._run, self._round = 0, 1, 0
        self._just_told: dict[str, str] = {}
        self._take_up()

    def hearing(self, app: App) -> App:
        """The same app, overheard: a question tells which round its answer belongs to, the answer does not."""
        from fedhealth.transport.protocol.fields import find_round

        def answer(question: "Message", context: "Context") -> "Message":
            self._round = find_round(question.content) if question.has_content() else 0
            reply: Message = app(question, context)
            return reply

        return cast(App, answer)

    def write_join(self, metadata: Mapping[str, str | bytes]) -> None:
        """What the join tells the server of this hospital; attempts in a row that say the same have one line."""
        told = {key: value if isinstance(value, str) else value.decode() for key, value in metadata.items()}
        if told == self._just_told:
            return
        self._write("join", bytes=sum(len(key) + len(value) for key, value in metadata.items()), told=told)
        self._just_told = told

    def write_message(self, message: "Message", payload: bytes) -> None:
        """What is about to leave: `payload` is the message as it goes to the network."""
        self._write(
            message.metadata.message_type,
            **({"round": self._round} if self._round else {}),
            bytes=len(payload),
            sha256=hashlib.sha256(payload).hexdigest(),
            **describe_message(message),
        )

    def _write(self, kind: str, **facts: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        head = {"number": self._number + 1, "run": self._run, "time": now, "kind": kind}
        line = encode_line({**head, **facts, "previous": self.last_hash})
        self._append(line + b"\n")
        self._number += 1
        self.last_hash = hashlib.sha256(line).hexdigest()
        self._just_told = {}
        if self._echo:
            self._echo(line.decode())

    def _append(self, content: bytes) -> None:
        """Write all of it or nothing."""
        end = self._file.tell()
        try:
            done = 0
            while done < len(content):
                done += self._file.write(content[done:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._file.seek(end))
            raise RunError(
                f"{self.path}: a receipt cannot be written ({error.strerror}), and nothing leaves without one; "
                "make room there, or give another folder with --receipts"
            ) from None

    def _take_up(self) -> None:
        """Go on after the last line. One that was cut short by a power failure is kept inside a line of its own."""
        line, rest = read_end(self._file)
        if line is None and not rest.startswith(b'{"number":'[: len(rest)]):
            raise _NotOursError(self.path)
        if line is not None:
            receipt = decode_line(line)
            if receipt is None:
                raise _NotOursError(self.path)
            self._number, self._run = receipt["number"], receipt["run"] + 1
            self.last_hash = hashlib.sha256(line).hexdigest()
        self._file.seek(-len(rest), os.SEEK_END)
        if rest:
            # Longer than what it replaces, and written in one piece: there is no moment at which anything is lost.
            self._write("repair", cut=rest.decode("utf-8", "backslashreplace"))


class _NotOursError(UsageError):
    """A file that stands where the receipts should."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: does not end in a receipt; move it away or give another folder with --receipts")


@contextmanager
def opened_receipts(folder: Path, hospital: str, echo: Callable[[str], None] | None = None) -> Iterator[Receipts]:
    """The hospital's chain in `folder`, taken up where it ended, locked until the block ends; `echo` hears each line.

    Raises
    ------
    UsageError
        The file cannot be opened, is no chain of receipts, or another process writes it.
    """
    path = folder / file_name(hospital)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"{path}: receipts cannot be kept there ({error.strerror}); give another folder with --receipts"
        ) from None
    with io.FileIO(handle, "r+") as file, contextlib.ExitStack() as stack:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UsageError(f"{path}: is no regular file; give another folder with --receipts")
        try:
            stack.enter_context(locked(path, wait=False))
        except BlockingIOError:
            raise UsageError(
                f"{path}: another client is writing it; is this hospital running already? "
                "If not, give --receipts a folder"
            ) from None
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be locked ({error.strerror}); give --receipts a folder on a local disk"
            ) from None
        yield Receipts(path, file, echo)


def file_name(hospital: str) -> str:
    """A file name for any name; different names have different files. A plain name is kept, others carry a hash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", hospital).strip("._-")[:60]
    if plain != hospital:
        plain = f"{plain}~{hashlib.sha256(hospital.encode()).hexdigest()[:16]}"
    return f"{plain}.jsonl"


def describe_message(message: "Message") -> dict[str, Any]:
    """Arrays by name, shape and type; all other records, and an error, in full."""
    if message.has_error():
        return {"error": {"code": message.error.code, "reason": message.error.reason}}
    content, described = message.content, dict[str, Any]()
    for key, arrays in content.array_records.items():
        described.setdefault("arrays", {})[key] = {
            name: {"shape": list(array.shape), "dtype": array.dtype} for name, array in arrays.items()
        }
    for key, metrics in content.metric_records.items():
        described.setdefault("statistics", {})[key] = dict(metrics)
    for key, config in content.config_records.items():
        described.setdefault("config", {})[key] = dict(config)
    return described


def encode_line(receipt: Mapping[str, Any]) -> bytes:
    """A receipt as the bytes of its line, without the line break."""
    return json.dumps(receipt, separators=(",", ":"), default=bytes.hex).encode()


def decode_line(line: bytes) -> dict[str, Any] | None:
    """A line back to its receipt; None if it is none."""
    try:
        receipt = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = {"number": int, "run": int, "time": str, "kind": str, "previous": str}
    sound = isinstance(receipt, dict) and all(type(receipt.get(key)) is kind for key, kind in kinds.items())
    return receipt if sound else None


def read_end(file: io.FileIO) -> tuple[bytes | None, bytes]:
    """The last whole line (None if there is none) and what stands after it; reads no more than it must."""
    end = file.seek(0, os.SEEK_END)
    size = min(end, BLOCK)
    while True:
        file.seek(end - size)
        *lines, rest = (file.read(size) or b"").split(b"\n")
        if len(lines) > 1 or size == end or size > LONGEST_LINE:
            return (lines[-1] if lines else None), rest
        size = min(end, 2 * size)
