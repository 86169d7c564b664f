"""A playbook is run on one guest. The one door to ansible-runner."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_runner import Runner, RunnerConfig

from goldsmith.base.errors import PlaybookFailed, ProvisionError
from goldsmith.base.events import Events, Notice
from goldsmith.base.private import open_private_log
from goldsmith.base.secrets import find_secrets, list_disguises
from goldsmith.provision.access import USUAL_PYTHON, AnyAccess, ensure_python, find_python
from goldsmith.provision.play import Play, PlaybookOutcome
from goldsmith.provision.processes import end_marked
from goldsmith.provision.reading import Reader
from goldsmith.provision.strategy import Strategy, choose_strategy
from goldsmith.provision.variables import split_variables
from goldsmith.provision.workspace import (
    POLL,
    Workspace,
    build_ansible_environment,
    open_access,
    open_workspace,
    write_inventory,
)
from goldsmith.pve.target import ConsoleTarget, Target

LAUNCH = Path(__file__).with_name("launch.py")
RUNNERS_OWN = (
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_STDOUT_CALLBACK",
    "AWX_ISOLATED_DATA_DIR",
    "RUNNER_OMIT_EVENTS",
    "RUNNER_ONLY_FAILED_EVENTS",
)
"""The environment variables by which ansible-runner's callback finds its way."""
STOP_TIMEOUT = 15.0
Said = queue.SimpleQueue[dict[str, Any] | int | Exception]
"""What is heard of a run: its events, then its exit code or why there is none."""


@dataclass(frozen=True)
class Run:
    """One play on its way to one guest."""

    play: Play
    workspace: Workspace
    access: AnyAccess
    strategy: Strategy


def run_playbook(play: Play, target: Target | ConsoleTarget, *, events: Events, log: Path) -> PlaybookOutcome:
    """Run the playbook on the target and on nothing else.

    The only host there is is the target; a play reaches it by `hosts: all`. Every task is an event as it begins and
    ends; Ansible's whole output is in `log` (mode 0600, secrets masked), which is replaced. Left early (Ctrl-C, or a
    listener that raises), everything that was started is ended first.

    :raises PlaybookFailed: a task failed.
    :raises ProvisionError: the guest cannot be reached, no play is for it, or Ansible itself failed.
    """
    begun = time.monotonic()
    events.masker.add(*list_disguises(find_secrets(play.variables)))
    with ExitStack() as stack:
        file = stack.enter_context(open_private_log(log))
        workspace = stack.enter_context(open_workspace(play))
        stack.enter_context(_ending(workspace, target))
        reader, run = (
            Reader(events, file),
            Run(play, workspace, open_access(workspace, target), _choose(play, target, events)),
        )
        code = _run_ansible(run, reader)
    _check(reader, code, play=play, target=target, log=log)
    return PlaybookOutcome(
        ok=reader.count("ok", target.host),
        changed=reader.count("changed", target.host),
        skipped=reader.count("skipped", target.host),
        failed=reader.count("failures", target.host),
        seconds=time.monotonic() - begun,
    )


def _choose(play: Play, target: Target | ConsoleTarget, events: Events) -> Strategy:
    """Choose the strategy, and say what is not done as it was written."""
    strategy = choose_strategy(play.strategy, with_console=isinstance(target, ConsoleTarget))
    if strategy.reason:
        events.emit(Notice(message=strategy.reason, level="warning" if strategy.is_fault else "info"))
    if ours := split_variables(play.variables)[1]:
        names = ", ".join(ours)
        events.emit(Notice(message=f"{names}: ignored, for goldsmith itself connects to the guest", level="warning"))
    return strategy


@contextmanager
def _ending(workspace: Workspace, target: Target | ConsoleTarget) -> Iterator[None]:
    """End what the block has left running: ssh's masters and whatever a task put into the background on this machine.

    :raises ProvisionError: something cannot be ended (a task became another user, say).
    """
    try:
        yield
    finally:
        left = end_marked(workspace.mark)
    if left:
        pids = " ".join(map(str, left))
        raise ProvisionError(
            f"the play on {target.host} left processes on this machine that do not end: {pids}",
            hint=f"look at them (ps -fp {pids.replace(' ', ',')}) and end them by hand",
        )


def _run_ansible(run: Run, reader: Reader) -> int:
    """Run Ansible to its end and return its exit code.

    While it starts, which takes it longer than ssh takes to connect, the guest is asked for its Python. Where that is
    not the usual one, Ansible is started again; the first one has run no module, and what it said is not read.
    """
    with _start(run, USUAL_PYTHON) as said:
        if find_python(run.access) == USUAL_PYTHON:
            return _read_all(said, reader)
    with _start(run, ensure_python(run.access)) as said:
        return _read_all(said, reader)


