"""The node dies in the middle of a task, with its workers: the command ends clearly, the next run removes all of it.

Each kind of task that a build or a test begins; a guest of somebody else runs all the while.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goldsmith.artifacts.repository import open_repository
from goldsmith.base.digest import digest_file
from goldsmith.base.errors import GoldsmithError, NodeUnreachable, PlaybookFailed
from goldsmith.base.events import Notice
from goldsmith.build.run import Built
from goldsmith.build.sweep import sweep_orphans
from goldsmith.node import daemon
from goldsmith.pve import tasks
from tests.lxc.guests import Guest, Guests, RunningNode
from tests.lxc.images import SMALL, open_site
from tests.lxc.layers import LayeredWorkshop, drop_layers
from tests.lxc.trials import Trials

pytestmark = [
    pytest.mark.root,
    # a client's socket whose server was killed in the middle of a handshake is closed by nobody (http.client)
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket"),
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]
FAILING = SMALL.replace("true", "exit 3")
LAYERS = "layers: [{name: one, playbook: one.yml}, {name: three, playbook: three.yml}]\ntemp_disk_size: plain:2\n"


@dataclass
class Killer(threading.Thread):
    """Kills the node as soon as a task of some type has run for a moment."""

    node: RunningNode
    kind: str
    after: float = 0.03
    seen: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        active = self.node.node.tasks / "active"
        while not self.ended.is_set() and not self.seen:
            with suppress(OSError):
                self.seen += [name for name in os.listdir(active) if f":{self.kind}:" in name]  # noqa: PTH208
            time.sleep(0.001)
        if self.seen:
            time.sleep(self.after)
            self.node.crash()


@pytest.fixture(scope="module")
def theirs(node: RunningNode) -> Iterator[Guest]:
    """A guest of somebody else, in the range of our vmids, that runs."""
    guests = Guests(node)
    guest = Guest(node, 901)
    guests.made.append(901)
    node.do(guests.request(901, rootfs="plain:1", mp0="local:1,mp=/data", tags="goldsmith"))
    yield guest.start()
    guests.remove_all()


@pytest.fixture(scope="module")
def shared(
    node: RunningNode, theirs: Guest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LayeredWorkshop]:  # fmt: skip
    """A project with a version, and an archive of its first layer."""
    del theirs
    folder = tmp_path_factory.mktemp("project")
    (folder / "base.tar.zst").symlink_to(node.path(node.template))
    with open_site(node) as site:
        drop_layers(site)
        made = LayeredWorkshop(folder, site, layers=f"{LAYERS}base_image: ../../base.tar.zst\n")
        made.describe()
        check_base(made.build(), Path(folder / "base.tar.zst"))
    yield made
    with open_site(node) as site:
        drop_layers(site)
        for volume in site.node.storage.list_content("local", "vztmpl"):
            if volume.volid != node.template:
                site.node.storage.delete_volume(volume.volid)


def check_base(built: Built, file: Path) -> None:
    """A version whose base was a file of this machine says so."""
    assert (built.version.base_name, built.version.base_digest) == (file.name, digest_file(file))


@pytest.fixture
def workshop(
    shared: LayeredWorkshop, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LayeredWorkshop]:  # fmt: skip
    monkeypatch.setattr(tasks, "PATIENCE", 0.3)
    with open_site(node) as site:
        shared.site = site
        shared.describe()
        shared.told.clear()
        yield shared


@pytest.fixture
def slow_url(tmp_path: Path) -> Iterator[str]:
    """A template behind a URL that comes slowly."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000000")
            self.end_headers()
            with suppress(OSError):
                for _ in range(1000):
                    self.wfile.write(b"x" * 1000)
                    time.sleep(0.02)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Slow)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/base.tar.zst"
        server.shutdown()


def list_traces(node: RunningNode, theirs: Guest, known: frozenset[str]) -> list[str]:
    """Everything of guests, dumps and downloads on the node and this machine that was not there before."""
    return sorted(look(node, theirs) - known)


