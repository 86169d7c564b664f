"""The only place that starts programs: argument lists, an environment built from nothing, closed stdin, a time limit.

A program and its children form one process group, so that a time-out or an interrupt ends them all. A `Secret` is
refused as an argument (everybody on the machine can read those); it may be given as input or environment value and
is masked in whatever the program says.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from types import FrameType
from typing import IO, Any

from goldsmith.base.errors import ProgramFailed, ProgramMissing, ProgramTimedOut
from goldsmith.base.secrets import Masker, Secret

Argument = str | Path | int
SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = ("HOME", "USER", "LOGNAME", "TERM", "TZ", "SSH_AUTH_SOCK", "http_proxy", "https_proxy", "no_proxy")
"""What a program may see of our own environment: who runs it, and how it reaches the network."""
TAIL_LINES = 40
Handlers = dict[int, Callable[[int, FrameType | None], Any]]
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""util-linux's program, which becomes the wanted one; about a millisecond."""


@dataclass(frozen=True)
class Completed:
    """What a finished program left: its code and its output, secrets masked."""

    command: str
    returncode: int
    stdout: str
    stderr: str


def render_command(argv: Sequence[Argument]) -> str:
    """Render an argument list so that it can be pasted into a shell."""
    return shlex.join(str(argument) for argument in argv)


