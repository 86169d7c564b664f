"""The entry point: help, errors in words, exit codes, crashes, streams that have gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from goldsmith.base import errors
from goldsmith.base.errors import DefinitionError, GoldsmithError, PlaybookFailed, Problem, UsageError
from goldsmith.base.secrets import Masker, Secret
from goldsmith.cli import main
from goldsmith.cli.main import COMMANDS, UNEXPECTED, run
from goldsmith.cli.output import render_error
from tests.unit.cli.running import GOLDSMITH, goldsmith, make_environment

HEAVY = ("pydantic", "rich", "requests", "ansible_runner", "aiohttp", "proxmoxer", "ansible", "jinja2", "ruamel")


def test_help_lists_every_command_with_the_first_sentence_of_its_own_help() -> None:
    for name, lazy in COMMANDS.items():
        command = lazy.load()
        assert command.name == name
        assert (command.help or "").splitlines()[0] == lazy.help


def test_help_imports_nothing_that_takes_long(tmp_path: Path) -> None:
    code = (
        "import sys; from goldsmith.cli.main import run; run(['--help']); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=make_environment(tmp_path)
    )
    assert "Commands:" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: goldsmith {name}")
    assert "--json" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("goldsmith 0.")


def test_without_a_command_the_list_is_shown_and_the_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr()
    assert "Commands:" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["biuld"], "there is no command 'biuld'; did you mean 'build'?", "goldsmith --help"),
        (["--colour"], "no such option '--colour'", "goldsmith --help"),
        (["build"], "missing argument 'IMAGE...'", "goldsmith build --help"),
        (["node", "stat"], "no such command 'stat'", "goldsmith node --help"),
        (["images", "show"], "missing argument 'REF'", "goldsmith images show --help"),
    ],
)
def test_a_wrong_command_line_is_told_in_our_words(
    arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {message}")
    assert said.err.splitlines()[-1] == f"hint: {hint}"
    assert said.out == ""


def test_with_json_an_error_is_the_last_line_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["biuld", "--json"]) == 2
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert said.err == ""
    assert told == {
        "event": "error", "message": "there is no command 'biuld'; did you mean 'build'?",
        "hint": "goldsmith --help", "detail": "", "exit_code": 2,
    }  # fmt: skip


def test_an_error_shows_its_evidence_indented_and_then_what_to_do() -> None:
    error = PlaybookFailed(task="Install", host="guest", said="no package", log=Path("/x/y.log"), tail="one\n\ntwo")
    assert render_error(error) == (
        "error: task 'Install' failed on guest: no package\n  one\n\n  two\nhint: the whole log: /x/y.log"
    )


def test_problems_are_shown_with_paths_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = DefinitionError([Problem(tmp_path / "images/a/vars.yml", 3, "is no number", "a whole number")])
    assert "  images/a/vars.yml:3: is no number (accepted: a whole number)" in render_error(error).splitlines()


def all_errors(root: type[GoldsmithError]) -> list[type[GoldsmithError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("kind", [kind for kind in all_errors(GoldsmithError) if kind.__module__ == errors.__name__])
def test_every_error_of_the_tree_ends_the_program_with_its_own_code(
    kind: type[GoldsmithError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind.__new__(kind)
    GoldsmithError.__init__(error, "what happened", hint="what to do")
    if isinstance(error, DefinitionError):
        error.problems = []
    fail_with(error, monkeypatch)
    assert run(["images"]) == kind.exit_code
    assert capsys.readouterr().err == "error: what happened\nhint: what to do\n"


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch, secret: str = "") -> None:
    """Put a command that fails in the place of `images`."""

    @click.command()
    @click.pass_context
    def images(context: click.Context) -> None:
        masker = context.find_root().obj
        assert isinstance(masker, Masker)
        masker.add(Secret(secret))
        raise error

    monkeypatch.setattr(main.goldsmith, "lazy", {"images": Loaded(images)})


class Loaded:
    def __init__(self, command: click.Command) -> None:
        self.command = command

    def load(self) -> click.Command:
        return self.command


def test_a_fault_of_goldsmith_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    fail_with(ZeroDivisionError("by hunter2"), monkeypatch, secret="hunter2")
    assert run(["images"]) == UNEXPECTED == 70
    (crash,) = (tmp_path / "goldsmith/crashes").iterdir()
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "error: goldsmith itself has failed: ZeroDivisionError: by ********",
        f"hint: this is a fault of goldsmith; please report it with {crash}",
    ]
    assert crash.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in crash.read_text()
    assert "hunter2" not in crash.read_text()


def test_the_traceback_of_a_fault_is_shown_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("GOLDSMITH_DEBUG", "1")
    fail_with(KeyError("x"), monkeypatch)
    assert run(["images"]) == UNEXPECTED
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_crash_file_that_cannot_be_written_is_no_second_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    fail_with(KeyError("x"), monkeypatch)
    assert run(["images"]) == UNEXPECTED
    assert "GOLDSMITH_DEBUG=1 shows it" in capsys.readouterr().err


def test_what_the_system_refuses_is_no_fault_of_goldsmith(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(OSError(28, "No space left on device", "/srv/repository/blob"), monkeypatch)
    assert run(["images"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: /srv/repository/blob: No space left on device",
        "hint: make room there, then run the command again",
    ]


def test_ctrl_c_outside_the_work_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert run(["images"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted by SIGINT"


def test_a_reader_that_stops_early_is_no_fault(tmp_path: Path) -> None:
    command = " ".join([*GOLDSMITH, "--help"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True,
        env=make_environment(tmp_path),
    )  # fmt: skip
    assert done.stdout.strip() in ("1", "0")  # 0: it was done before the reader had gone
    assert done.stderr == ""


def test_a_full_disk_behind_standard_output_is_an_error_in_words(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*GOLDSMITH, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=make_environment(tmp_path),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device")
    assert "Traceback" not in done.stderr


def test_closed_streams_are_no_fault(tmp_path: Path) -> None:
    command = " ".join([*GOLDSMITH, "images"])
    done = subprocess.run(
        ["bash", "-c", f"{command} >&- 2>&-"], check=False, cwd=tmp_path, env=make_environment(tmp_path)
    )
    assert done.returncode == UsageError.exit_code


def test_outside_a_project_the_way_to_one_is_named(tmp_path: Path) -> None:
    done = goldsmith("images", home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("or make one: goldsmith init DIRECTORY")
