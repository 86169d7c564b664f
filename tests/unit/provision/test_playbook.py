"""Real runs of Ansible over a real sshd of our own, on this machine, as the user who runs the tests.

What a playbook does as root in a guest is tested with guests: tests/lxc/test_provision.py.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldsmith.base.errors import Interrupted, ProvisionError
from goldsmith.base.events import Event, Events, Notice, PlaybookTask, PlaybookTaskStarted
from goldsmith.base.secrets import Masker, Secret
from goldsmith.provision.play import Play, PlaybookOutcome
from goldsmith.provision.playbook import run_playbook
from goldsmith.provision.processes import list_marked
from goldsmith.pve.target import Target
from tests.unit.provision.sshd import HOST, SSHD, open_sshd

pytestmark = [
    pytest.mark.slow,  # each starts Ansible
    pytest.mark.skipif(SSHD is None, reason="needs sshd (Debian: openssh-server)"),
    # Python 3.12 warns of what ansible-runner's thread does: it forks and executes Ansible.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with open_sshd(tmp_path_factory.mktemp("sshd")) as target:
        yield target


class Runs:
    """Runs playbooks on the target; keeps what was heard."""

    def __init__(self, target: Target, project: Path) -> None:
        self.target, self.project = target, project
        self.image = project / "images" / "lxc"
        self.image.mkdir(parents=True)
        self.heard: list[Event] = []
        self.log = project / "logs" / "ansible.log"
        self.interrupt_at = ""

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, PlaybookTaskStarted) and event.task == self.interrupt_at:
            raise Interrupted("SIGTERM")

    def __call__(self, text: str, strategy: str = "linear", **variables: Any) -> PlaybookOutcome:
        (self.image / "playbook.yml").write_text(text)
        play = Play(self.image / "playbook.yml", self.project, variables, strategy)
        return run_playbook(play, self.target, events=Events(self.hear, masker=Masker()), log=self.log)

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.heard if isinstance(event, PlaybookTask)]


@pytest.fixture
def run(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Runs(target, tmp_path)
        assert list(Path(folder).iterdir()) == []


def say(*expressions: str, **play: str) -> str:
    """A playbook that says what expressions come to."""
    head = {"hosts": "all", "gather_facts": "false", **play}
    lines = [f"{'- ' if number == 0 else '  '}{key}: {value}" for number, (key, value) in enumerate(head.items())]
    tasks = [f'    - ansible.builtin.debug: {{msg: "{{{{ {text} }}}}"}}' for text in expressions]
    return "\n".join([*lines, "  tasks:", *tasks]) + "\n"


def test_variables_arrive_with_the_precedence_of_extra_variables(run: Runs) -> None:
    (run.image / "group_vars").mkdir()
    (run.image / "group_vars" / "all.yml").write_text("a: group\nb: group\nansible_port: 1\nansible_ssh_user: nobody\n")
    (run.image / "host_vars").mkdir()
    (run.image / "host_vars" / f"{HOST}.yml").write_text("c: host\n")
    text = say("[a, b, c, d, e, secret] | to_json", "inventory_hostname", vars="{a: play, d: play}")
    outcome = run(text, a="given", e="{{ b }}!", secret=Secret('x{{ "y'))
    assert run.messages[1] == HOST
    # Ansible prints JSON, the secret's quote escaped; it is masked nevertheless.
    assert run.messages[0] == '["given", "group", "host", "play", "group!", "********"]'
    assert (outcome.ok, outcome.changed, outcome.failed) == (2, 0, 0)
    assert outcome.seconds > 0


def test_the_project_is_where_ansible_looks(run: Runs) -> None:
    for folder in (run.project / "roles" / "far", run.image / "roles" / "near", run.project / "more" / "third"):
        (folder / "tasks").mkdir(parents=True)
        (folder / "tasks" / "main.yml").write_text("- ansible.builtin.debug: {msg: '{{ role_name }}'}\n")
    run(say("1", roles="[far, near]"))
    assert run.messages == ["far", "near", "1"]
    run.heard.clear()
    (run.project / "ansible.cfg").write_text(
        "[defaults]\nroles_path = more\nlog_path = own.log\nstdout_callback = json\n"
    )
    run(say("1", roles="[near, third]"))
    assert run.messages == ["near", "third", "1"]
    assert not (run.project / "own.log").exists()


def test_how_the_guest_is_reached_is_ours_alone(run: Runs) -> None:
    (run.project / "ansible.cfg").write_text(
        "[defaults]\ninventory = hosts.yml\nremote_user = nobody\nhost_key_checking = false\ntransport = local\n"
        "[ssh_connection]\nssh_args = -o ProxyCommand=false\n"
    )
    (run.project / "hosts.yml").write_text("all: {hosts: {web: {}}}\n")
    text = (
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.command: printenv SSH_CONNECTION\n      register: seen\n"
        '    - ansible.builtin.debug: {msg: "{{ seen.stdout }} {{ groups.all }}"}\n'
    )
    run(text, ansible_connection="local", ansible_host="192.0.2.1")
    assert run.messages[-1].endswith(f" {run.target.port} ['{HOST}']")
    notices = [event.message for event in run.heard if isinstance(event, Notice)]
    assert notices == ["ansible_connection, ansible_host: ignored, for goldsmith itself connects to the guest"]


def test_this_machine_is_reached_where_a_play_says_so(run: Runs) -> None:
    tasks = (
        "  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.shell: echo ${SSH_CONNECTION:-here}\n      register: way\n"
        "    - ansible.builtin.debug: {var: way.stdout}\n    - ansible.builtin.debug: {msg: '{{ way.stdout }}'}\n"
    )
    run(f"- hosts: localhost\n{tasks}- hosts: all\n{tasks}")
    here, there = [message for message in run.messages if message]
    assert here == "here"
    assert there.startswith("127.0.0.1 ")


@pytest.mark.parametrize("pattern", ["web", "localhost"])
def test_a_playbook_that_does_nothing_on_the_guest_is_an_error(run: Runs, pattern: str) -> None:
    with pytest.raises(ProvisionError, match=f"playbook.yml did nothing on {HOST}") as caught:
        run(say("1", hosts=pattern))
    assert f"write `hosts: all` (now: {pattern})" in caught.value.hint


def test_a_playbook_that_ansible_refuses_is_told_in_its_words(run: Runs) -> None:
    with pytest.raises(ProvisionError, match="Ansible ended with code 1: the role 'missing' was not found") as caught:
        run(say("1", roles="[missing]"))
    assert "Origin" in caught.value.detail


def test_nobody_is_asked_for_anything(run: Runs) -> None:
    text = say("[who, other]", vars_prompt="[{name: who, prompt: Who}, {name: other, prompt: Who, default: me}]")
    begun = time.monotonic()
    run(text + "    - ansible.builtin.pause: {prompt: Go on}\n")
    assert run.messages[0] == "['None', 'me']"  # Ansible's own idea of no answer and no default
    assert time.monotonic() - begun < 30


def test_mitogen_that_cannot_be_used_is_told(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldsmith.provision.strategy.MITOGEN_SUPPORTS", ((2, 10), (2, 11)))
    run(say("1"), "mitogen_linear")
    (notice,) = [event for event in run.heard if isinstance(event, Notice)]
    assert notice.level == "warning"
    assert "linear is used instead of mitogen_linear" in notice.message


def test_our_own_process_is_left_as_it_was(run: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    before, folder = dict(os.environ), Path.cwd()
    run(say("1"))
    assert (dict(os.environ), Path.cwd()) == (before, folder)
    assert "".join(capfd.readouterr()) == ""


def test_the_log_is_new_with_each_run_and_for_us_alone(run: Runs) -> None:
    run.log.parent.mkdir()
    run.log.write_text("an older run\n")
    run.log.chmod(0o644)
    run(say("1 + 1"))
    assert "an older run" not in run.log.read_text()
    assert '"msg": 2' in run.log.read_text()
    assert run.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("strategy", ["linear", "mitogen_linear"])
def test_an_error_on_our_side_ends_everything_and_goes_on(run: Runs, strategy: str) -> None:
    run.interrupt_at = "ansible.builtin.command"
    marks: list[str] = []

    def hear(event: Event) -> None:
        marks.extend(str(path / "s") for path in Path(tempfile.gettempdir()).iterdir())
        Runs.hear(run, event)

    run.hear = hear  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        run(say("1") + "    - ansible.builtin.command: sleep 300\n", strategy)
    assert time.monotonic() - begun < 15
    assert marks
    assert [pid for mark in set(marks) for pid in list_marked(mark)] == []


def test_a_guest_that_does_not_answer_is_told(run: Runs) -> None:
    run.target = replace(run.target, port=1)
    with pytest.raises(ProvisionError, match=rf"{HOST} \(127.0.0.1 port 1\) cannot be reached over SSH: .*refused"):
        run(say("1"))
