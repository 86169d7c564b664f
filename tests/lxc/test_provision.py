"""Playbooks on real guests: what they do there, how they fail, and that nothing of a run is left on this machine."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import PlaybookFailed, ProvisionError
from goldsmith.base.events import Event, Events, Notice, PlaybookTask, PlaybookTaskStarted
from goldsmith.base.secrets import Masker, Secret
from goldsmith.provision.play import Play, PlaybookOutcome
from goldsmith.provision.playbook import run_playbook
from goldsmith.pve.target import Target
from tests.lxc.guests import Guest, Guests, RunningNode, has_answer, wait_until
from tests.unit.provision.sshd import make_key

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
STRATEGIES = ["mitogen_linear", "linear"]
PASSWORD = 'pa{{ss}}"w\\ö{#rd'


def reach(node: RunningNode, guest: Guest, folder: Path) -> Target:
    """Return how a guest is reached that was made with the key of this folder."""
    address = node.address(guest.vmid)
    wait_until(lambda: has_answer(address), what="sshd")
    key = guest.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")
    (folder / "known_hosts").write_text(f"{address} {key}\n")
    return Target("build-guest", address, folder / "key", folder / "known_hosts")


@pytest.fixture(scope="module")
def guest(node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guest, Target]]:
    """One guest that the tests of this file share; each leaves it usable for the next."""
    folder, guests = tmp_path_factory.mktemp("guest"), Guests(node)
    try:
        made = guests(start=True, ssh_public_keys=make_key(folder / "key"))
        yield made, reach(node, made, folder)
    finally:
        guests.remove_all()


@pytest.fixture
def target(guest: tuple[Guest, Target]) -> Target:
    return guest[1]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own (short, for sockets), empty at the end."""
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []
        assert list(read_processes(folder)) == []


def read_processes(word: str) -> Iterator[bytes]:
    """The command line and environment of every process of this machine that has a word in them (guests have not)."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()):
            try:
                text = (process / "cmdline").read_bytes() + b"\0" + (process / "environ").read_bytes()
            except OSError:
                continue
            if word.encode() in text:
                yield text


def read_modes(folder: Path, word: str) -> Iterator[int]:
    """The permission bits of files that hold a word, and of the folders at the top."""
    for parent, folders, files in os.walk(folder):  # folders that go meanwhile are no fault here, as they are for rglob
        for path in (Path(parent, name) for name in folders + files):
            try:
                if path.parent == folder or (path.is_file() and word in path.read_text(errors="replace")):
                    yield path.stat().st_mode & 0o777
            except OSError:
                continue


class Runs:
    """Runs playbooks on a target; keeps what was heard."""

    def __init__(self, target: Target, project: Path) -> None:
        self.target, self.project = target, project
        self.heard: list[Event] = []
        self.log = project / "log" / "ansible.log"
        self.masker = Masker()
        self.listener: Callable[[Event], None] = self.heard.append

    def __call__(self, playbook: str, strategy: str = "mitogen_linear", **variables: Any) -> PlaybookOutcome:
        file = self.project / "images" / "lxc" / "playbook.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(playbook)
        self.heard.clear()
        events = Events(self.listener, masker=self.masker)
        return run_playbook(Play(file, self.project, variables, strategy), self.target, events=events, log=self.log)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(event.task, event.outcome) for event in self.heard if isinstance(event, PlaybookTask)]


@pytest.fixture
def run(target: Target, tmp_path: Path, temporary: Path) -> Runs:
    return Runs(target, tmp_path)


EVERYTHING = """
- name: Everything
  hosts: all
  tasks:
    - name: Account
      ansible.builtin.user: {name: "{{ account }}", uid: 1234, shell: /bin/bash}
    - name: File
      ansible.builtin.copy: {content: "{{ account }} {{ password }}", dest: /root/file, mode: "0600"}
    - name: Package
      ansible.builtin.apt: {name: hello, state: present, update_cache: true}
    - name: Unpacked
      ansible.builtin.command: hello --greeting=hi
      changed_when: false
      register: greeting
    - name: Said
      ansible.builtin.debug: {msg: "{{ greeting.stdout }} on {{ ansible_facts.distribution }}"}
    - name: Not now
      ansible.builtin.command: "false"
      when: account == "somebody else"
    - name: Loop
      ansible.builtin.file: {path: "/root/{{ item }}", state: touch}
      loop: [a, b, c]
    - name: Well
      ansible.builtin.command: "false"
      ignore_errors: true
