"""Packages are fetched once for several builds, by apt in real guests; without the proxy it goes its own way."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.errors import PlaybookFailed, ShellFailed
from goldsmith.base.events import Event, Events, Notice, StepFinished
from goldsmith.build.cache import guests as cache
from goldsmith.build.run import Built
from goldsmith.provision.downloads.guest import CONFIGURATION, SCRIPT, install_proxy
from goldsmith.provision.downloads.sharing import is_near, open_sharing
from goldsmith.provision.downloads.store import Store
from goldsmith.pve.ssh import SshShell, open_ssh_shell
from tests.lxc.guests import Guest, Guests, RunningNode
from tests.lxc.images import Workshop, open_site
from tests.lxc.layers import drop_layers
from tests.lxc.subjects import open_guest
from tests.lxc.test_build import open_archive
from tests.unit.provision.downloads.mirrors import HOST, Mirror, open_mirror

pytestmark = pytest.mark.root

INSTALL = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.apt: {{name: [{packages}], update_cache: true, install_recommends: false}}
    - ansible.builtin.raw: "{then}"
"""
PACKAGES = "/repo/pool/goldsmith-{name}_1_all.deb"
SOURCES = f"deb [trusted=yes] http://{HOST}/repo stable main"
URI = f"http://{HOST}/repo/dists/stable/InRelease"
QUICK = "-o Acquire::Retries=0 -o APT::Update::Error-Mode=any"
CLEAN = "apt-get -q -y purge 'goldsmith-*'; apt-get clean; rm -rf /var/lib/apt/lists/*"
PROXIES = {
    "a file of the image": "echo 'Acquire::http::Proxy \"http://10.0.0.1:3142\";' > /etc/apt/apt.conf.d/01proxy;",
    "the environment": "export http_proxy=http://10.0.0.1:3142;",
}


@pytest.fixture
def workshop(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_site(node) as site:
        made = Workshop(tmp_path_factory.mktemp("project"), site)
        made.downloads = Store(made.project / "downloads")
        yield made
        drop_layers(site)


def build(workshop: Workshop, name: str, *packages: str, then: str = "true", variables: str = "") -> tuple[Built, str]:
    """Build an image that installs packages; return it, and what its layers came to."""
    playbook = INSTALL.format(packages=", ".join(packages), then=then)
    workshop.write_image(playbook, f"template_name: {name}\n{variables}")
    workshop.told.clear()
    built = workshop.build()
    ended = [event for event in workshop.told if isinstance(event, StepFinished)]
    return built, ", ".join(step.result for step in ended if step.step.startswith(("layer", "playbook")))


def test_a_second_image_downloads_no_package_again(workshop: Workshop, node: RunningNode) -> None:
    first, told = build(workshop, "first", "tree", "jq", then=f"test -x {SCRIPT}")
    assert told == "1 ok, 1 changed; 4 packages, 1 ok, 1 changed"  # there is nothing to be told of the second layer
    second, told = build(workshop, "second", "jq", "tree")
    assert told.startswith("1 ok, 1 changed; 4 packages, 4 shared (")
    assert first.is_new
    _, told = build(workshop, "second", "jq", "tree", then=f"test ! -e {SCRIPT}", variables="share_downloads: false\n")
    assert told == "1 ok, 1 changed"  # the layer of packages holds: how they come is nothing to it
    with open_archive(Path(second.template)) as archive:
        assert [name for name in archive.getnames() if "goldsmith-build" in name] == []
    for kept in cache.list_cache(workshop.site):
        cache.go_back(workshop.site, kept.vmid, kept.checkpoints[0].snapshot)
        assert list_traces(Guest(node, kept.vmid).rootfs() / "etc") == []


def list_traces(folder: Path) -> list[str]:
    return [path.name for path in (folder / "apt").rglob("*goldsmith-build*") if "zz-" not in path.name]


class Repository(Mirror):
    """A small repository of packages that are made here; no guest reaches it by itself."""

    def publish(self, folder: Path, *names: str, content: str = "1") -> None:
        entries = []
        for name in names:
            path = PACKAGES.format(name=name)
            package = make_package(folder, f"goldsmith-{name}", content)
            self.files[path] = package
            entries.append(
                f"Package: goldsmith-{name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n"
                f"Filename: {path.removeprefix('/repo/')}\nSize: {len(package)}\n"
                f"SHA256: {hashlib.sha256(package).hexdigest()}\n"
            )
        index = "\n".join(entries).encode()
        digest, base = hashlib.sha256(index).hexdigest(), "/repo/dists/stable/"
        folders = [f"main/binary-{architecture}" for architecture in ("all", "amd64")]
        lines = [f" {digest} {len(index)} {folder}/Packages" for folder in folders]
        release = "\n".join(["Suite: stable", "Codename: stable", "Acquire-By-Hash: yes", "SHA256:", *lines, ""])
        self.files[f"{base}Release"] = release.encode()
        self.files |= {f"{base}{folder}/by-hash/SHA256/{digest}": index for folder in folders}

    def count_packages(self) -> int:
        return sum(path.endswith(".deb") for _, path in self.asked)


def make_package(folder: Path, name: str, content: str) -> bytes:
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "opt").mkdir(exist_ok=True)
    (tree / "opt" / name).write_text(content)
    fields = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n"
    (tree / "DEBIAN/control").write_text(fields)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, f"{tree}.deb"], check=True, capture_output=True)
    return Path(f"{tree}.deb").read_bytes()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with open_mirror(Repository(files={})) as mirror:
        assert isinstance(mirror, Repository)
        mirror.publish(tmp_path, "one", "two")
        yield mirror


