"""A shell on the node, for what the API has no way to do: reading and placing files, mostly.

One protocol, two ways: `LocalShell` on this machine (which the embedded node is), `ssh.SshShell` elsewhere; from
either, `attach.AttachShell` goes on into a container. They only start programs that every Debian has, so that a file is
handled by the same code wherever it lies.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import IO, Protocol

from goldsmith.base.errors import ProgramFailed, ShellFailed
from goldsmith.base.events import OnBytes
from goldsmith.base.process import Argument, Completed, open_process, run
from goldsmith.base.secrets import Secret
from goldsmith.pve.way import Way

PIECE = 1 << 20
Where = str | PurePosixPath


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


class TargetExists(ShellFailed):
    """There is a file of that name already; nothing is ever overwritten."""


class Shell(Protocol):
    """Root's shell on one machine. Paths are absolute. All methods raise `ShellFailed`."""

    @property
    def machine(self) -> str:
        """The machine's name, for messages."""
        ...

    def get_way(self, *, terminal: bool = False) -> Way:
        """Return how programs are started there, as root. It holds as long as the shell is open.

        :param terminal: for a program that a person sits before.
        """
        ...

    def run(self, argv: Sequence[Argument], *, text: str = "", timeout: float = 60.0, check: bool = True) -> Completed:
        """Run a program to its end; `text` is its input."""
        ...

    def open_read(self, path: Where) -> AbstractContextManager[IO[bytes]]:
        """Read a file's bytes while the block runs; an error at its end tells that not all could be read."""
        ...

    def put(self, source: Readable, path: Where, *, mode: int = 0o644, on_bytes: OnBytes | None = None) -> int:
        """Write a stream into a new file, complete or not there; return its size.

        :raises TargetExists: there is a file of that name.
        """
        ...

    def exists(self, path: Where) -> bool:
        """Tell whether there is something of that name."""
        ...

    def size(self, path: Where) -> int:
        """Return a file's size in bytes."""
        ...

    def list_directory(self, path: Where) -> list[str]:
        """Return the names in a directory, sorted; a missing one has none."""
        ...

    def make_directory(self, path: Where) -> None:
        """Make a directory and those above it, where they are missing."""
        ...

    def remove(self, path: Where) -> None:
        """Remove a file; one that is gone already is no failure."""
        ...

    def free_space(self, path: Where) -> int:
        """Return the bytes that can still be written where a path lies, or will lie."""
        ...


