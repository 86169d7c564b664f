"""The command line from end to end: real processes, a node of the tests' own that commands start and stop themselves.

Run as root: `pytest tests/journey`. The base template comes from the cache that tests/lxc keeps (or is made once).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goldsmith.build.cache import guests as cache
from goldsmith.build.journal import MARK
from goldsmith.node import daemon
from goldsmith.node.settings import NodeSettings
from tests.lxc.conftest import ensure_template
from tests.lxc.guests import RunningNode, wait_until

PROJECT = Path(__file__).parents[2]
GOLDSMITH = Path(sys.executable).parent / "goldsmith"
PASSWORD = f"correct-horse-battery-staple-{os.getpid()}"
"""Of this process alone: who looks for it on the whole machine must not find that of another journey."""
HEARD = ("env", "--default-signal=HUP,INT,TERM")
"""Started in the background or by nohup, tests ignore a signal, and what they start would too (signal(7))."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say plainly why nothing runs where it cannot."""
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@dataclass
class Journey:
    """A person's project and shell: `goldsmith("build", "lxc")`."""

    project: Path
    node: RunningNode
    home: Path
    secrets: dict[str, str] = field(default_factory=lambda: {"TEMPLATE_PASSWORD": PASSWORD})

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TMPDIR": str(self.home / "tmp"),
            "GOLDSMITH_NODE_STATE": str(self.node.settings.state), **self.secrets,
        }  # fmt: skip

    @property
    def images(self) -> Path:
        return self.project / "images"

    def write_image(self, playbook: str, variables: str = "", *, name: str = "lxc") -> None:
        folder = self.images / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "playbook.yml").write_text(playbook)
        (folder / "vars.yml").write_text(variables)

    def goldsmith(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; it must end with `code`."""
        done = subprocess.run(
            [GOLDSMITH, *words], cwd=self.project, env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words: str) -> Started:
        """Start a command in a process group of its own and with ears for every signal, as a terminal's shell does."""
        output = self.home / f"output-{len(list(self.home.glob('output-*')))}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*HEARD, GOLDSMITH, *words], cwd=self.project, env=self.env, stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip
        return Started(process, output)

    def use_node(self) -> RunningNode:
        """Start the node for the test's own look at it."""
        self.node.start()
        return self.node

    def find_leftovers(self) -> list[str]:
        """Everything that a build may have left: guests, dumps, journals, temporary files, processes."""
        running = daemon.status(self.node.settings) is not None
        self.node.start()
        found = [f"guest {guest['vmid']}" for guest in self.node.lxc.get() if not self._keeps_layers(guest)]
        found += [
            volume["volid"] for volume in self.node.api.nodes("pve").storage("plain").content.get(content="backup")
        ]
        if not running:
            daemon.stop(self.node.settings)
        found += [str(path) for path in (self.home / "tmp").iterdir()]
        found += [str(path) for path in (self.home / ".local/state/goldsmith/runs").glob("*")]
        return found + self.list_processes()

    def _keeps_layers(self, guest: dict[str, Any]) -> bool:
        """Tell whether a guest is there for its finished layers alone: stopped, and in nobody's hands."""
        if cache.TAGS[1] not in str(guest.get("tags", "")) or guest["status"] != "stopped":
            return False
        return MARK not in self.node.lxc(int(guest["vmid"])).config.get()["description"]

    def list_processes(self) -> list[str]:
        """Processes that were started by a build of this project: they have its home in their environment."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                mine = f"HOME={self.home}\0".encode() in environ.read_bytes()
                command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            is_node = "goldsmith.node" in command or "dnsmasq" in command or "lxc" in command.partition(" ")[0]
            if mine and command and not is_node:
                found.append(command)
        return found


@dataclass
class Started:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    file: Path

    @property
    def output(self) -> str:
        return self.file.read_text(errors="replace")

    def await_text(self, text: str, *, seconds: float = 120.0) -> None:
        def said() -> bool:
            assert self.process.poll() is None or text in self.output, self.output
            return text in self.output

        wait_until(said, seconds=seconds, what=f"{text!r} in the output")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def wait(self, *, seconds: float = 120.0) -> int:
        return self.process.wait(seconds)


@pytest.fixture(scope="session")
def stopped_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that has the base template and does not run."""
    number = os.getpid() % 100
    state = tmp_path_factory.mktemp("journey") / "node"
    settings = NodeSettings(
        state=state, port=19000 + number, host_bridge=f"gsj{os.getpid() % 100000}",
        network=f"10.{100 + number}.0.1/16", disk_size=40 << 30,
    )  # fmt: skip
    node = RunningNode(settings)
    try:
        node.start()
        node.template = ensure_template(node)
        daemon.stop(settings)
        yield node
    finally:
        node.remove()


@pytest.fixture
def journey(stopped_node: RunningNode, tmp_path: Path) -> Iterator[Journey]:
    """A project with the shipped image, and a home; afterwards the node is stopped and bare."""
    made = Journey(tmp_path / "project", stopped_node, tmp_path / "home")
    (made.home / "tmp").mkdir(parents=True)
    shutil.copytree(PROJECT / "images", made.images)
    shutil.copytree(PROJECT / "inventory", made.project / "inventory")
    yield made
    stopped_node.start()
    for guest in stopped_node.lxc.get():
        stopped_node.do(stopped_node.lxc(int(guest["vmid"])).delete(force=1, purge=1))
    remove_backups(stopped_node)
    daemon.stop(stopped_node.settings)


def remove_backups(node: RunningNode) -> None:
    """Remove the backups that a fleet's journey made: the next journey begins on a bare node."""
    content = node.api.nodes("pve").storage("plain").content
    for volume in content.get(content="backup"):
        content(volume["volid"]).put(protected=0)
        node.do(content(volume["volid"]).delete())