def look(node: RunningNode, theirs: Guest) -> frozenset[str]:
    state = node.settings.state
    patterns = ("*/images/*/*", "*/dump/*", "*/template/cache/*", "*/.upload/*", "run/*")
    files = [path for pattern in patterns for path in state.glob(pattern)]
    found = {str(path) for path in files if path.suffix not in (".log", ".sock") and not path.name.startswith("lxc-")}
    found |= {str(path) for path in node.node.configs.rglob("*.conf")}
    found |= {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(state) in line}
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    found |= {
        line.split("@")[0] for line in links.splitlines() if line.startswith("veth") and f"{theirs.vmid}i" not in line
    }
    monitors = subprocess.run(["pgrep", "-af", f"lxc.*{state}"], capture_output=True, text=True, check=False).stdout
    found |= {line.partition(" ")[2] for line in monitors.splitlines() if f" {theirs.vmid}" not in line}
    return frozenset(found)


def begin_build(workshop: LayeredWorkshop) -> None:
    workshop.build()


def begin_test(workshop: LayeredWorkshop) -> None:
    repository = open_repository(workshop.load().repository)
    Trials(workshop).test(repository.list_versions()[-1])


CASES: dict[str, tuple[str, Callable[[LayeredWorkshop], None], Callable[[LayeredWorkshop, str], None], float]] = {}


def case(name: str, kind: str, work: Callable[[LayeredWorkshop], None], after: float = 0.03) -> Any:
    def add(prepare: Callable[[LayeredWorkshop, str], None]) -> Any:
        CASES[name] = (kind, work, prepare, after)
        return prepare

    return add


def make_playbook() -> str:
    """One that has never been run."""
    return SMALL.replace("true", f"echo {time.time_ns()}")


@case("download", "download", begin_build, 0.2)
def _download(workshop: LayeredWorkshop, url: str) -> None:
    checksum = "sha256:" + hashlib.sha256(b"x").hexdigest()
    workshop.write_image(SMALL, f"base_image: {url}\nbase_checksum: {checksum}\n")


@case("create, copied on write", "vzcreate", begin_build)
@case("dump", "vzdump", begin_build, 0.1)
def _build(workshop: LayeredWorkshop, _url: str) -> None:
    workshop.write_image(make_playbook())


@case("destroy", "vzdestroy", begin_build)
def _failing(workshop: LayeredWorkshop, _url: str) -> None:
    workshop.write_image(FAILING)


@case("create, unpacked", "vzcreate", begin_build, 0.4)
def _unpacked(workshop: LayeredWorkshop, _url: str) -> None:
    workshop.write_image(make_playbook(), "temp_disk_size: plain:2\n")


@case("restore", "vzrestore", begin_build, 0.3)
def _restore(workshop: LayeredWorkshop, _url: str) -> None:
    workshop.describe(three=str(time.time_ns()))


@case("test: destroy", "vzdestroy", begin_test)
def _test(workshop: LayeredWorkshop, _url: str) -> None:
    del workshop


@pytest.mark.parametrize("name", CASES)
def test_a_node_that_dies_in_mid_task(
    workshop: LayeredWorkshop, node: RunningNode, theirs: Guest, slow_url: str, name: str
) -> None:
    kind, work, prepare, after = CASES[name]
    init, config, before = theirs.runtime.find_init(), theirs.config, look(node, theirs)
    prepare(workshop, slow_url)
    killer = Killer(node, kind, after)
    killer.start()
    error = end_work(work, workshop)
    killer.ended.set()
    killer.join()
    assert killer.seen, "no such task"
    assert daemon.status(node.settings) is None
    if error is not None:
        check_told(error, workshop)
    node.start()
    with open_site(node) as site:
        workshop.site = site
        sweep_orphans(site, workshop.state, Recorder(workshop).events)
        assert workshop.find_leftovers() == []
    assert list_traces(node, theirs, before) == []
    assert (theirs.runtime.find_init(), theirs.config) == (init, config)


def end_work(work: Callable[[LayeredWorkshop], None], workshop: LayeredWorkshop) -> GoldsmithError | None:
    try:
        work(workshop)
    except GoldsmithError as error:
        return error
    return None  # the node has died when all was done but removing


class Recorder:
    def __init__(self, workshop: LayeredWorkshop) -> None:
        from goldsmith.base.events import Events

        self.events = Events(workshop.told.append)


def check_told(error: GoldsmithError, workshop: LayeredWorkshop) -> None:
    assert isinstance(error, NodeUnreachable | PlaybookFailed), error
    assert error.hint
    if not any((workshop.state / "runs").iterdir()):
        return  # it had nothing to remove
    told = [event.message for event in workshop.told if isinstance(event, Notice)]
    assert any("the next build or test there removes it, or `goldsmith clean`" in message for message in told), told