@pytest.fixture(scope="module")
def shells(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshShell]:
    """Root's shell in one guest that the tests share."""
    guests = Guests(node)
    try:
        opened = open_guest(guests, tmp_path_factory.mktemp("guest"))
        assert is_near(opened.subject.address)
        with open_ssh_shell(opened.subject.access) as shell:
            run(shell, "mv /etc/apt/sources.list /etc/apt/sources.list.away")
            yield shell
    finally:
        guests.remove_all()


@pytest.fixture
def shell(shells: SshShell) -> Iterator[SshShell]:
    run(shells, f"echo '{SOURCES}' > /etc/apt/sources.list.d/test.list")
    yield shells
    assert run(shells, "find /etc /usr/local /var/lib -name '*goldsmith-build*'") == ""
    run(shells, f"{CLEAN}; rm -f /etc/apt/apt.conf.d/01proxy")


def run(shell: SshShell, script: str) -> str:
    done = shell.run(["sh", "-c", script], timeout=120)
    return (done.stdout + done.stderr).strip()


def install(shell: SshShell, name: str = "one", options: str = "") -> str:
    return run(shell, f"apt-get {options} -q update && apt-get {options} -q -y install goldsmith-{name}")


def fail_to_install(shell: SshShell, folder: Path) -> None:
    """As a playbook does whose task fails."""
    with pytest.raises(ShellFailed):
        install(shell)
    raise PlaybookFailed(task="install", host="guest", said="", log=folder / "log")


def detect(shell: SshShell, before: str = "") -> str:
    """What apt is told to use."""
    return run(shell, f"{before} {SCRIPT} {URI}")


def test_guests_fetch_through_us_what_they_could_not_reach(
    shell: SshShell, repository: Repository, tmp_path: Path
) -> None:
    store, told = Store(tmp_path / "store"), list[Event]()
    results = []
    for _ in range(2):
        with open_sharing(shell, store, Events(told.append), repository.connect) as tally:
            install(shell, "one goldsmith-two")
            results.append(tally.render())
        assert run(shell, "cat /opt/goldsmith-one") == "1"
        run(shell, CLEAN)
    assert repository.count_packages() == 2
    assert results[0].startswith("2 packages")
    assert results[1].startswith("2 packages, 2 shared (")
    assert told == []
    with pytest.raises(ShellFailed):
        install(shell, options=QUICK)  # as before: it has no way there


def test_a_mirror_that_we_do_not_reach_is_left_to_the_guest(
    shell: SshShell, repository: Repository, tmp_path: Path
) -> None:
    with open_sharing(shell, Store(tmp_path / "store"), Events(), repository.connect):
        assert detect(shell).startswith("http://127.0.0.1:")
        repository.is_down = True
        assert detect(shell) == "DIRECT"
    with open_sharing(shell, Store(tmp_path / "store"), Events()):
        assert detect(shell) == "DIRECT"  # the real way there
        run(
            shell, f"cp /etc/apt/sources.list.away /etc/apt/sources.list.d/test.list; {SCRIPT} http://169.254.169.254/x"
        )
        assert "Err:" not in run(shell, "apt-get -q update")


