"""Receipts: one line for everything that a hospital sends, written before it is sent, so that the hospital can verify it.

One JSON object per line in `<hospital>.jsonl`. Each line contains the SHA-256 of the line before it (without the line
break; 64 zeros in the first line). A later change, removal or move of a line therefore breaks the chain. The chain alone
does not show that its end was cut off or that all of it was rewritten; to detect that, note its last hash elsewhere.

Each line is passed to the operating system at once (flush, no fsync): it survives a crash of this program, but a power
failure may lose the last lines.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
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
"""Bytes; a longer line is not a receipt."""
BLOCK = 64 * 1024


class Receipts:
    """One hospital's chain of receipts, open for writing.

    Attributes
    ----------
    path : the file.
    last_hash : SHA-256 of the last line, which the next line will contain.
    """

    def __init__(self, path: Path, file: io.FileIO, echo: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.last_hash = NOTHING_BEFORE
        self._file = file
        self._echo = echo
        self._number, self._run, self._round = 0, 1, 0
        self._sent = False
        self._last_join: dict[str, str] = {}
        self._continue_chain()

    def note_rounds(self, app: App) -> App:
        """The same app; each message's round is noted for the receipt of its reply, which does not contain it."""
        from fedhealth.transport.protocol.fields import find_round

        def noting_app(message: "Message", context: "Context") -> "Message":
            self._round = find_round(message.content) if message.has_content() else 0
            reply: Message = app(message, context)
            return reply

        return cast(App, noting_app)

    def begin_run(self) -> None:
        """Start another run in the numbering of receipts, if anything was sent in this one."""
        if self._sent:
            self._run, self._sent = self._run + 1, False

    def write_join(self, metadata: Mapping[str, str | bytes]) -> None:
        """Write a receipt of the metadata sent at joining; repeated attempts with the same metadata get one line."""
        sent = {key: value if isinstance(value, str) else value.decode() for key, value in metadata.items()}
        if sent == self._last_join:
            return
        self._write("join", bytes=sum(len(key) + len(value) for key, value in metadata.items()), told=sent)
        self._last_join = sent

    def write_message(
        self, message: "Message", frames: Iterable[bytes], clear: Callable[["Message"], "Message"] | None = None
    ) -> None:
        """Write a receipt of a message that is about to be sent; joined, `frames` are its encoded form.

        Of a masked message, the numbers in the clear, which `clear` returns, are `inside`: they are not sent.
        """
        plain = clear(message) if clear else message
        inside = {"inside": describe_message(plain)} if plain is not message else {}
        self._sent = True
        size, digest = 0, hashlib.sha256()
        for frame in frames:
            size += len(frame)
            digest.update(frame)
        self._write(
            message.metadata.message_type,
            **({"round": self._round} if self._round else {}),
            bytes=size,
            sha256=digest.hexdigest(),
            **describe_message(message),
            **inside,
        )

    def _write(self, kind: str, **facts: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        head = {"number": self._number + 1, "run": self._run, "time": now, "kind": kind}
        line = encode_line({**head, **facts, "previous": self.last_hash})
        self._append(line + b"\n")
        self._number += 1
        self.last_hash = hashlib.sha256(line).hexdigest()
        self._last_join = {}
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
                f"{self.path}: a receipt cannot be written ({error.strerror}), and nothing is sent without one; "
                "free space there, or give another folder with --receipts"
            ) from None

    def _continue_chain(self) -> None:
        """Continue after the last line. A line that a power failure cut short is kept inside a new line."""
        line, rest = read_end(self._file)
        if line is None and not rest.startswith(b'{"number":'[: len(rest)]):
            raise _not_ours(self.path)
        if line is not None:
            receipt = decode_line(line)
            if receipt is None:
                raise _not_ours(self.path)
            self._number, self._run = receipt["number"], receipt["run"] + 1
            self.last_hash = hashlib.sha256(line).hexdigest()
        self._file.seek(-len(rest), os.SEEK_END)
        if rest:
            # The new line is longer than the cut one and written at once, so nothing is lost at any moment.
            self._write("repair", cut=rest.decode("utf-8", "backslashreplace"))


def _not_ours(path: Path) -> UsageError:
    """The error for a file that holds something else."""
    return UsageError(f"{path}: does not end in a receipt; move it away or give another folder with --receipts")


@contextmanager
def opened_receipts(folder: Path, hospital: str, echo: Callable[[str], None] | None = None) -> Iterator[Receipts]:
    """The hospital's chain in `folder`, continued at its end and locked while the block runs.

    Parameters
    ----------
    echo : called with each line that is written.

    Raises
    ------
    UsageError
        The file cannot be opened, is not a chain of receipts, or another process writes it.
    """
    path = folder / file_name(hospital)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"{path}: receipts cannot be written there ({error.strerror}); give another folder with --receipts"
        ) from None
    with io.FileIO(handle, "r+") as file, contextlib.ExitStack() as stack:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UsageError(f"{path}: is not a regular file; give another folder with --receipts")
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
    """The file name for a hospital's name, unique per name: a plain name is kept, any other gets a hash appended."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", hospital).strip("._-")[:60]
    if plain != hospital:
        plain = f"{plain}~{hashlib.sha256(hospital.encode()).hexdigest()[:16]}"
    return f"{plain}.jsonl"


def describe_message(message: "Message") -> dict[str, Any]:
    """A message's content for its receipt: weights and masked numbers by name, shape and type; all other records in full.

    An array of integers holds counts of patients, not weights, so it is in full.
    """
    from flwr.app import ArrayRecord, MetricRecord  # the audit of a chain does not need flwr

    from fedhealth.common.array_codec import read_array
    from fedhealth.transport.protocol.masked_vectors import MASKED

    if message.has_error():
        return {"error": {"code": message.error.code, "reason": message.error.reason}}
    content, described = message.content, dict[str, Any]()
    for key, record in content.items():  # not `content.array_records`, which makes a cycle that holds all weights
        if not isinstance(record, ArrayRecord):
            kind = "statistics" if isinstance(record, MetricRecord) else "config"
            described.setdefault(kind, {})[key] = dict(record)
            continue
        for name, array in record.items():
            if array.dtype.startswith(("int", "uint")) and key != MASKED:
                described.setdefault("statistics", {}).setdefault(key, {})[name] = read_array(array).tolist()
            else:
                facts = {"shape": list(array.shape), "dtype": array.dtype}
                described.setdefault("arrays", {}).setdefault(key, {})[name] = facts
    return described


def encode_line(receipt: Mapping[str, Any]) -> bytes:
    """A receipt as the bytes of its line, without the line break."""
    return json.dumps(receipt, separators=(",", ":"), default=bytes.hex).encode()


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The receipt of a line; None if the line is not a receipt."""
    try:
        receipt = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = {"number": int, "run": int, "time": str, "kind": str, "previous": str}
    sound = isinstance(receipt, dict) and all(type(receipt.get(key)) is kind for key, kind in kinds.items())
    return receipt if sound else None


def read_end(file: io.FileIO) -> tuple[bytes | None, bytes]:
    """The last whole line (None if there is none) and the bytes after it; reads only the end of the file."""
    end = file.seek(0, os.SEEK_END)
    size = min(end, BLOCK)
    while True:
        file.seek(end - size)
        *lines, rest = (file.read(size) or b"").split(b"\n")
        if len(lines) > 1 or size == end or size > LONGEST_LINE:
            return (lines[-1] if lines else None), rest
        size = min(end, 2 * size)
