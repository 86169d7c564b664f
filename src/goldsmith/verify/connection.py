"""A pytest plugin, loaded into the process of one session: the door to testinfra, whose own plugin gives `host`.

testinfra is told its only host on pytest's command line (see `session`): that wins over a module's `testinfra_hosts`,
so that no test reaches anything but the guest by accident. Its own ssh takes it there, or our `DirectBackend`, for a
guest that is entered through its node. This plugin adds what tests of an image need besides: the image's variables, a
guest that can be rebooted, groups, time limits; and it reports.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pytest
from testinfra.backend import BACKENDS
from testinfra.backend.base import BaseBackend, CommandResult

from goldsmith.base.errors import ProgramTimedOut
from goldsmith.base.process import Argument, open_process, run
from goldsmith.base.secrets import Secret
from goldsmith.pve.attach import AS_LOGIN
from goldsmith.pve.way import Way
from goldsmith.verify.protocol import DIRECT, FILE_KEY, SETTINGS, SHARED, STOP_GRACE
from goldsmith.verify.settle import READY

REBOOT_TIMEOUT = 120.0
UNREACHED = 255
ENTERED = b"@goldsmith: entered\n"
"""Comes first of what a program in a guest that is entered directly complains of: before it, the way in complains."""
TELL_ENTERED = f"echo '{ENTERED.decode().strip()}' >&2\n"
OUTPUT_LIMIT = 64 << 10
"""Characters of a test's output that are reported; the whole is in the session's log."""
MARKERS = (
    "destructive: the test gets a guest of its own, which nobody uses afterwards",
    "for_each(argument, variable): run the test once for each item of one of the image's variables",
)
WHICH_BOOT = "sed 's/.*) //' /proc/1/stat | cut -d' ' -f20; cat /proc/sys/kernel/random/boot_id"
"""When process 1 began, whoever has started it anew.

It tells two boots apart in containers too, which share the machine's boot_id (proc(5)).
"""


class Entrance(Protocol):
    """How commands are run in the guest beside the tests' own."""

    def ask(self, command: str, *, timeout: float) -> str:
        """Run a command, and return what it says; nothing where the guest is away, or does not answer in time."""
        ...

    def leave(self) -> None:
        """Let go of a connection that stands."""
        ...


class SshEntrance:
    """Over a connection of its own for each command, so that none is taken for granted."""

    def __init__(self, address: str, ssh_config: Path) -> None:
        self._address, self._ssh_config = address, ssh_config

    def ask(self, command: str, *, timeout: float) -> str:
        """Run a command."""
        alone = ["-o", "ControlPath=none", "-o", "ConnectTimeout=2"]
        return _hear(["ssh", *alone, "-F", str(self._ssh_config), self._address, command], timeout)

    def leave(self) -> None:
        """End the connection that testinfra's ssh has put into the background."""
        run(["ssh", "-F", self._ssh_config, "-O", "exit", self._address], check=False, timeout=10)


