"""Versions into the storages of a Proxmox, by the command and with faults at each call. fakepve is the Proxmox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakepve import FakePve

from goldsmith.artifacts.channels import set_channel
from goldsmith.artifacts.export import measure_template
from goldsmith.artifacts.repository import Repository, Version, open_repository
from goldsmith.artifacts.verdicts import TestState, put_verdict
from goldsmith.base.errors import PveError
from goldsmith.base.events import Event, Events, Notice, Transfer
from goldsmith.build.carry import check_storage, name_template, open_cargo
from goldsmith.build.facts import Site
from goldsmith.build.journal import open_journal
from goldsmith.build.publish.places import Place
from goldsmith.build.publish.plan import plan_publish
from goldsmith.build.publish.run import Published, run_publish
from goldsmith.build.templates import Bringing, ensure_version
from goldsmith.build.undo import Undo
from goldsmith.cli.main import run
from goldsmith.cli.site import open_own
from goldsmith.pve import door, tasks
from goldsmith.pve.absent import AbsentShell
from tests.unit.artifacts.making import put

from . import fakes
from .fakes import FAULTS, Fault, Node, open_site, serve_node
from .test_first_contact import SECRET

VARIABLES = """
template_name: golden
proxmox_api_host: '{host}:{port}'
proxmox_ca_file: {ca_file}
proxmox_api_token_id: ci
proxmox_node: pve1
proxmox_shell: none
without_shell: backup
temp_ip_address: dhcp
publish: [nas, fast, "pve1:local"]
"""
ROOM = 1 << 40


def add_storage(fake: FakePve, name: str, **options: Any) -> None:
    fake.storages[name] = {
        "type": "dir", "active": 1, "content": "vztmpl,backup", "files": set(), "total": ROOM, "avail": ROOM, "used": 0,
        "path": f"/mnt/{name}", **options,
    }  # fmt: skip


@dataclass
class Shop:
    """A project with one image, and the cluster that it is published to: `nas` is shared, `fast` is pve2's own."""

    fake: FakePve
    project: Path
    said: pytest.CaptureFixture[str]

    @property
    def repository(self) -> Repository:
        return open_repository(self.project / "repository")

    def put(self, content: bytes, *, state: TestState | None = TestState.PASSED) -> Version:
        version = put(self.repository, "golden", content)
        if state is not None:
            put_verdict(
                self.repository, version, state=state, summary="1 failed", document=b"{}", junit="<x/>", html="<p/>"
            )
        return version

    def goldsmith(self, *words: str, code: int = 0) -> Any:
        """Run a command and return the document that it said."""
        assert run([*words, "--json"]) == code, self.said.readouterr()
        return json.loads(self.said.readouterr().out)

    def publish(self, *words: str, code: int = 0) -> dict[str, str]:
        """Publish, and return how it went at each place."""
        assert run(["publish", *words, "--json"]) == code, self.said.readouterr()
        lines = [json.loads(line) for line in self.said.readouterr().out.splitlines()]
        told = [line for line in lines if line["event"] == "published"]
        return {f"{one['node']}:{one['storage']}": one["state"] for one in told}

    def lies(self, storage: str, version: Version) -> int | None:
        """The size of a version in a storage."""
        volume = self.fake.storages[storage].get("volumes", {}).get(f"vztmpl/{name_template(version)}")
        return None if volume is None else int(volume["size"])


