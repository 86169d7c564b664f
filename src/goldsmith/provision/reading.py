"""What ansible-runner tells of a run, read: tasks become events, the output goes to the log, failures are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from goldsmith.base.events import Events, PlaybookTask, PlaybookTaskStarted

TAIL_LINES = 20
EVIDENCE_LINES = 3
ITEMS = 3
"""How many failed items of a loop are named."""
OUTCOMES = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_skipped": "skipped",
    "runner_on_unreachable": "unreachable",
}
"""ansible-runner's event at the end of a task on a host (its display callback, awx_display.py)."""


@dataclass(frozen=True)
class Failure:
    """A task that failed or could not reach its host."""

    task: str
    host: str
    said: str


@dataclass
class Reader:
    """Takes the events of one run in their order. Whatever it keeps or passes on is masked."""

    events: Events
    log: IO[str]
    failures: list[Failure] = field(default_factory=list)
    unreachable: list[Failure] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    """`hosts:` of the plays that were begun."""
    stats: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of tasks by kind and host; empty where the run did not come to its end."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def tail(self) -> str:
        """The last lines of the output."""
        return "\n".join(self.lines)

    def read(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        self._write_log(str(event.get("stdout") or ""))
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == "playbook_on_task_start":
            self.events.emit(PlaybookTaskStarted(task=str(data.get("name") or data.get("task"))))
        elif kind == "playbook_on_play_start":
            self.patterns.append(str(data.get("pattern")))
        elif kind == "playbook_on_stats":
            self.stats = data
        elif kind in OUTCOMES:
            self._end_task(OUTCOMES[kind], data)

    def count(self, kind: str, host: str) -> int:
        """Return a host's number of tasks of one kind: ok (changed ones too), changed, skipped, failures, dark."""
        return int((self.stats.get(kind) or {}).get(host, 0))

    def _write_log(self, text: str) -> None:
        if not text:
            return
        masked = self.events.masker.mask(text.replace("\r\n", "\n").replace("\r", ""))
        self.log.write(masked + "\n")
        self.lines.extend(line for line in masked.splitlines() if line.strip())

    def _end_task(self, outcome: str, data: Mapping[str, Any]) -> None:
        result = data.get("res") or {}
        role, name = data.get("role"), str(data.get("task"))
        failure = Failure(f"{role} : {name}" if role else name, str(data.get("host")), "")
        if outcome == "ok" and result.get("changed"):
            outcome = "changed"
        if outcome == "failed" and data.get("ignore_errors"):
            outcome = "ignored"
        said = describe_result(result) if outcome in ("failed", "unreachable", "ignored") else describe_debug(data)
        said = self.events.masker.mask(said)
        kept = {"failed": self.failures, "unreachable": self.unreachable}.get(outcome)
        if kept is not None:
            kept.append(Failure(failure.task, failure.host, said))
        seconds = float(data.get("duration") or 0.0)
        self.events.emit(
            PlaybookTask(task=failure.task, host=failure.host, outcome=outcome, seconds=seconds, message=said)
        )


def describe_debug(data: Mapping[str, Any]) -> str:
    """Return what a `debug` task says: its message is its purpose. Empty for every other task."""
    if str(data.get("resolved_action") or data.get("task_action")).rpartition(".")[2] != "debug":
        return ""
    result = data.get("res") or {}
    return "" if "results" in result else str(result.get("msg", ""))


def describe_result(result: Mapping[str, Any]) -> str:
    """Return what a person needs to know of a failed result: its message, and the last lines of what a program said.

    Of a loop, the first few failed items. A result hidden by `no_log` stays hidden.
    """
    if "censored" in result:
        return str(result["censored"])
    failed = [item for item in result.get("results") or [] if isinstance(item, Mapping) and _is_bad(item)]
    if failed:
        told = [f"{_name_item(item)}: {describe_result(item)}" for item in failed[:ITEMS]]
        more = len(failed) - ITEMS
        return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
    message = str(result.get("msg") or result.get("reason") or "").strip()
    if "assertion" in result:
        message = f"{message} ({result['assertion']})"
    if isinstance(result.get("rc"), int) and message == "non-zero return code":  # command's and shell's own words
        message = f"ended with code {result['rc']}"
    evidence = next((text for text in _list_evidence(result) if text and text not in message), "")
    return ": ".join(text for text in (message, evidence) if text) or "failed without a message"


def _is_bad(item: Mapping[str, Any]) -> bool:
    return bool(item.get("failed") or item.get("unreachable"))


def _name_item(item: Mapping[str, Any]) -> str:
    return str(item.get("_ansible_item_label", item.get("item", "an item")))


def _list_evidence(result: Mapping[str, Any]) -> Iterable[str]:
    """Yield the ends of the output that a result carries, most telling first."""
    for key in ("stderr", "module_stderr", "module_stdout", "stdout"):
        lines = [line for line in str(result.get(key) or "").splitlines() if line.strip()]
        yield "\n".join(lines[-EVIDENCE_LINES:])
