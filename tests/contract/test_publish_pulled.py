"""Versions that nodes pull themselves in publishing: a Proxmox VE 9.1 that pulls nothing really, and a real registry.

What is really pulled, and run, is in lxc/test_oci_pull.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from goldsmith.artifacts.channels import set_channel
from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.pulling import ensure_reference, measure_archive
from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.events import Event, Events, Notice
from goldsmith.build.carry import name_archive, name_template
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.plan import plan_publish
from goldsmith.build.publish.run import Published, run_publish
from goldsmith.build.pull import Way
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.build.undo import Undo
from goldsmith.cli.main import run
from goldsmith.cli.site import open_own
from goldsmith.pve import door, tasks
from goldsmith.pve.absent import AbsentShell

from . import fakes
from .fakes import FAULTS, Fault, Node, open_site, serve_node
from .registry import RealRegistry
from .test_first_contact import SECRET
from .test_publish import ROOM, VARIABLES, Shop, add_storage

EVERYWHERE = {"pve1:nas", "pve2:fast", "pve1:local"}
OVERHEAD = 9000


@dataclass
class Market(Shop):
    """A shop whose versions are in a registry, and whose nodes are to pull them."""

    registry: RealRegistry
    node: Node

    @property
    def repository(self) -> Repository:
        return self.registry.open("images")

    def offer(self, content: bytes) -> Version:
        """Put a version that has passed its tests, and let nodes pull it."""
        version = self.put(content)
        self.node.images[ensure_reference(self.repository, version)] = measure_archive(version).start + OVERHEAD
        return version

    def pulled(self, storage: str, version: Version) -> int | None:
        """The size of what was pulled of a version into a storage."""
        volume = self.fake.storages[storage].get("volumes", {}).get(f"vztmpl/{name_archive(version)}")
        return None if volume is None else int(volume["size"])

    def count(self, ending: str) -> int:
        return len([one for one in self.fake.requests if one[0] == "POST" and one[1].endswith(ending)])

    def configure(self, repository: str = "", *, pull: bool = True) -> None:
        text = VARIABLES.format(host=self.node.host, port=self.node.port, ca_file=self.node.certificate)
        text += f"proxmox_pull: {str(pull).lower()}\nrepository: {repository or f'oci://{self.registry.host}/images'}\n"
        (self.project / "images/golden/vars.yml").write_text(text)


@pytest.fixture
def market(
    tmp_path: Path, registry: RealRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Market]:
    folder = tmp_path / "images/golden"
    folder.mkdir(parents=True)
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PROXMOX_API_TOKEN_SECRET", SECRET)
    (tmp_path / "pve").mkdir()
    with serve_node(tmp_path / "pve") as node:
        node.version = "9.1.4"
        node.add_node("pve2")
        add_storage(node, "nas", shared=1)
        add_storage(node, "fast", nodes="pve2")
        node.storages["local"].update(total=ROOM, avail=ROOM)
        node.apitokens["root@pam!ci"] = SECRET
        made = Market(node, tmp_path, capsys, registry, node)
        made.configure()
        yield made


def test_nodes_pull_what_is_declared_and_the_second_time_nothing(market: Market) -> None:
    version = market.offer(b"one")
    plan = market.goldsmith("publish", "--check")["plan"]
    assert {(f"{one['node']}:{one['storage']}", one["action"]) for one in plan} == {
        (place, "pull") for place in EVERYWHERE
    }
    why = f"it is not there yet; the node pulls it from oci://{market.registry.host}/images"
    assert {one["reason"] for one in plan} == {why}
    assert {one["volid"].partition("/")[2] for one in plan} == {name_archive(version)}
    assert market.publish() == dict.fromkeys(EVERYWHERE, "pulled")
    size = measure_archive(version).start + OVERHEAD
    assert {market.pulled(storage, version) for storage in ("nas", "fast", "local")} == {size}
    assert (market.count("/upload"), market.count("/oci-registry-pull")) == (0, 3)
    assert market.publish() == dict.fromkeys(EVERYWHERE, "there")
    assert {one["reason"] for one in market.goldsmith("publish", "--check")["plan"]} == {
        "it is there, pulled by a node"
    }
    assert (market.count("/upload"), market.count("/oci-registry-pull")) == (0, 3)
    market.configure(pull=False)
    assert market.publish() == dict.fromkeys(EVERYWHERE, "there")
    assert market.count("/upload") == 0


def test_what_was_sent_is_not_pulled(market: Market) -> None:
    version = market.offer(b"one")
    market.configure(pull=False)
    assert market.publish("--storage", "nas") == {"pve1:nas": "sent"}
    market.configure()
    assert market.publish("--storage", "nas") == {"pve1:nas": "there"}
    assert (market.lies("nas", version), market.pulled("nas", version)) == (measure_template(version), None)


def test_an_older_node_is_sent_it_and_that_is_told(market: Market) -> None:
    """Into a shared storage nothing is pulled that one of the nodes which see it cannot use."""
    version = market.offer(b"one")
    market.node.versions["pve2"] = "9.0.11"
    plan = market.goldsmith("publish", "--check")["plan"]
    why = "pve2 runs 9.0.11 and cannot pull, which Proxmox VE can since 9.1"
    assert {(one["storage"], one["action"], one["reason"].partition("; sent, as ")[2]) for one in plan} == {
        ("nas", "send", why), ("fast", "send", why), ("local", "pull", ""),
    }  # fmt: skip
    assert run(["publish"]) == 0
    told = market.said.readouterr()
    assert f"{version} is sent to pve1:nas: {why}" in told.err
    assert "2 sent" in told.err
    assert "1 pulled" in told.err
    assert f"{version} local:vztmpl/{name_archive(version)} pve1\n" in told.out
    assert f"{version} nas:vztmpl/{name_template(version)} pve1\n" in told.out
    assert market.publish() == dict.fromkeys(EVERYWHERE, "there")


def test_what_is_in_a_directory_is_sent_and_that_is_told(market: Market) -> None:
    folder = market.project / "repository"
    market.configure(str(folder))
    version = Shop.put(Shop(market.fake, market.project, market.said), b"one")
    assert run(["publish", "--storage", "nas"]) == 0
    told = market.said.readouterr()
    assert f"{version} is sent to pve1:nas: {folder} is a directory, and a node pulls from a registry only" in told.err
    assert told.out == f"{version} nas:vztmpl/{name_template(version)} pve1\n"


def test_one_place_that_cannot_pull_does_not_stop_the_others(market: Market) -> None:
    version = market.offer(b"one")
    reason = "Permission check failed (/nodes/pve2, Sys.AccessNetwork)"
    market.node.fail("POST", "/storage/fast/oci-registry-pull", 403, reason)
    assert run(["publish", "--storage", "nas", "--storage", "pve2:fast"]) == 5
    told = market.said.readouterr()
    assert "Permission check failed (/nodes/pve2, Sys.AccessNetwork)" in told.err
    assert "Datastore.AllocateTemplate on /storage/fast, and Sys.AccessNetwork on /nodes/pve2" in told.err
    assert "Traceback" not in told.err
    assert told.out == f"{version} nas:vztmpl/{name_archive(version)} pve1\n"
    assert market.publish("--storage", "pve2:fast", code=5) == {"pve2:fast": "failed"}
    assert (market.pulled("fast", version), market.lies("fast", version)) == (None, None)


def test_what_another_machine_had_pulled_meanwhile_is_there(market: Market) -> None:
    version = market.offer(b"one")
    market.node.rivals = {"nas"}
    assert market.publish("--storage", "nas") == {"pve1:nas": "pulled"}
    assert market.pulled("nas", version) == measure_archive(version).start + OVERHEAD


def test_a_registry_that_the_node_cannot_read_is_told(market: Market) -> None:
    version = market.offer(b"one")
    market.node.images.clear()
    assert run(["publish", "--storage", "nas"]) == 5
    told = market.said.readouterr().err
    assert "skopeo failed: exit code 1" in told
    assert (
        f"it is pve1 that pulls: it must reach {market.registry.host}, which must let it read without a login" in told
    )
    assert market.pulled("nas", version) is None


def test_what_is_not_whole_is_removed_again(market: Market) -> None:
    version = market.offer(b"one")
    market.node.images = dict.fromkeys(market.node.images, measure_archive(version).start - 1)
    assert run(["publish", "--storage", "nas"]) == 5
    assert f"nas:vztmpl/{name_archive(version)} on pve1 has " in market.said.readouterr().err
    assert market.pulled("nas", version) is None


def test_a_file_of_that_name_with_another_content_is_left_alone(market: Market) -> None:
    version = market.offer(b"one")
    market.fake.store_file("nas", name_archive(version), 77, "vztmpl")
    assert market.publish("--storage", "nas", code=5) == {"pve1:nas": "refused"}
    assert (market.pulled("nas", version), market.count("/oci-registry-pull")) == (77, 0)


def test_what_was_pulled_is_listed_and_withdrawn_and_nothing_else_is(market: Market) -> None:
    """Its version proves it while that is in the repository, then what was written down when it was brought."""
    old, stable, changed, newest = (market.offer(b"%d" % number) for number in range(4))
    for version in (old, stable, changed, newest):
        market.publish(str(version), "--storage", "nas")
    volumes, stranger = market.fake.storages["nas"]["volumes"], "golden-20261101.1-0123456789ab.tar"
    volumes[f"vztmpl/{name_archive(changed)}"]["size"] += 512  # within what its archive may have, and not what it had
    market.fake.store_file("nas", stranger, 5000, "vztmpl")
    set_channel(market.repository, "stable", stable)

    (place,) = market.goldsmith("images", "where", "--storage", "nas", code=4)["places"]
    assert {one["volid"].rpartition("/")[2]: one["state"] for one in place["templates"]} == {
        name_archive(old): "published", name_archive(stable): "published", name_archive(changed): "broken",
        name_archive(newest): "published", stranger: "stranger",
    }  # fmt: skip
    only = ("--storage", "nas", "--keep-last", "1")
    done = market.goldsmith("images", "withdraw", *only, "--yes")["templates"]
    assert [one["volid"] for one in done if one["goes"]] == [f"nas:vztmpl/{name_archive(old)}"]
    assert market.pulled("nas", old) is None
    market.repository.store.prune([("golden", newest.tag), ("golden", changed.tag)])
    done = market.goldsmith("images", "withdraw", *only, "--yes")["templates"]
    assert [(one["volid"], one["state"]) for one in done if one["goes"]] == [
        (f"nas:vztmpl/{name_archive(newest)}", "forgotten")
    ]
    assert {name.partition("/")[2] for name in volumes} == {name_archive(stable), name_archive(changed), stranger}


# --- a fault at each call


@dataclass
class Bench:
    """A version, and two places of one node, which pulls."""

    site: Site
    version: Version
    repository: Repository
    node: Node
    state: Path
    places: tuple[Place, ...] = (Place("pve1", "local", available=ROOM), Place("pve1", "nas", True, ROOM))

    def publish(self) -> list[Published]:
        ways = {(str(self.version), place): Way(is_pulled=True, reason="it can") for place in self.places}
        plan = plan_publish([self.version], self.places, {}, ways=ways)
        pulled = {str(self.version): self.repository}
        return list(
            run_publish(plan, {}, lambda _: open_own(self.site), state=self.state, events=Events(), pulled=pulled)
        )

    def look(self) -> list[dict[str, dict[str, int]]]:
        return [self.node.storages[place.storage].setdefault("volumes", {}) for place in self.places]

    def list_sizes(self) -> set[int]:
        name = f"vztmpl/{name_archive(self.version)}"
        return {int(volumes[name]["size"]) for volumes in self.look() if name in volumes}

    def clear(self) -> None:
        for volumes in self.look():
            volumes.pop(f"vztmpl/{name_archive(self.version)}", None)


@pytest.fixture
def bench(
    market: Market, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Where an answer is to be late, we wait for it for a second only."""
    is_late = "no answer" in request.node.name
    monkeypatch.setattr(fakes, "HANGING", 2.0)
    version = market.offer(bytes(1 << 20))
    with open_site(market.node, timeout=1.0 if is_late else 30.0) as site:
        yield Bench(
            replace(site, shell=AbsentShell("pve1")), version, market.repository, market.node, tmp_path / "work"
        )


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_call_leaves_nothing_half_and_the_next_try_works(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.5)
    monkeypatch.setattr(tasks, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(tasks, "LOCK_PAUSE", 0.1)
    monkeypatch.setattr(door, "PAUSE", 0.01)
    bench.node.arm(None)
    assert {one.state for one in bench.publish()} == {"pulled"}
    whole = {measure_archive(bench.version).start + OVERHEAD}
    for at in range(0, len(bench.node.calls), 4 if kind == "no answer" else 2):
        bench.clear()
        bench.node.arm(Fault(kind, at))
        done = bench.publish()
        bench.node.arm(None)
        assert len([one for one in done if one.is_well]) >= 1, (at, [one.message for one in done])
        for one in done:
            assert one.is_well or (one.message and "Traceback" not in one.message and "Errno" not in one.message)
        assert bench.list_sizes() <= whole
        assert {one.is_well for one in bench.publish()} == {True}
        assert bench.list_sizes() == whole


def find(bench: Bench, told: Callable[[Event], None]) -> str:
    """Bring the version for a run that wants it, and return the volume."""
    events = Events(told)
    with (
        open_journal(bench.state, "test", site=bench.site.name, image="golden") as journal,
        Undo(events, journal) as undo,
    ):
        return ensure_version(bench.version, bench.repository, Bringing(bench.site, "local", journal, undo, events))


def test_tests_and_servers_use_what_was_pulled(bench: Bench) -> None:
    """A node that makes no guests of archives is brought a template, and so is one where the archive is another."""
    told: list[Event] = []
    bench.publish()
    volid = f"local:vztmpl/{name_archive(bench.version)}"
    assert find(bench, told.append) == volid
    with open_site(bench.node) as again:
        bench.node.versions["pve1"] = "9.0.11"
        bench.site = replace(again, shell=AbsentShell("pve1"))
        assert find(bench, told.append).endswith(".tar.zst")
    bench.node.versions.clear()
    with open_site(bench.node) as again:
        bench.site = replace(again, shell=AbsentShell("pve1"))
        bench.look()[0][f"vztmpl/{name_archive(bench.version)}"]["size"] = 5
        assert find(bench, told.append).endswith(".tar.zst")
    (notice,) = [event.message for event in told if isinstance(event, Notice)]
    assert notice.startswith(f"{volid} on pve1 has 5 bytes, and what is to have that name has ")