@contextmanager
def _start(run: Run, interpreter: str) -> Iterator[Said]:
    """Start Ansible and hand over what will be heard of it; it has ended after the block.

    ansible-runner works in a thread: in the main thread it would take over SIGINT and SIGTERM. The caller waits in
    short steps, reads, and is where an interrupt arrives.
    """
    write_inventory(run.workspace, run.access, interpreter=interpreter, strategy=run.strategy)
    said: Said = queue.SimpleQueue()
    cancelled = threading.Event()

    def take(event: dict[str, Any]) -> bool:
        said.put(dict(event))
        return False  # nothing is to be written into files

    def work() -> None:
        try:
            runner = Runner(_configure(run), event_handler=take, cancel_callback=cancelled.is_set)
            said.put(int(runner.run()[1]))
        except Exception as error:  # it is raised where it can be seen
            said.put(error)

    thread = threading.Thread(target=work, name="ansible-runner", daemon=True)
    thread.start()
    try:
        yield said
    finally:
        cancelled.set()
        _stop(thread, run.workspace)


def _read_all(said: Said, reader: Reader) -> int:
    while True:
        try:
            item = said.get(timeout=POLL)
        except queue.Empty:
            reader.events.pulse()
            continue
        if isinstance(item, Exception):
            raise ProvisionError(
                f"ansible-runner failed: {reader.events.masker.mask(str(item)) or type(item).__name__}",
                detail=reader.tail,
            ) from item
        if isinstance(item, int):
            return item
        reader.read(item)


def _stop(thread: threading.Thread, workspace: Workspace) -> None:
    """Wait for the thread; as long as it lives, end the processes that it waits for."""
    thread.join(POLL)
    deadline = time.monotonic() + STOP_TIMEOUT
    while thread.is_alive() and time.monotonic() < deadline:
        end_marked(workspace.mark, grace=0.3)
        thread.join(POLL)


def _configure(run: Run) -> RunnerConfig:
    """Prepare ansible-runner, then put our command and environment in place of what it made of `os.environ`."""
    play, workspace = run.play, run.workspace
    config = RunnerConfig(
        private_data_dir=str(workspace.root),
        project_dir=str(play.project),
        host_cwd=str(play.project),
        playbook=str(workspace.playbook),
        inventory=str(workspace.inventory),
        fact_cache_type="memory",
        quiet=True,
        ident="run",
    )
    config.prepare()
    own = {name: config.env[name] for name in RUNNERS_OWN}
    config.env = build_ansible_environment(workspace, play, run.strategy) | own
    config.command = [
        sys.executable, "-P", str(LAUNCH), "-i", str(workspace.inventory), "-e", f"@{workspace.variables}",
        str(workspace.playbook),
    ]  # fmt: skip
    return config


def _check(reader: Reader, code: int, *, play: Play, target: Target | ConsoleTarget, log: Path) -> None:
    """Raise what went wrong. Whether a failure counts (it may have been rescued) is for Ansible's own sums to say."""
    unreachable = [failure for failure in reader.unreachable if reader.count("dark", failure.host)]
    if code and unreachable:
        last = unreachable[-1]
        raise ProvisionError(
            f"{last.host} could not be reached any more in task '{last.task}': {last.said}",
            detail=reader.tail,
            hint=f"the whole log: {log}",
        )
    if code and reader.failures:
        last = reader.failures[-1]
        raise PlaybookFailed(task=last.task, host=last.host, said=last.said, log=log, tail=reader.tail)
    if code:
        raise ProvisionError(
            f"Ansible ended with code {code}: {_find_complaint(reader)}",
            detail=reader.tail,
            hint=f"the whole log: {log}",
        )
    if not reader.count("processed", target.host):
        wrote = ", ".join(reader.patterns) or "no play"
        raise ProvisionError(
            f"{play.playbook.name} did nothing on {target.host}: no play of it is for that guest, or it has no tasks",
            hint=f"write `hosts: all` (now: {wrote}); there is no other host than the guest",
            detail=reader.tail,
        )


def _find_complaint(reader: Reader) -> str:
    """Return the line in which Ansible says why it gave up."""
    marks = ("ERROR!", "[ERROR]:")
    found = [line.split(mark, 1)[1].strip() for line in reader.lines for mark in marks if mark in line]
    return found[0] if found else (reader.lines[-1] if reader.lines else "it said nothing")
