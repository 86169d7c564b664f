"""A build's process is killed, or its disk full, at every place while it stores a version: no half version is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from goldsmith.artifacts.layout import Layout
from goldsmith.artifacts.repository import Repository, open_repository

from .making import put, small_tar

CHILD = """
import resource, signal, sys
from tests.unit.artifacts.making import make_record
from goldsmith.artifacts.repository import NewVersion, open_repository
from pathlib import Path
from goldsmith.base.errors import GoldsmithError

def say(word):
    print(word, flush=True)

if sys.argv[2:] and sys.argv[2].isdigit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with open_repository(Path(sys.argv[1])).open_writer() as writer:
        say("open")
        layers = writer.add_layers(sys.stdin.buffer)
        say("layer")
        version = writer.put(NewVersion(name="debian", layers=layers, record=make_record()))
        say("put")
        while "pause" in sys.argv:
            signal.pause()
    say("closed")
except GoldsmithError as error:
    say(f"{type(error).__name__}: {error}")
"""
Start = Callable[..., subprocess.Popen[bytes]]
ARCHIVE = small_tar(("./a", os.urandom(6 << 20)), ("./b", b"b"))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = open_repository(tmp_path / "repository")
    put(made, "debian")
    return made


@pytest.fixture
def start(repository: Repository) -> Iterator[Start]:
    """Start builds as processes of their own; none outlives the test."""
    root = Path(__file__).parents[3]
    started: list[subprocess.Popen[bytes]] = []

    def start_one(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CHILD, str(repository.path), *arguments]
        environment = {"PYTHONPATH": f"{root}/src:{root}"}
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, env=environment)
        started.append(child)
        return child

    yield start_one
    for child in started:
        kill(child)


def kill(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def check_whole(repository: Repository, count: int) -> None:
    """Right after the kill, and once more after the next version, which removes what was left over."""
    assert len(repository.list_versions("debian")) == count
    assert repository.verify() == []
    put(repository, "next")
    assert list((repository.path / ".goldsmith/incoming").iterdir()) == []
    present = {path.name for path in (repository.path / "blobs/sha256").iterdir()}
    assert present == {d.digest.removeprefix("sha256:") for d in Layout(repository.path).list_references()}


def test_killed_in_the_middle_of_a_layer(repository: Repository, start: Start) -> None:
    child = start()
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    child.stdin.write(small_tar(("./large", os.urandom(24 << 20)))[: 23 << 20])  # packed in pieces of 8 MiB
    child.stdin.flush()
    incoming = repository.path / ".goldsmith/incoming"
    deadline = time.monotonic() + 10
    while not any(path.stat().st_size for path in incoming.glob("*/*")):
        assert time.monotonic() < deadline, "the child has written nothing"
        time.sleep(0.01)
    kill(child)
    assert list(incoming.glob("*/*")), "nothing was left over: the test proves nothing"
    check_whole(repository, 1)


@pytest.mark.parametrize(("word", "count"), [(b"layer\n", 1), (b"put\n", 2)])
def test_killed_between_two_steps(repository: Repository, start: Start, word: bytes, count: int) -> None:
    child = start("pause")
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(ARCHIVE)
    child.stdin.close()
    while (line := child.stdout.readline()) != word:
        assert line, f"the child ended before it said {word!r}"
    if word == b"layer\n":
        child.send_signal(signal.SIGSTOP)  # it may already be in the middle of `put`, or done with it
        count = len(repository.list_versions("debian"))
    kill(child)
    check_whole(repository, count)


@pytest.mark.slow
def test_killed_at_any_moment(repository: Repository, start: Start) -> None:
    outcomes = set()
    for step in range(16):
        before = len(repository.list_versions("debian"))
        child = start()
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        child.stdin.write(ARCHIVE)
        child.stdin.close()
        time.sleep(step * 0.01)
        kill(child)
        after = len(repository.list_versions("debian"))
        outcomes.add(after - before)
        check_whole(repository, after)
    assert 0 in outcomes, "every child was done before it was killed: the test proves nothing"
    assert outcomes <= {0, 1}


@pytest.mark.parametrize("limit", ["1", "300", "1000000"])
def test_a_file_that_may_not_grow(repository: Repository, start: Start, limit: str) -> None:
    """The kernel refuses to write on, as on a full disk: in a layer, in a small document, at the very first byte."""
    child = start(limit)
    said = child.communicate(ARCHIVE, timeout=20)[0].decode().splitlines()
    assert said[-1].startswith("RepositoryError: cannot write into the repository"), said
    check_whole(repository, 1)


def test_a_writer_at_work_keeps_its_half_written_blob(repository: Repository, start: Start) -> None:
    """Others add versions meanwhile, and remove what is left over - but nothing of his."""
    child = start()
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    child.stdin.write(ARCHIVE[:100_000])
    child.stdin.flush()
    put(repository, "meanwhile")
    child.stdin.write(ARCHIVE[100_000:])
    child.stdin.close()
    assert child.stdout.read().decode().split() == ["layer", "put", "closed"]
    child.stdout.close()
    assert child.wait(10) == 0
    check_whole(repository, 2)