- name: Facts are there already
  hosts: all
  tasks:
    - name: Undone
      ansible.builtin.apt: {name: hello, state: absent, purge: true}
    - name: Account gone
      ansible.builtin.user: {name: "{{ account }}", state: absent, remove: true}
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_playbook_does_its_work_and_every_task_is_heard(
    run: Runs, guest: tuple[Guest, Target], strategy: str
) -> None:
    outcome = run(EVERYTHING, strategy, account="somebody", password=Secret(PASSWORD))
    assert run.outcomes == [
        ("Gathering Facts", "ok"), ("Account", "changed"), ("File", "changed"), ("Package", "changed"),
        ("Unpacked", "ok"), ("Said", "ok"), ("Not now", "skipped"), ("Loop", "changed"), ("Well", "ignored"),
        ("Undone", "changed"), ("Account gone", "changed"),
    ]  # fmt: skip
    started = [event.task for event in run.heard if isinstance(event, PlaybookTaskStarted)]
    assert started == [task for task, _ in run.outcomes]
    # Ansible counts the ignored failure among both ok and changed.
    assert (outcome.ok, outcome.changed, outcome.skipped, outcome.failed) == (10, 7, 1, 0)
    said = next(event for event in run.heard if isinstance(event, PlaybookTask) and event.task == "Said")
    assert said.message == "hi on Debian"
    assert guest[0].sh("cat /root/file; rm -f /root/file") == f"somebody {PASSWORD}"
    assert not [event for event in run.heard if isinstance(event, Notice)]
    assert "PLAY RECAP" in run.log.read_text()
    assert run.log.stat().st_mode & 0o777 == 0o600


FAILING = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Rescued
      block: [{ansible.builtin.command: "false"}]
      rescue: [{ansible.builtin.command: "true"}]
    - name: Looks for it
      ansible.builtin.shell: "echo so far so good; ls /nowhere"
    - name: Never
      ansible.builtin.command: "true"
