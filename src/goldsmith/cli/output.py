"""Standard output is for data, standard error for the story. A reader that has gone is no failure of the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from goldsmith.base.digest import JsonValue
from goldsmith.base.errors import DefinitionError, GoldsmithError, Problem


def say(text: str) -> None:
    """Write a line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_json(value: JsonValue, *, indent: int | None = None) -> None:
    """Write a JSON value: in one line, or indented where it is a whole document."""
    say(json.dumps(value, ensure_ascii=False, indent=indent))


def say_document(value: JsonValue) -> None:
    """Write a JSON document."""
    say_json(value, indent=2)


def tell(text: str) -> None:
    """Write a line of the story."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def shorten_path(path: Path) -> str:
    """Return a path as a person below whose feet it lies would write it."""
    try:
        here = Path.cwd()
        return str(path if path == here else path.relative_to(here))
    except (ValueError, OSError):
        return str(path)


def describe_problem(problem: Problem) -> JsonValue:
    """Return a problem as JSON."""
    return {
        "file": str(problem.file),
        "line": problem.line,
        "message": problem.message,
        "accepted": problem.accepted,
    }


def render_error(error: GoldsmithError) -> str:
    """Render an error for a person: what happened, the evidence indented, what to do next."""
    detail = error.detail
    if isinstance(error, DefinitionError):
        shown = (Problem(Path(shorten_path(p.file)), p.line, p.message, p.accepted) for p in error.problems)
        detail = "\n".join(str(problem) for problem in shown)
    lines = [f"error: {error.message}", *(f"  {line}".rstrip() for line in detail.splitlines())]
    return "\n".join([*lines, *([f"hint: {error.hint}"] if error.hint else [])])


def describe_error(error: GoldsmithError) -> JsonValue:
    """Return an error as the last JSON line of a command."""
    problems = [describe_problem(problem) for problem in error.problems] if isinstance(error, DefinitionError) else []
    return {
        "event": "error",
        "message": error.message,
        "hint": error.hint,
        "detail": error.detail,
        "exit_code": error.exit_code,
        **({"problems": problems} if problems else {}),
    }
