"""Tests written for goss (https://goss.rocks): its program runs in the guest, and each result is an outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from shutil import which
from typing import Any

from goldsmith.base.errors import ProgramTimedOut
from goldsmith.base.events import Events
from goldsmith.base.process import SAFE_PATH, Completed
from goldsmith.base.secrets import Secret
from goldsmith.definition.source import UnsafeText, VaultText
from goldsmith.pve.shell import Shell
from goldsmith.verify.hygiene.run import tell_outcome
from goldsmith.verify.outcome import Outcome, State
from goldsmith.verify.tests import GOSS_FILE, UserTests

GROUP = "goss"
FOLDER = "/tmp/goldsmith-goss"  # noqa: S108 - in a guest that is thrown away; made by mktemp
ALL_PASSED, SOME_FAILED = 0, 1
SKIPPED = 2
"""As a result's `result` (goss, resource.SKIP)."""
NANO = 1e-9


def has_goss(tests: UserTests) -> bool:
    """Tell whether the image has tests for goss."""
    return tests.goss_file.is_file()


def run_goss(tests: UserTests, shell: Shell, *, events: Events) -> list[Outcome]:
    """Run goss.yaml in a guest: with the guest's own goss, or with this machine's, which is copied there.

    Variables are there as goss has them, `{{ .Vars.template_user }}`, but for secrets. Where there is no goss,
    the one outcome says so.

    :raises ShellFailed: the guest cannot be reached any more.
    """
    program = _find_program(shell)
    if program is None:
        told = "goss is installed neither in the guest nor on this machine"
        outcomes = [Outcome(GOSS_FILE, State.SKIPPED, message=told, group=GROUP)]
    else:
        outcomes = _run(tests, shell, program)
    masked = [_mask(outcome, events) for outcome in outcomes]
    for outcome in masked:
        events.emit(tell_outcome(outcome))
    return masked


def _mask(outcome: Outcome, events: Events) -> Outcome:
    mask = events.masker.mask
    return Outcome(
        mask(outcome.name), outcome.state, outcome.seconds, mask(outcome.message), mask(outcome.detail), group=GROUP
    )


def _find_program(shell: Shell) -> str | None:
    """Return the path of goss in the guest; it is brought there where only this machine has it."""
    found = shell.run(["sh", "-c", "command -v goss"], check=False).stdout.strip()
    ours = None if found else which("goss", path=SAFE_PATH)
    if found or ours is None:
        return found or None
    folder = shell.run(["mktemp", "-d", f"{FOLDER}.XXXXXX"]).stdout.strip()
    target = PurePosixPath(folder, "goss")
    with Path(ours).open("rb") as file:
        shell.put(file, target, mode=0o755)
    return str(target)


def _run(tests: UserTests, shell: Shell, program: str) -> list[Outcome]:
    variables = json.dumps(drop_secrets(tests.variables))
    argv = [program, "--gossfile", "-", "--vars-inline", variables, "validate", "--format", "json", "--no-color"]
    try:
        done = shell.run(
            argv, text=tests.goss_file.read_text(encoding="utf-8"), timeout=tests.session_timeout, check=False
        )
    except ProgramTimedOut as error:
        return [Outcome(GOSS_FILE, State.FAILED, error.seconds, f"stopped: {error}", error.detail, group=GROUP)]
    return parse_goss(done)


def drop_secrets(value: Any) -> Any:
    """Return variables as JSON has them, without any secret: they stand on a command line."""
    match value:
        case Mapping():
            kept = {str(name): item for name, item in value.items() if not isinstance(item, Secret | VaultText)}
            return {name: drop_secrets(item) for name, item in kept.items()}
        case list() | tuple() | set() | frozenset():
            return [drop_secrets(item) for item in value if not isinstance(item, Secret | VaultText)]
        case UnsafeText():
            return value.text
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def parse_goss(done: Completed) -> list[Outcome]:
    """Parse what `goss validate --format json` has said."""
    try:
        results = json.loads(done.stdout)["results"]
        outcomes = [_read_result(result) for result in results or []]
    except (ValueError, KeyError, TypeError) as error:
        said = "\n".join([done.stderr.strip(), done.stdout.strip()]).strip() or f"code {done.returncode}"
        return [Outcome(GOSS_FILE, State.FAILED, message=f"goss cannot run it: {said.splitlines()[0]}",
                        detail=f"{said}\n{type(error).__name__}: {error}", group=GROUP)]  # fmt: skip
    if done.returncode not in (ALL_PASSED, SOME_FAILED):
        outcomes.append(Outcome(GOSS_FILE, State.FAILED, message=f"goss ended with code {done.returncode}",
                                detail=done.stderr.strip(), group=GROUP))  # fmt: skip
    return outcomes


def _read_result(result: Mapping[str, Any]) -> Outcome:
    """Read one result (goss 0.3 and 0.4, resource.TestResult)."""
    name = f"{result['resource-type']}::{result['resource-id']}: {result['property']}"
    if result.get("skipped") or result.get("result") == SKIPPED:
        state = State.SKIPPED
    else:
        state = State.PASSED if result["successful"] else State.FAILED
    summary = str(result.get("summary-line", "")).strip()
    message = (summary.splitlines() or [""])[0] if state is not State.PASSED else ""
    detail = summary if "\n" in summary and state is State.FAILED else ""
    return Outcome(name, state, float(result.get("duration", 0)) * NANO, message, detail, group=GROUP)
