"""Somebody's code in a process of its own: whatever it does, one line says what happened.

`run` starts another Python and names to it a task of this package, ``"module:function"``. The task
is called as ``function(request, send)``; it calls somebody's code and sends what came of it, piece
by piece, so that what was sent before a crash is there. Bytes alone pass between the processes, and
nothing that comes back is executed. What the task returns is not used.
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import IO, Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

TIMEOUT = 30.0  # seconds, the start of Python included
MEMORY = 4 << 30  # bytes of data, where the system can limit them
PRINTED = 1 << 20  # bytes on stdout and stderr together
SENT = 256 << 20  # bytes sent
WATCHED = ("numpy", "numpy.linalg", "numpy.fft", "numpy.random")

Send = Callable[[bytes], None]
_LINE = 500  # characters of a message
_HEAD = struct.Struct("<?Q")  # whether it is the last piece, and its length
_START = "import sys; sys.path[:] = {path!r}; from {module} import child; child()"


@dataclass(frozen=True)
class Outcome:
    """What came of a task.

    Parameters
    ----------
    sent : tuple of bytes
        The pieces that were sent, in order.
    happened : str
        What the code did instead of returning, as the end of a sentence ("took longer than 30 s");
        empty if it returned.
    printed : str
        What it printed, as far as the limit.
    details : str
        The traceback where it raised.
    """

    sent: tuple[bytes, ...]
    happened: str
    printed: str
    details: str = ""


def run(
    task: str,
    request: bytes,
    *,
    timeout: float = TIMEOUT,
    memory: int = MEMORY,
    printed: int = PRINTED,
    sent: int = SENT,
) -> Outcome:
    """Run a task in a process of its own, and end that and all that it started.

    Its memory is limited on Linux and other systems that can; a change of what NumPy's public names
    stand for is something that happened. The code has the rights of the user all the same.

    Parameters
    ----------
    task : str
        ``"module:function"``, importable from here.
    request : bytes
        What the function is given.
    timeout : float
        Seconds until the process is ended.
    memory, printed, sent : int
        The most bytes of data, on stdout and stderr together, and in all pieces.

    Examples
    --------
    >>> run("numpy_norms.commands.isolated:echo", b"a request").sent
    (b'a request',)
    """
    order = {"task": task, "timeout": timeout, "memory": memory, "request": request.hex()}
    start = _START.format(path=sys.path, module=__name__)
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(order).encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", start],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    try:
        pieces = _Reader(process.stdout, sent, process)
        words = _Reader(process.stderr, printed, process)
        happened = _wait(process, timeout)
    finally:
        _end(process)
    patience = time.monotonic() + 1  # for processes that left the group and hold the pipes
    for reader in (pieces, words):
        reader.join(max(0.0, patience - time.monotonic()))
    found = list(_pieces(bytes(pieces.kept)))
    details = ""
    if words.over:
        happened = f"printed more than {_size(printed)}"
    elif pieces.over:
        happened = f"returned more than {_size(sent)}"
    elif found and found[-1][0]:
        end = json.loads(found[-1][1])
        happened, details = end["happened"], end["details"]
    written = bytes(words.kept).decode(errors="replace").replace("\r\n", "\n")
    return Outcome(tuple(p for last, p in found if not last), happened, written, details)


class _Reader(threading.Thread):
    """Keeps what comes through a pipe; past the limit it ends the process."""

    def __init__(
        self, pipe: IO[bytes] | None, limit: int, process: subprocess.Popen[bytes]
    ) -> None:
        super().__init__(daemon=True)
        self.pipe, self.limit, self.process = pipe, limit, process
        self.kept = bytearray()
        self.over = False
        self.start()

    def run(self) -> None:
        assert self.pipe is not None
        with self.pipe:
            while piece := os.read(self.pipe.fileno(), 1 << 16):
                self.kept += piece[: self.limit - len(self.kept) + 1]
                if len(self.kept) > self.limit:
                    self.over = True
                    self.process.kill()
                    return


def _wait(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Wait for the end, and say in words what it was."""
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        return f"took longer than {timeout:g} s"
    if status >= 0:
        return f"ended its process with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    perhaps = {"SIGKILL": ": out of memory, perhaps", "SIGSEGV": ": a crash"}.get(name, "")
    return f"was ended by {name}{perhaps}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and, where there are process groups, all that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _pieces(stream: bytes) -> Iterator[tuple[bool, bytes]]:
    """Take apart what `child` wrote, as far as it is whole."""
    at = 0
    while at + _HEAD.size <= len(stream):
        last, length = _HEAD.unpack_from(stream, at)
        at += _HEAD.size
        if at + length > len(stream):
            return
        yield last, stream[at : at + length]
        at += length


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def echo(request: bytes, send: Send) -> None:
    """Send the request back: the smallest task."""
    send(request)


def child() -> None:
    """Do the task that is read from stdin, in the process that `run` started."""
    pipe, own = os.dup(1), os.getpid()
    os.dup2(2, 1)  # what is printed does not mix with what is sent
    order = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)  # type: ignore[union-attr]
    sys.dont_write_bytecode = True
    _limit(order["timeout"], order["memory"])

    def send(piece: bytes, last: bool = False) -> None:
        if os.getpid() != own:
            os._exit(1)  # a copy that the code made by a fork
        rest = memoryview(_HEAD.pack(last, len(piece)) + piece)
        while rest:
            rest = rest[os.write(pipe, rest) :]

    happened = details = ""
    module, _, function = order["task"].partition(":")
    task = getattr(import_module(module), function)
    before = _watched()
    try:
        task(bytes.fromhex(order["request"]), send)
    except BaseException as error:
        happened, details = f"raised {one_line(error)}", traceback.format_exc().rstrip()
    happened = _changed(before) or happened
    send(json.dumps({"happened": happened, "details": details}).encode(), True)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # threads that still run, and what is registered for the exit, are not waited for


def one_line(error: BaseException) -> str:
    """Return the name of an exception and the first line of what it says, as plain text."""
    try:
        lines = str(error).splitlines() or [""]
    except Exception:  # its own __str__ raised
        lines = [""]
    text = f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
    return "".join(c if c.isprintable() else "?" for c in text[:_LINE])


def _limit(timeout: float, memory: int) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(timeout) + 5)  # should the parent be gone
    if resource is None:
        return
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        with suppress(ValueError, OSError):
            soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (soft, hard))


def _watched() -> list[tuple[ModuleType, dict[str, Any]]]:
    modules = [sys.modules[name] for name in WATCHED if name in sys.modules]
    return [(module, dict(vars(module))) for module in modules]


def _changed(before: list[tuple[ModuleType, dict[str, Any]]]) -> str:
    for module, names in before:
        for name, value in names.items():
            if not name.startswith("_") and vars(module).get(name) is not value:
                return f"changed NumPy: {module.__name__}.{name} was replaced"
    return ""