class CommandShell:
    """All of a shell but its way there: subclasses say how a program is started, and explain why that failed."""

    machine: str

    def get_way(self, *, terminal: bool = False) -> Way:
        """Return how programs are started there, as root."""
        raise NotImplementedError

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed, or that was never reached."""
        said = error.output.strip().splitlines()
        return ShellFailed(f"{argv[0]} failed on {self.machine}: {said[-1] if said else error}", detail=error.detail)

    def run(self, argv: Sequence[Argument], *, text: str = "", timeout: float = 60.0, check: bool = True) -> Completed:
        """Run a program to its end; its output is text."""
        way = self.get_way()
        given: str | Secret | None = text or None
        if way.first_input is not None:
            given = Secret(f"{way.first_input.reveal()}\n{text}")
        try:
            return run(way.limit(timeout).wrap(argv), input=given, timeout=timeout, check=check)
        except ProgramFailed as error:
            raise self.explain(argv, error) from error

    @contextmanager
    def open_read(self, path: Where) -> Iterator[IO[bytes]]:
        """Read a file through a pipe. A reader that stops early ends the program, which is then no failure."""
        with self._open(["cat", "--", str(path)]) as process:
            assert process.stdout is not None
            yield process.stdout
            if not process.stdout.read(1):
                self._finish(["cat", str(path)], process)

    def put(self, source: Readable, path: Where, *, mode: int = 0o644, on_bytes: OnBytes | None = None) -> int:
        """Write beside the target, flush to the disk, then link: that fails where a rename would overwrite."""
        target = PurePosixPath(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        with ExitStack() as stack:
            stack.callback(self.remove, temporary)
            done = self._write(source, temporary, on_bytes)
            self.run(["chmod", f"{mode:o}", "--", str(temporary)])
            try:
                self.run(["ln", "-T", "--", str(temporary), str(target)])
            except ShellFailed as error:
                if self.exists(target):
                    raise TargetExists(f"{target} exists already on {self.machine}; it is not overwritten") from error
                raise
        return done

    def exists(self, path: Where) -> bool:
        """Tell whether there is something of that name, be it a dangling link."""
        return bool(self._find(path, "-prune", "-printf", "%y"))

    def size(self, path: Where) -> int:
        """Return a file's size in bytes."""
        return int(self.run(["stat", "-L", "-c", "%s", "--", str(path)]).stdout)

    def list_directory(self, path: Where) -> list[str]:
        """Return the names in a directory."""
        return sorted(
            filter(None, self._find(path, "-mindepth", "1", "-maxdepth", "1", "-printf", "%f\\0").split("\0"))
        )

    def make_directory(self, path: Where) -> None:
        """Make a directory."""
        self.run(["mkdir", "-p", "--", str(path)])

    def remove(self, path: Where) -> None:
        """Remove a file."""
        self.run(["rm", "-f", "--", str(path)])

    def free_space(self, path: Where) -> int:
        """Ask df about the nearest directory above that exists."""
        place = PurePosixPath(path)
        while not self.exists(place) and place != place.parent:
            place = place.parent
        return int(self.run(["df", "--output=avail", "-B1", "--", str(place)]).stdout.split()[-1])

    def _find(self, path: Where, *expression: str) -> str:
        """Ask find about a path; one that is missing gives nothing (a leading `-` is no option: paths are absolute)."""
        completed = self.run(["find", str(path), *expression], check=False)
        if completed.returncode != 0 and "No such file or directory" not in completed.stderr:
            failed = ProgramFailed(completed.command, completed.returncode, completed.stderr)
            raise self.explain(["find", str(path)], failed)
        return completed.stdout

    def _write(self, source: Readable, path: PurePosixPath, on_bytes: OnBytes | None) -> int:
        argv = ["dd", f"of={path}", "bs=1M", "iflag=fullblock", "conv=excl,fsync", "status=none"]
        done = 0
        with self._open(argv, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            try:
                if (password := self.get_way().first_input) is not None:
                    process.stdin.write(f"{password.reveal()}\n".encode())
                while piece := source.read(PIECE):
                    process.stdin.write(piece)
                    done += len(piece)
                    if on_bytes is not None:
                        on_bytes(done)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and says why
            self._finish(argv, process)
        return done

    @contextmanager
    def _open(self, argv: Sequence[Argument], *, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """Start a program with its streams in our hands; it writes little to stderr, so that no pipe fills up."""
        way = self.get_way()
        password = way.first_input
        feeds_itself = password is not None and stdin == subprocess.DEVNULL
        with open_process(way.wrap(argv), stdin=subprocess.PIPE if feeds_itself else stdin) as process:
            if feeds_itself and password is not None and process.stdin is not None:
                process.stdin.write(f"{password.reveal()}\n".encode())
                process.stdin.close()
            yield process

    def _finish(self, argv: Sequence[Argument], process: subprocess.Popen[bytes]) -> None:
        """Wait for a program and judge it."""
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace")
        if returncode := process.wait(60):
            raise self.explain(argv, ProgramFailed(" ".join(str(word) for word in argv), returncode, said))


class LocalShell(CommandShell):
    """This machine's own shell: as root directly, else through sudo, which must not ask for a password."""

    machine = "this machine"

    def get_way(self, *, terminal: bool = False) -> Way:  # noqa: ARG002 - a terminal reaches what runs here by itself
        """Return how programs are started here, as root."""
        return Way() if os.geteuid() == 0 else Way(("sudo", "-n", "--"))

    def explain(self, argv: Sequence[Argument], error: ProgramFailed) -> ShellFailed:
        """Return our error for a program that failed; says how sudo is to be set up where it refused."""
        failed = super().explain(argv, error)
        if "sudo:" in error.output:
            failed.hint = "run as root, or let your user use sudo without a password (sudo visudo)"
        return failed