@pytest.fixture
def shop(
    fakepve: FakePve, fakepve_cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shop:  # fmt: skip
    fakepve.add_node("pve2")
    add_storage(fakepve, "nas", shared=1)
    add_storage(fakepve, "fast", nodes="pve2")
    fakepve.apitokens["root@pam!ci"] = SECRET
    folder = tmp_path / "images/golden"
    folder.mkdir(parents=True)
    text = VARIABLES.format(host=fakepve.host, port=fakepve.port, ca_file=fakepve_cafile)
    (folder / "vars.yml").write_text(text)
    (folder / "playbook.yml").write_text("- hosts: all\n  tasks: []\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PROXMOX_API_TOKEN_SECRET", SECRET)
    return Shop(fakepve, tmp_path, capsys)


def test_what_is_declared_is_done_and_the_second_time_nothing_is(shop: Shop) -> None:
    version = shop.put(b"one")
    everywhere = {"pve1:nas", "pve2:fast", "pve1:local"}
    plan = shop.goldsmith("publish", "--check")["plan"]
    assert {(f"{one['node']}:{one['storage']}", one["action"]) for one in plan} == {
        (place, "send") for place in everywhere
    }
    assert shop.lies("nas", version) is None
    assert shop.publish() == dict.fromkeys(everywhere, "sent")
    assert {shop.lies(name, version) for name in ("nas", "fast", "local")} == {measure_template(version)}
    fields = shop.fake.uploaded
    assert (fields["content"], fields["checksum-algorithm"], len(fields["checksum"])) == ("vztmpl", "sha256", 64)
    sent = len([one for one in shop.fake.requests if one[1].endswith("/upload")])
    assert sent == 3
    assert shop.publish() == dict.fromkeys(everywhere, "there")
    assert len([one for one in shop.fake.requests if one[1].endswith("/upload")]) == sent


def test_the_channel_stable_is_what_is_meant(shop: Shop) -> None:
    stable, newest = shop.put(b"one"), shop.put(b"two")
    set_channel(shop.repository, "stable", stable)
    shop.publish()
    assert shop.lies("nas", stable)
    assert shop.lies("nas", newest) is None
    assert shop.publish("golden", "--storage", "nas") == {"pve1:nas": "sent"}
    assert shop.lies("nas", newest)


def test_untested_versions_are_refused_unless_that_is_said(shop: Shop) -> None:
    version = shop.put(b"one", state=None)
    assert set(shop.publish(code=8).values()) == {"refused"}
    assert shop.lies("nas", version) is None
    assert shop.publish("golden", "--untested", "--node", "pve2") == {"pve2:nas": "sent", "pve2:fast": "sent"}


def refuse_upload(fake: FakePve) -> None:
    fake.fail(
        "POST", "/storage/fast/upload", 403, "Permission check failed (/storage/fast, Datastore.AllocateTemplate)"
    )


def be_off(fake: FakePve) -> None:
    fake.set_node_offline("pve2")


def refuse_looking(fake: FakePve) -> None:
    fake.fail("GET", "/storage/fast/content", 403, "Permission check failed (/storage/fast, Datastore.Audit)")


def be_full(fake: FakePve) -> None:
    fake.storages["fast"]["avail"] = 100


def take_no_templates(fake: FakePve) -> None:
    fake.storages["fast"]["content"] = "backup"


@pytest.mark.parametrize(
    ("spoil", "state", "said"),
    [
        (refuse_upload, "failed", "goldsmith doctor"),
        (refuse_looking, "refused", "Permission check failed (/storage/fast, Datastore.Audit)"),
        (be_off, "refused", "pve2 is off, or out of reach"),
        (be_full, "refused", "pve2:fast is full: 100 B free"),
        (take_no_templates, "refused", "fast takes no templates (pvesm set fast --content backup,vztmpl)"),
    ],
)
def test_one_place_that_fails_does_not_stop_the_others(shop: Shop, spoil: Any, state: str, said: str) -> None:
    version = shop.put(b"one")
    spoil(shop.fake)
    assert run(["publish", "--storage", "nas", "--storage", "pve2:fast"]) == 5
    told = shop.said.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == f"{version} nas:vztmpl/{name_template(version)} pve1\n"
    assert shop.publish("--storage", "pve2:fast", code=5) == {"pve2:fast": state}
    assert shop.lies("fast", version) is None


def test_a_file_of_that_name_with_another_content_is_refused_and_names_both(shop: Shop) -> None:
    version = shop.put(b"one")
    shop.fake.store_file("nas", name_template(version), 77, "vztmpl")
    assert run(["publish", "--storage", "nas"]) == 5
    told = shop.said.readouterr().err
    assert f"nas:vztmpl/{name_template(version)} is there with 77 bytes, and {version} has " in told
    assert shop.lies("nas", version) == 77


def test_a_lock_that_is_not_got_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PAUSE", 0.01)
    version = shop.put(b"one")
    busy = "can't lock file '/var/lock/pve-manager/pve-storage-nas' - got timeout"
    shop.fake.fail("POST", "/storage/nas/upload", 500, busy, times=1)
    assert shop.publish("--storage", "nas") == {"pve1:nas": "sent"}
    assert shop.lies("nas", version)


def test_what_lies_where_is_listed_and_old_ones_are_withdrawn(shop: Shop) -> None:
    """Never what goldsmith did not bring, what a channel names, or what a server runs from."""
    versions = [shop.put(b"%d" % number) for number in range(5)]
    for version in versions:
        shop.publish(str(version), "--storage", "nas")
    stranger = "golden-20261101.1-0123456789ab.tar.zst"
    shop.fake.store_file("nas", stranger, 5, "vztmpl")
    shop.fake.store_file("nas", "debian-12-standard_12.7-1_amd64.tar.zst", 5, "vztmpl")
    set_channel(shop.repository, "stable", versions[0])
    shop.fake.add_ct(
        111, name="web", node="pve1", config={"tags": f"goldsmith;goldsmith-server;golden-{versions[1].tag}"}
    )

    (place,) = shop.goldsmith("images", "where", "--storage", "nas")["places"]
    states = {one["volid"].rpartition("/")[2]: one["state"] for one in place["templates"]}
    assert states == {
        **{name_template(version): "published" for version in versions},
        stranger: "stranger", "debian-12-standard_12.7-1_amd64.tar.zst": "stranger",
    }  # fmt: skip
    (place,) = shop.goldsmith("images", "where", "--storage", "fast", code=4)["places"]
    assert [one["state"] for one in place["templates"]] == ["missing"]

    only = ("--storage", "nas", "--keep-last", "1")
    dry = shop.goldsmith("images", "withdraw", *only, "--dry-run")["templates"]
    going = {one["version"]: one["reason"] for one in dry if one["goes"]}
    assert going == dict.fromkeys([str(versions[2]), str(versions[3])], "older, and unused")
    kept = {one["volid"].rpartition("/")[2]: one["reason"] for one in dry if not one["goes"]}
    assert kept[name_template(versions[0])] == "stable names it"
    assert kept[name_template(versions[1])] == "a server uses it"
    assert kept[stranger] == "goldsmith did not bring it"
    assert shop.lies("nas", versions[2])
    shop.goldsmith("images", "withdraw", *only, "--yes")
    assert [shop.lies("nas", version) is not None for version in versions] == [True, True, False, False, True]
    assert f"vztmpl/{stranger}" in shop.fake.storages["nas"]["volumes"]

    shop.repository.store.prune([("golden", versions[4].tag)])  # the machine that brought it knows it still
    (told,) = [one for one in shop.goldsmith("images", "withdraw", *only, "--yes")["templates"] if one["goes"]]
    assert (told["state"], told["reason"]) == ("forgotten", "its version is not in the repository any more")
    assert shop.lies("nas", versions[4]) is None


# --- a fault at each call


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with serve_node(tmp_path) as made:
        add_storage(made, "nas", shared=1)
        yield made


@dataclass
class Bench:
    """A version, and two places of one node."""

    site: Site
    version: Version
    repository: Repository
    state: Path
    places: tuple[Place, ...] = (Place("pve1", "local", available=ROOM), Place("pve1", "nas", True, ROOM))

    def publish(self, *, events: Events | None = None) -> list[Published]:
        def open_place(_place: Place) -> AbstractContextManager[Site]:
            return open_own(self.site)

        plan = plan_publish([self.version], self.places, {})
        with open_cargo(self.repository, self.version) as cargo:
            return list(
                run_publish(
                    plan, {str(self.version): cargo}, open_place, state=self.state, events=events or Events()
                )
            )  # fmt: skip

    def look(self, node: Node) -> set[int]:
        """The sizes of what lies at the places; a place without it has none."""
        name = f"vztmpl/{name_template(self.version)}"
        return {
            int(store["volumes"][name]["size"])
            for store in (node.storages[place.storage] for place in self.places)
            if name in store.get("volumes", {})
        }

    def clear(self, node: Node) -> None:
        for place in self.places:
            node.storages[place.storage].get("volumes", {}).pop(f"vztmpl/{name_template(self.version)}", None)


@pytest.fixture
def bench(
    node: Node, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Where an answer is to be late, we wait for it for a second only."""
    is_late = "no answer" in request.node.name
    monkeypatch.setattr(fakes, "HANGING", 2.0)
    monkeypatch.setattr(door, "UPLOAD_TIMEOUT", 1.0 if is_late else 30.0)
    repository = open_repository(tmp_path / "repository")
    with open_site(node, timeout=1.0 if is_late else 30.0) as site:
        version = put(repository, "golden", bytes(3 << 20))
        yield Bench(replace(site, shell=AbsentShell("pve1")), version, repository, tmp_path / "state")


def test_a_run_brings_a_version_under_a_name_of_its_own_where_the_right_one_is_not_there(
    node: Node, bench: Bench
) -> None:
    """What has the version's name and cannot be it is told of, and neither used nor touched."""
    told: list[Event] = []
    local, name = node.storages["local"]["volumes"], f"vztmpl/{name_template(bench.version)}"

    def ensure() -> str:
        events = Events(told.append)
        with (
            open_journal(bench.state, "test", site=bench.site.name, image="golden") as journal,
            Undo(events, journal) as undo,
        ):
            volid = ensure_version(
                bench.version, bench.repository, Bringing(bench.site, "local", journal, undo, events)
            )
            assert volid.partition(":")[2] in local
            return volid

    brought = ensure()
    assert brought.startswith(f"local:vztmpl/goldsmith-golden-{bench.version.tag}-")
    assert brought.partition(":")[2] not in local
    node.store_file("local", name_template(bench.version), 5, "vztmpl")
    assert ensure() != f"local:{name}"
    assert local[name]["size"] == 5
    (notice,) = [event.message for event in told if isinstance(event, Notice)]
    assert notice.startswith(f"local:{name} on pve1 has 5 bytes, and what is to have that name has ")
    bench.clear(node)
    bench.publish()
    assert ensure() == f"local:{name}"


def test_a_storage_that_takes_no_templates_is_refused_before_anything_is_built(node: Node, bench: Bench) -> None:
    check_storage(bench.site, "nas")
    node.storages["nas"]["content"] = "rootdir"
    with pytest.raises(PveError, match="storage nas of pve1 takes no templates") as refused:
        check_storage(bench.site, "nas")
    assert "pvesm set nas --content rootdir,vztmpl" in refused.value.hint


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_call_leaves_nothing_half_and_the_next_try_works(
    node: Node, bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.5)
    monkeypatch.setattr(tasks, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(tasks, "LOCK_PAUSE", 0.1)
    monkeypatch.setattr(door, "PAUSE", 0.01)
    node.arm(None)
    assert {one.state for one in bench.publish()} == {"sent"}
    whole = {measure_template(bench.version)}
    for at in range(0, len(node.calls), 4 if kind == "no answer" else 2):
        bench.clear(node)
        node.arm(Fault(kind, at))
        done = bench.publish()
        node.arm(None)
        assert len(done) == 2
        assert len([one for one in done if one.is_well]) >= 1, (at, [one.message for one in done])
        for one in done:
            assert one.is_well or (one.message and "Traceback" not in one.message and "Errno" not in one.message)
        assert bench.look(node) <= whole
        assert {one.is_well for one in bench.publish()} == {True}
        assert bench.look(node) == whole


def test_one_transfer_at_a_time_into_a_storage(node: Node, bench: Bench) -> None:
    """Of two versions for two storages, two go at a time, and never two into the same."""
    other = put(bench.repository, "golden", bytes(5 << 20))
    told: list[Transfer] = []

    def hear(event: Event) -> None:
        if isinstance(event, Transfer):
            told.append(event)

    plan = plan_publish([bench.version, other], bench.places, {})
    with open_cargo(bench.repository, bench.version) as one, open_cargo(bench.repository, other) as two:
        cargo = {str(bench.version): one, str(other): two}
        done = list(
            run_publish(plan, cargo, lambda _: open_own(bench.site), state=bench.state, events=Events(hear))
        )  # fmt: skip
    assert [one.state for one in done] == ["sent"] * 4
    for place in ("pve1:local", "pve1:nas"):
        order = [event.what for event in told if event.what.endswith(place)]
        assert order == sorted(order, key=order.index), "one ends before the other begins"