def test_a_script_that_was_left_behind_does_no_harm(shell: SshShell) -> None:
    assert install_proxy(shell, 9) == ""
    try:
        assert detect(shell) == "DIRECT"
        run(shell, "cp /etc/apt/sources.list.away /etc/apt/sources.list.d/test.list")
        assert "Err:" not in run(shell, "apt-get -q update 2>&1")
        assert "Inst tree" in run(shell, "apt-get -s install tree")
    finally:
        run(shell, f"rm {SCRIPT} {CONFIGURATION}")


def test_a_tunnel_that_breaks_leaves_apt_its_own_way(shell: SshShell, repository: Repository, tmp_path: Path) -> None:
    run(shell, "cp /etc/apt/sources.list.away /etc/apt/sources.list.d/test.list")
    with open_sharing(shell, Store(tmp_path / "store"), Events(), repository.connect):
        assert detect(shell).startswith("http://127.0.0.1:")
        shell._order("cancel", shell.directory / "downloads")
        assert detect(shell) == "DIRECT"
        assert "Err:" not in run(shell, "apt-get -q update")


@pytest.mark.parametrize("where", PROXIES)
def test_a_proxy_that_somebody_sets_meanwhile_wins(
    shell: SshShell, repository: Repository, tmp_path: Path, where: str
) -> None:
    with open_sharing(shell, Store(tmp_path / "store"), Events(), repository.connect):
        assert detect(shell, PROXIES[where]) == ""
        with pytest.raises(ShellFailed):
            run(shell, f"{PROXIES[where]} apt-get -q -o Acquire::http::Timeout=1 {QUICK} update")
    assert repository.asked == []


@pytest.mark.parametrize("option", ["-o Acquire::http::Proxy=", "-oacquire::http::proxy::mirror.example.org="])
def test_a_proxy_on_the_command_line_wins(shell: SshShell, repository: Repository, tmp_path: Path, option: str) -> None:
    with open_sharing(shell, Store(tmp_path / "store"), Events(), repository.connect), pytest.raises(ShellFailed):
        run(shell, f"apt-get -q {option}http://127.0.0.1:9/ {QUICK} update")
    assert repository.asked == []


def test_an_image_with_a_proxy_of_its_own_is_left_alone(
    shell: SshShell, repository: Repository, tmp_path: Path
) -> None:
    told: list[Event] = []
    run(shell, PROXIES["a file of the image"])
    with open_sharing(shell, Store(tmp_path / "store"), Events(told.append), repository.connect) as tally:
        assert run(shell, f"ls {SCRIPT} {CONFIGURATION} 2>/dev/null || true") == ""
    (notice,) = told
    assert isinstance(notice, Notice)
    assert notice.message.endswith("are not shared with other builds: the guest's apt has a proxy of its own")
    assert tally.render() == ""


def test_a_package_that_is_not_what_the_index_says_does_not_stick(
    shell: SshShell, repository: Repository, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with open_sharing(shell, store, Events(), repository.connect):
        install(shell)
    run(shell, "apt-get -q -y purge goldsmith-one; apt-get clean")
    repository.publish(tmp_path, "one", "two", content="another")  # of the same version, against the rules
    with open_sharing(shell, store, Events(), repository.connect):
        with pytest.raises(ShellFailed):
            install(shell)
        install(shell)
    assert run(shell, "cat /opt/goldsmith-one") == "another"
    run(shell, CLEAN)
    repository.publish(tmp_path, "one", "two", content="a third")
    failing = open_sharing(shell, store, Events(), repository.connect)
    with pytest.raises(PlaybookFailed), failing:
        fail_to_install(shell, tmp_path)
    with open_sharing(shell, store, Events(), repository.connect):
        install(shell)
    assert run(shell, "cat /opt/goldsmith-one") == "a third"


def test_a_guest_that_forwards_nothing_is_as_without(shell: SshShell, repository: Repository, tmp_path: Path) -> None:
    told: list[Event] = []
    keys = "/root/.ssh/authorized_keys"
    run(shell, f"cp {keys} /root/keys; sed -i 's/^ssh-/restrict,pty ssh-/' {keys}")
    try:
        with (
            open_ssh_shell(shell._access) as restricted,
            open_sharing(restricted, Store(tmp_path / "store"), Events(told.append), repository.connect),
        ):
            assert run(shell, f"ls {SCRIPT} 2>/dev/null || true") == ""
    finally:
        run(shell, f"mv /root/keys {keys}")
    (notice,) = told
    assert "forwards no port" in str(notice)