def build_environment(extra: Mapping[str, str | Secret] | None = None) -> dict[str, str]:
    """Return a program's environment: a fixed PATH and language, the few passed on names, then `extra`."""
    environment = {"PATH": SAFE_PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    environment.update({name: os.environ[name] for name in PASSED_ON if name in os.environ})
    for name, value in (extra or {}).items():
        environment[name] = value.reveal() if isinstance(value, Secret) else value
    return environment


def _check_arguments(argv: Sequence[object]) -> list[str]:
    for argument in argv:
        if isinstance(argument, Secret):
            raise TypeError(f"a secret must not be an argument of {argv[0]}")
    return [str(argument) for argument in argv]


def _end_group(process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """Stop a program and its children: SIGTERM, then SIGKILL when they take longer than `grace` seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def open_process(
    argv: Sequence[Argument],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    env: Mapping[str, str | Secret] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program and hand it over; whatever happens in the block, it has ended afterwards.

    For pipelines; the caller reads, waits and judges the code. `run` is the ordinary way. When we are killed and can
    end nothing any more, the kernel ends the program (prctl(2), PR_SET_PDEATHSIG; children that it has put into the
    background, as daemons do, are not meant).

    :raises ProgramMissing: there is no such program.
    """
    arguments, environment = _check_arguments(argv), build_environment(env)
    if which(arguments[0], path=environment["PATH"]) is None:
        raise ProgramMissing(arguments[0])
    process: subprocess.Popen[bytes] | None = None
    try:
        with _hold_signals():  # raised within Popen, an interrupt would leave a program behind that nobody knows
            process = subprocess.Popen(
                [*_END_WITH_US, *arguments], stdin=stdin, stdout=stdout, stderr=stderr, env=environment, cwd=cwd,
                start_new_session=True,
            )  # fmt: skip
        yield process
    except FileNotFoundError as error:
        if process is not None or (cwd is not None and not cwd.is_dir()):
            raise
        raise ProgramMissing(_END_WITH_US[0]) from error
    finally:
        if process is not None:
            _clear_up(process)


def _clear_up(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _end_group(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()


@contextmanager
def _hold_signals() -> Iterator[None]:
    """Let signals that are handled in Python, which the main thread does, wait until the block has ended.

    Masking them would not do: a program inherits the mask.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    is_holding = True

    def hear(number: int, frame: FrameType | None) -> None:
        if is_holding:
            held.append(number)
        else:  # an exception came before this signal had its own handler back
            handlers[number](number, frame)

    handlers: Handlers = {number: handler for number in _HELD if callable(handler := signal.getsignal(number))}
    try:
        _set_handlers(dict.fromkeys(handlers, hear))
        yield
    finally:
        is_holding = False
        _set_handlers(handlers)
        for number in held:
            signal.raise_signal(number)


def _set_handlers(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run_interactive(argv: Sequence[Argument]) -> int:
    """Run a program on our own terminal, as if a person had typed it, and return its code.

    It belongs to our process group, so that the terminal's signals reach it, and sees our own environment. Left by an
    exception, the program is ended.

    :raises ProgramMissing: there is no such program.
    """
    arguments = _check_arguments(argv)
    if which(arguments[0]) is None:
        raise ProgramMissing(arguments[0])
    process = subprocess.Popen([*_END_WITH_US, *arguments])
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def start_detached(argv: Sequence[Argument], *, log: Path, env: Mapping[str, str | Secret] | None = None) -> int:
    """Start a program that outlives us, in a session of its own, and return its process number.

    :param log: where what it says is appended.
    :raises ProgramMissing: there is no such program.
    """
    arguments = _check_arguments(argv)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, env=build_environment(env), cwd="/",
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ProgramMissing(arguments[0]) from error
    finally:
        os.close(fd)
    process.returncode = 0  # it is nobody's to wait for; otherwise Popen warns of it
    return process.pid


class _Collector(threading.Thread):
    """Reads one stream line by line to its end, so that neither pipe of a program can fill up and block it."""

    def __init__(self, stream: IO[bytes], masker: Masker, on_line: Callable[[str], None] | None) -> None:
        super().__init__(daemon=True)
        self._stream, self._masker, self._on_line = stream, masker, on_line
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        with self._stream:  # closed here and nowhere else: closing waits for who reads, perhaps for ever
            for raw in self._stream:
                line = self._masker.mask(raw.decode(errors="replace"))
                self.lines.append(line)
                if self._on_line is not None:
                    self._on_line(line.rstrip("\n"))


def _read_all(collectors: Sequence[_Collector], timeout: float = 2.0) -> list[str]:
    """Return what each has read so far; a background child that keeps the pipes open is not waited for longer."""
    deadline = time.monotonic() + timeout
    for collector in collectors:
        collector.join(max(deadline - time.monotonic(), 0.0))
    return ["".join(collector.lines) for collector in collectors]


def run(
    argv: Sequence[Argument],
    *,
    input: str | bytes | Secret | None = None,  # noqa: A002 - the standard library's own name for it
    env: Mapping[str, str | Secret] | None = None,
    cwd: Path | None = None,
    timeout: float = 60.0,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end and return what it said.

    :param timeout: seconds; the whole process group is ended when it takes longer.
    :param check: raise when it ends with a code other than 0.
    :param on_line: called with each line of either stream as it comes (from a reader thread).
    :raises ProgramMissing, ProgramFailed, ProgramTimedOut: see `goldsmith.base.errors`.
    """
    secrets = [value for value in [*(env or {}).values(), input] if isinstance(value, Secret)]
    masker = Masker(secrets)
    command = masker.mask(render_command(argv))
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    with open_process(argv, stdin=stdin, env=env, cwd=cwd) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        collectors = [_Collector(stream, masker, on_line) for stream in (process.stdout, process.stderr)]
        process.stdout = process.stderr = None  # the collectors' own from here on
        _feed(process, input)
        try:
            returncode = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            _end_group(process)
            raise ProgramTimedOut(command, timeout, _tail("".join(_read_all(collectors)))) from error
        completed = Completed(command, returncode, *_read_all(collectors))
    if check and returncode != 0:
        raise ProgramFailed(command, returncode, _tail(completed.stdout + completed.stderr))
    return completed


def _feed(process: subprocess.Popen[bytes], data: str | bytes | Secret | None) -> None:
    if process.stdin is None or data is None:
        return
    text = data.reveal() if isinstance(data, Secret) else data
    with suppress(BrokenPipeError):
        process.stdin.write(text.encode() if isinstance(text, str) else text)
        process.stdin.close()


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])
