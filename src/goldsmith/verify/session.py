"""The user's own tests are run: pytest in a process of its own, watched over from here.

A fresh process for each session, because testinfra keeps its hosts, and what it knows of them, as long as it lives.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from goldsmith.base.errors import DefinitionError, Interrupted, Problem, ProgramTimedOut
from goldsmith.base.events import Events
from goldsmith.base.private import open_private_log
from goldsmith.base.process import Argument, open_process, run
from goldsmith.base.secrets import Masker, find_secrets, list_disguises
from goldsmith.pve.target import Enterable
from goldsmith.verify.outcome import Outcome
from goldsmith.verify.protocol import SETTINGS, SHARED, STOP_GRACE
from goldsmith.verify.reading import Reader
from goldsmith.verify.tests import TestGroup, UserTests
from goldsmith.verify.workspace import Workspace, open_workspace

PLUGIN = "goldsmith.verify.connection"
TESTINFRA = "testinfra.plugin"
COLLECT_TIMEOUT = 120.0
POLL = 0.05
TAIL_LINES = 40
PYTEST_ENDED_WELL = (0, 1, 5)
"""All passed, some failed, none collected (pytest.ExitCode)."""
WAS_STOPPED = -1


def collect_groups(tests: UserTests) -> list[TestGroup]:
    """Return the user's tests, divided by guests: those that share one come first. Needs no guest.

    :raises DefinitionError: a file of tests cannot be read.
    """
    if not has_tests(tests.directory):
        return []
    with open_workspace(tests, None, None) as workspace:
        try:
            done = run([*build_command(workspace), "--collect-only", "-q"], env=build_environment(workspace),
                       cwd=tests.directory, timeout=COLLECT_TIMEOUT, check=False)  # fmt: skip
        except ProgramTimedOut as error:
            raise DefinitionError([Problem(tests.directory, 0, f"collecting the tests: {error}")]) from error
        reader = Reader(Events(), workspace.report)
        reader.read()
    if reader.broken or done.returncode not in PYTEST_ENDED_WELL:
        raise DefinitionError(_list_problems(tests, reader, done.stdout + done.stderr))
    return _divide(reader)


def has_tests(directory: Path) -> bool:
    """Tell whether there are files of tests; whoever configures pytest may name them as he likes."""
    return directory.is_dir() and any(directory.rglob("*.py"))


def _divide(reader: Reader) -> list[TestGroup]:
    groups: dict[str, list[str]] = {}
    for test, group in reader.collected.items():
        groups.setdefault(group, []).append(test)
    names = sorted(groups, key=lambda name: name != SHARED)  # stable: the others keep their order
    return [TestGroup(name, tuple(groups[name]), destructive=name != SHARED) for name in names]


def _list_problems(tests: UserTests, reader: Reader, said: str) -> list[Problem]:
    if reader.broken:
        return [Problem(tests.directory / one.test, one.line, one.message) for one in reader.broken]
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() and "usage:" not in line]
    return [Problem(tests.directory, 0, f"pytest cannot be run: {([*telling, *lines, 'it said nothing'])[0]}")]


def build_command(workspace: Workspace) -> list[Argument]:
    """Return the command line of pytest; what the user adds in `addopts` comes before it."""
    directory = workspace.tests.directory
    return [
        sys.executable, "-P", "-m", "pytest", "-p", TESTINFRA, "-p", PLUGIN,
        "-c", workspace.configuration, "--rootdir", directory, "--confcutdir", directory,
        "-o", f"cache_dir={workspace.root / 'cache'}", "--color=no",
        f"--hosts={workspace.host}", f"--ssh-config={workspace.ssh_config}", directory,
    ]  # fmt: skip


def build_environment(workspace: Workspace) -> dict[str, str]:
    """Return what pytest's process gets besides the usual few variables.

    Nothing is written beside the tests. Plugins that happen to be installed do not count (and need not be loaded, which
    takes a second): whoever wants one names it, with `-p` in `addopts` or in conftest.py.
    """
    apart = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {SETTINGS: str(workspace.settings), "COLUMNS": "120", **apart}


def run_session(
    tests: UserTests,
    group: TestGroup,
    subject: Enterable,
    *,
    events: Events,
    log: Path,
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Run one group of tests on a guest; each is an event as it ends. Everything is over when this returns or raises.

    :param log: gets all that pytest says (mode 0600, secrets masked); it is replaced.
    :param is_stopped: looked at every now and then; when it says so, the tests are ended. For sessions in threads,
        where Ctrl-C does not arrive.
    :returns: an outcome for every test of the group, also for those that were not reached.
    :raises Interrupted: `is_stopped` said so.
    """
    events.masker.add(*list_disguises(find_secrets(tests.variables)))
    with open_workspace(tests, subject, group.name) as workspace, open_private_log(log) as file:
        reader = Reader(events, workspace.report)
        output = _Output(file, events.masker)
        code = _run(workspace, reader, output, is_stopped)
        reader.read()
    return reader.complete(group, _explain_end(code, reader, output, tests), output.tail)


def _run(workspace: Workspace, reader: Reader, output: _Output, is_stopped: Callable[[], bool]) -> int:
    """Run pytest until it ends, or is stopped because a test or the session takes too long; return its exit code."""
    command = [*build_command(workspace), "-v", "-ra"]
    deadline = time.monotonic() + workspace.tests.session_timeout
    with open_process(
        command, stderr=subprocess.STDOUT, env=build_environment(workspace), cwd=workspace.tests.directory
    ) as process:
        assert process.stdout is not None
        output.follow(process.stdout)
        while process.poll() is None:
            reader.read()
            if is_stopped():
                raise Interrupted
            if reader.busy_seconds > workspace.tests.test_timeout + STOP_GRACE or time.monotonic() > deadline:
                return WAS_STOPPED
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL)
        output.finish()
        return process.returncode


def _explain_end(code: int, reader: Reader, output: _Output, tests: UserTests) -> str:
    """Return why tests were not run to their end; empty where pytest ended by itself, as it should."""
    if code == WAS_STOPPED:
        if reader.busy_seconds > tests.test_timeout + STOP_GRACE:
            return f"stopped: it did not end within {tests.test_timeout:g} s"
        return f"stopped: all tests together did not end within {tests.session_timeout:g} s"
    if code in PYTEST_ENDED_WELL:
        return ""
    last = output.tail.splitlines()[-1:] or ["it said nothing"]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"pytest {how}: {last[0]}"


class _Output:
    """Takes what pytest says, line by line, into the log; keeps the last lines."""

    def __init__(self, log: IO[str], masker: Masker) -> None:
        self._log, self._masker = log, masker
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread: threading.Thread | None = None

    @property
    def tail(self) -> str:
        """The last lines, secrets masked."""
        return "\n".join(self._lines)

    def follow(self, stream: IO[bytes]) -> None:
        """Begin to read a stream, in a thread of its own."""
        self._thread = threading.Thread(target=self._read, args=(stream,), name="pytest-output", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is read; a background process that keeps the stream open is not waited for."""
        if self._thread is not None:
            self._thread.join(2.0)

    def _read(self, stream: IO[bytes]) -> None:
        with suppress(ValueError):  # it was closed while we read: the process was stopped
            for raw in stream:
                line = self._masker.mask(raw.decode(errors="replace")).rstrip("\n")
                self._lines.append(line)
                self._log.write(line + "\n")