class DirectEntrance:
    """Through the guest's node."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def ask(self, command: str, *, timeout: float) -> str:
        """Run a command."""
        given = None if self._way.first_input is None else Secret(f"{self._way.first_input.reveal()}\n")
        return _hear(self._way.wrap(["sh", "-c", command]), timeout, given)

    def leave(self) -> None:
        """There is no connection."""


def _hear(argv: Sequence[Argument], timeout: float, given: Secret | None = None) -> str:
    """Return what a program says, unless ssh or the way into the guest has failed, which say nothing there."""
    try:
        done = run(argv, input=given, check=False, timeout=timeout)
    except ProgramTimedOut:
        return ""
    return "" if done.returncode == UNREACHED else done.stdout.strip()


def read_settings() -> dict[str, Any]:
    """Read what this process was told; see `workspace`."""
    settings: dict[str, Any] = json.loads(Path(os.environ[SETTINGS]).read_text(encoding="utf-8"))
    return settings


def make_entrance(settings: Mapping[str, Any]) -> Entrance:
    """Return how commands are run in the guest that the settings name."""
    if settings["way"] is None:
        return SshEntrance(settings["address"], Path(settings["ssh_config"]))
    return DirectEntrance(read_way(settings["way"]))


def read_way(given: Mapping[str, Any]) -> Way:
    """Read how programs are started in a guest that is entered directly."""
    password = _reveal(given["first_input"])
    inner = None if given["inner"] is None else tuple(given["inner"])
    return Way(tuple(given["outer"]), inner, None if password is None else Secret(password.read_text()))


class DirectBackend(BaseBackend):  # type: ignore[misc] # testinfra publishes no types
    """Testinfra's commands, started in the guest through its node; the guest's root runs them as it would over SSH."""

    NAME = DIRECT

    def __init__(self, name: str, *args: Any, **options: Any) -> None:
        super().__init__(name, *args, **options)
        self._way = read_way(read_settings()["way"])

    def run(self, command: str, *args: str, **_options: Any) -> CommandResult:
        """Run a command; what it leaves are bytes.

        :raises RuntimeError: the guest cannot be entered (as testinfra's own connections do).
        """
        command = self.get_command(command, *args)
        code, said, complained = self._start(["sh", "-c", TELL_ENTERED + AS_LOGIN, "sh", "-c", command])
        before, mark, complained = complained.partition(ENTERED)
        if not mark:
            raise RuntimeError(f"the guest cannot be entered: {before.decode(errors='replace').strip() or code}")
        return self.result(code, self.encode(command), said, complained)

    def _start(self, argv: list[str]) -> tuple[int, bytes, bytes]:
        """Run a program to its end; stopped meanwhile, it and what it has started are ended."""
        given = b"" if self._way.first_input is None else f"{self._way.first_input.reveal()}\n".encode()
        with open_process(self._way.wrap(argv), stdin=subprocess.PIPE) as process:
            said, complained = process.communicate(given)
            return process.returncode, said, complained


class Guest:
    """The guest under test."""

    def __init__(self, address: str, entrance: Entrance) -> None:
        self.address = address
        self._entrance = entrance

    def reboot(self, timeout: float = REBOOT_TIMEOUT) -> None:
        """Reboot the guest, and wait until it lets us in again and has settled; the test fails when it does not.

        :param timeout: seconds.
        """
        __tracebackhide__ = True
        before = self._ask(WHICH_BOOT)
        self._ask("systemctl reboot || reboot")
        self._entrance.leave()
        deadline = time.monotonic() + timeout
        while (delay := self._find_delay(before)) is not None:
            if time.monotonic() > deadline:
                pytest.fail(f"the guest has not come back {timeout:g} s after its reboot: {delay}", pytrace=False)
            time.sleep(0.1)
        left = max(1.0, deadline - time.monotonic())
        self._ask(f"timeout {left:.0f} systemctl is-system-running --wait", timeout=left + 10)

    def _find_delay(self, before: str) -> str | None:
        """Return what the guest has not done yet since it was told to reboot; None when it is back."""
        now = self._ask(WHICH_BOOT)
        if now in ("", before):
            return "it is still up" if now else "it does not let us in"
        said = self._ask(f"{READY}\necho ready")
        return None if said == "ready" else said or "it does not let us in"

    def _ask(self, command: str, *, timeout: float = 15.0) -> str:
        return self._entrance.ask(command, timeout=timeout)


class Session:
    """One run of pytest: what it was told, and what it tells."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._report = Path(settings["report"])
        self.group: str | None = settings["group"]
        self.limit = float(settings["test_timeout"])
        self.variables: dict[str, Any] = {name: _reveal(value) for name, value in settings["variables"].items()}
        self.guest = Guest(settings["address"], make_entrance(settings))
        self._host = str(settings["host"])
        self._deadline = 0.0
        self._parts: list[pytest.TestReport] = []

    def name(self, node_id: str) -> str:
        """Return a test's id without the host, which is always the same one."""
        parts = {f"[{self._host}]": "", f"[{self._host}-": "[", f"-{self._host}]": "]", f"-{self._host}-": "-"}
        for part, instead in parts.items():
            node_id = node_id.replace(part, instead)
        return node_id

    def tell(self, kind: str, **values: Any) -> None:
        """Write a line of the report."""
        with self._report.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}, default=str) + "\n")

    def find_group(self, item: pytest.Item) -> str:
        """Return the group of a test: the outermost of item, class and module that is marked as destructive."""
        nodes = [node for node, _ in item.iter_markers_with_node("destructive")]
        if not nodes:
            return SHARED
        outermost = min(nodes, key=lambda node: len(list(node.iter_parents())))
        return self.name(outermost.nodeid)

    # pytest's hooks

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test once for each item of a variable."""
        for mark in metafunc.definition.iter_markers("for_each"):
            argument, variable = mark.args
            if variable not in self.variables:
                pytest.fail(f"for_each: the image has no variable '{variable}'", pytrace=False)
            metafunc.parametrize(argument, list(self.variables[variable] or []))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests of this session's group; tell of all when only collecting."""
        groups = [(item, self.find_group(item)) for item in items]
        if config.option.collectonly:
            for item, group in groups:
                self.tell("collected", test=self.name(item.nodeid), group=group)
            return
        unwanted = [item for item, group in groups if self.group not in (None, group)]
        items[:] = [item for item, group in groups if self.group in (None, group)]
        if unwanted:
            config.hook.pytest_deselected(items=unwanted)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a file that cannot be read."""
        if report.failed:
            self.tell("broken", test=report.nodeid, detail=report.longreprtext, **_find_place(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell that a test begins; its time starts to run."""
        self._deadline = time.monotonic() + self.limit
        self._parts = []
        self.tell("started", test=self.name(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember how a part of a test went; tell of the test when its last part is over."""
        self._parts.append(report)
        if report.when == "teardown":
            self.tell("finished", test=self.name(report.nodeid), **describe(self._parts))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Limit the time of setting up."""
        with self._limited():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Limit the time of the test itself."""
        with self._limited():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Limit the time of cleaning up, which gets some even when the test has used up its own."""
        with self._limited(at_least=STOP_GRACE / 2):
            return (yield)

    def pytest_sessionfinish(self) -> None:
        """Tell that all has been told."""
        self.tell("ended")

    @contextmanager
    def _limited(self, at_least: float = 0.01) -> Iterator[None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            # not an Exception: a test that catches those does not catch this
            raise pytest.fail.Exception(f"stopped: it did not end within {self.limit:g} s")

        former = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(at_least, self._deadline - time.monotonic()))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)


def describe(parts: list[pytest.TestReport]) -> dict[str, Any]:
    """Return outcome, seconds, message and detail of a test, from the reports of its parts."""
    telling = next((part for part in parts if part.failed), None) or next((p for p in parts if p.skipped), parts[-1])
    told = {
        "outcome": telling.outcome,
        "seconds": sum(part.duration for part in parts),
        "message": "",
        "detail": "",
        "properties": dict(parts[-1].user_properties),
    }
    if telling.failed:
        where = {"setup": "setting up: ", "teardown": "cleaning up: "}.get(str(telling.when), "")
        told |= {"message": where + find_message(telling), "detail": render_detail(telling, parts[-1])}
    elif telling.skipped:
        told["message"] = find_reason(telling)
    return told


def find_message(report: pytest.TestReport) -> str:
    """Return the first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext.strip()
    first = next((line for line in text.splitlines() if line.strip()), "failed without a message")
    return first.removeprefix("AssertionError: ").removeprefix("Failed: ").strip()


def find_reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped, or why it was known to fail."""
    if hasattr(report, "wasxfail"):
        return f"known to fail: {report.wasxfail}".removesuffix(": ")
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return str(reason).removeprefix("Skipped: ")


def render_detail(failed: pytest.TestReport, last: pytest.TestReport) -> str:
    """Return the traceback, and what the test has printed."""
    printed = [f"--- {title}\n{text.rstrip()}" for title, text in last.sections if text.strip()]
    return "\n".join([failed.longreprtext, *printed])[-OUTPUT_LIMIT:]


def _find_place(report: pytest.CollectReport) -> dict[str, Any]:
    """Return message and line of what stopped a file from being read."""
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    told = [line.removeprefix("E ").strip() for line in lines if line.startswith("E ")]
    crash = getattr(report.longrepr, "reprcrash", None)
    line = getattr(crash, "lineno", 0) or _find_line(report.longreprtext, Path(report.nodeid).name)
    return {"message": told[-1] if told else lines[-1] if lines else "", "line": line}


def _find_line(traceback: str, file: str) -> int:
    """Return the line of a file that a traceback names last, as pytest shows those of imports; 0 if it names none."""
    found = re.findall(rf"^(?:\S*/)?{re.escape(file)}:(\d+): ", traceback, re.MULTILINE)
    return int(found[-1]) if found else 0


def _reveal(value: Any) -> Any:
    """Return a variable as tests see it: a secret is the path of its file."""
    if isinstance(value, dict):
        if list(value) == [FILE_KEY]:
            return Path(value[FILE_KEY])
        return {name: _reveal(item) for name, item in value.items()}
    return [_reveal(item) for item in value] if isinstance(value, list) else value


SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Read what this session is to do."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    BACKENDS[DIRECT] = f"{__name__}.{DirectBackend.__name__}"
    config.stash[SESSION] = Session(read_settings())
    config.pluginmanager.register(config.stash[SESSION], "goldsmith-session")


@pytest.fixture(scope="session")
def variables(pytestconfig: pytest.Config) -> dict[str, Any]:
    """The image's variables, as its playbook gets them; a secret is the `Path` of a file that holds it."""  # noqa: D401
    return pytestconfig.stash[SESSION].variables


@pytest.fixture
def guest(pytestconfig: pytest.Config) -> Guest:
    """The guest itself: `guest.reboot()`."""  # noqa: D401
    return pytestconfig.stash[SESSION].guest