"""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_failed_task_says_which_where_and_why(run: Runs, strategy: str) -> None:
    with pytest.raises(PlaybookFailed) as caught:
        run(FAILING, strategy)
    failed = caught.value
    assert (failed.task, failed.host, failed.log) == ("Looks for it", "build-guest", run.log)
    assert failed.message == (
        "task 'Looks for it' failed on build-guest: "
        "ended with code 2: ls: cannot access '/nowhere': No such file or directory"
    )
    assert "so far so good" in failed.detail
    assert failed.hint == f"the whole log: {run.log}"
    assert run.outcomes[-1] == ("Looks for it", "failed")


def test_failed_items_of_a_loop_are_named(run: Runs) -> None:
    with pytest.raises(PlaybookFailed, match=r"/bad: .*No such file.*; /worse: ") as caught:
        run("- hosts: all\n  gather_facts: false\n  tasks:\n    - name: Loop\n"
            "      ansible.builtin.command: ls {{ item }}\n      loop: [/, /bad, /worse]\n")  # fmt: skip
    assert "/: " not in caught.value.said.split("/bad")[0]
    assert len(run.outcomes) == 1


SECRETS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Shown
      ansible.builtin.debug: {var: password}
    - name: Shown in a text
      ansible.builtin.debug: {msg: "it is {{ nested.deep[0] }}"}
    - name: Printed
      ansible.builtin.command: {argv: [sh, -c, "sleep 1; cat; cat >&2 /root/nothing", x], stdin: "{{ password }}"}
      ignore_errors: true
    - name: Censored
      ansible.builtin.command: ls {{ password | quote }}
      no_log: true
"""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_secret_is_nowhere_but_in_the_guest(
    run: Runs, strategy: str, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "-----BEGIN KEY-----\nfirst/line+of=it\nsecond/line+of=it\n-----END KEY-----\n"
    secrets = (PASSWORD, PASSWORD.replace('"', '\\"').replace("\\ö", "\\\\ö"), "w\\ö{", "line+of=it")
    seen: list[bytes] = []
    modes: set[int] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            seen.extend(read_processes(str(temporary)))
            modes.update(read_modes(temporary, "line+of=it"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(PlaybookFailed) as caught:
            run(SECRETS, strategy, password=Secret(PASSWORD), nested={"deep": [Secret(key)]})
    finally:
        ended.set()
        watcher.join()
    failed = caught.value
    assert failed.said == "the output has been hidden due to the fact that 'no_log: true' was specified for this result"
    told = (
        repr(run.heard)
        + failed.message
        + failed.detail
        + failed.hint
        + run.log.read_text()
        + "".join(capfd.readouterr())
    )
    assert "it is ********" in told
    for secret in secrets:
        assert secret not in told
        assert not [place for place in seen if secret.encode() in place]
    assert modes == {0o600, 0o700}
    assert len(seen) > 5


def test_an_unreachable_guest_is_told_before_anything_runs(run: Runs, target: Target, tmp_path: Path) -> None:
    begun = time.monotonic()
    run.target = Target("build-guest", target.address, target.private_key, target.known_hosts, port=2222)
    with pytest.raises(ProvisionError, match=r"build-guest \(.* port 2222\) cannot be reached.*refused"):
        run(FAILING)
    strange = tmp_path / "known_hosts"
    strange.write_text(target.known_hosts.read_text().split()[0] + " " + make_key(tmp_path / "other") + "\n")
    run.target = Target("build-guest", target.address, target.private_key, strange)
    with pytest.raises(ProvisionError, match="Host key verification failed") as caught:
        run(FAILING)
    assert "another machine may have its address" in caught.value.hint
    run.target = Target("build-guest", target.address, tmp_path / "other", target.known_hosts)
    with pytest.raises(ProvisionError, match="Permission denied"):
        run(FAILING)
    assert time.monotonic() - begun < 10
    assert run.heard == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_guest_that_goes_away_is_told(run: Runs, guest: tuple[Guest, Target], strategy: str) -> None:
    def listen(event: Event) -> None:
        run.heard.append(event)
        if isinstance(event, PlaybookTaskStarted):
            guest[0].sh("(sleep 1; pkill sshd; systemctl stop ssh ssh.socket) >/dev/null 2>&1 </dev/null &")

    run.listener = listen
    try:
        with pytest.raises(ProvisionError, match="build-guest") as caught:
            run("- hosts: all\n  gather_facts: false\n  tasks:\n    - name: Long\n"
                "      ansible.builtin.command: sleep 60\n", strategy)  # fmt: skip
    finally:
        guest[0].sh("systemctl start ssh")
        wait_until(lambda: has_answer(run.target.address), what="sshd")
    assert "Long" in caught.value.message


@pytest.mark.usefixtures("hear_signals")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("delay", [0.05, 2.0])
def test_an_interrupt_ends_everything_at_once(run: Runs, strategy: str, delay: float) -> None:
    interrupted: list[float] = []

    def interrupt() -> None:
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def listen(event: Event) -> None:
        run.heard.append(event)
        if isinstance(event, PlaybookTaskStarted):
            threading.Timer(delay, interrupt).start()

    run.listener = listen
    with pytest.raises(KeyboardInterrupt):
        run("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: sleep 300\n", strategy)
    assert time.monotonic() - interrupted[0] < 3
    assert run.outcomes == []


def test_python_is_installed_where_it_is_missing(
    run: Runs, make_guest: Guests, node: RunningNode, tmp_path: Path
) -> None:
    make_key(tmp_path / "key")
    bare = make_guest(start=True, ssh_public_keys=(tmp_path / "key.pub").read_text().strip())
    run.target = reach(node, bare, tmp_path)
    bare.wait_booted()
    bare.sh("apt-get -qq purge -y python3-minimal libpython3-stdlib >/dev/null 2>&1; ! command -v python3")
    outcome = run("- hosts: all\n  tasks:\n    - ansible.builtin.command: python3 --version\n")
    assert outcome.ok == 2
