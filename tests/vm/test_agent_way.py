"""Programs, files and playbooks go into a virtual machine by its guest agent alone, with nothing but a token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from goldsmith.base.errors import ShellFailed
from goldsmith.base.secrets import Secret
from goldsmith.cli.site import STATE_VARIABLE
from goldsmith.pve.client import Pve, open_pve
from goldsmith.pve.connection import Connection
from goldsmith.pve.console.shell import ConsoleShell, open_agent
from tests.contract.embedded import connect
from tests.lxc.desks import ALL_BYTES, MIB, make_desk, measure_copies
from tests.lxc.guests import wait_until
from tests.vm.machines import VmNode

pytestmark = pytest.mark.root
GOLDSMITH = Path(sys.executable).with_name("goldsmith")
LARGE = MIB
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.template: {src: page.j2, dest: /root/page}
    - ansible.builtin.copy: {src: bytes, dest: /root/copied, mode: "0640"}
    - ansible.builtin.fetch: {src: /root/copied, dest: "{{ playbook_dir }}/fetched", flat: true}
    - ansible.builtin.command: id -un
      become: true
      become_user: daemon
      register: who
    - ansible.builtin.assert: {that: "who.stdout == 'daemon'"}
"""
"""Of each way that Ansible goes one task: the emulated machine needs seconds for each."""


def make_token(vm_node: VmNode, user: str, privilege: str) -> Connection:
    """Return how one gets in who has a single privilege on every guest, and nothing else."""
    access = vm_node.api.access
    access.users.post(userid=user)
    access.roles.post(roleid=privilege.replace(".", "-"), privs=privilege)
    access.acl.put(path="/vms", users=user, roles=privilege.replace(".", "-"))
    secret = access.users(user).token("way").post(privsep=0)["value"]
    return replace(connect(vm_node.access), token_id=f"{user}!way", token_secret=Secret(secret))


@pytest.fixture(scope="module")
def pve(vm_node: VmNode) -> Iterator[Pve]:
    """With a token that may do what docs/proxmox.md says that it takes."""
    with open_pve(make_token(vm_node, "enter@pve", "VM.Monitor")) as pve:
        yield pve


@pytest.fixture(scope="module")
def shell(pve: Pve, vm: int) -> Iterator[ConsoleShell]:
    with open_agent(pve, "pve", vm, "the machine") as shell:
        yield shell


def test_every_byte_comes_back_in_its_own_stream_with_the_code(shell: ConsoleShell) -> None:
    words = [str(word) for word in shell.get_way().wrap(["sh", "-c", "tee /dev/stderr; exit 77"])]
    done = subprocess.run(words, input=ALL_BYTES * 5, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (77, ALL_BYTES * 5, ALL_BYTES * 5)
    said = shell.run(["sh", "-c", "id -u; echo $HOME $LANG; hostname; umask"]).stdout
    assert said.split() == ["0", "/root", "C.UTF-8", "debian-vm", "0022"]


def test_a_file_goes_there_and_back_whole(shell: ConsoleShell, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = measure_copies(shell, LARGE)
    with capsys.disabled():
        print(f"\nguest agent of an emulated machine: {there:.2f} MiB/s there, {back:.2f} MiB/s back")


def test_a_playbook_runs_over_it(shell: ConsoleShell, tmp_path: Path) -> None:
    desk = make_desk(tmp_path, shell)
    outcome = desk.run(PLAY)
    assert (outcome.failed, outcome.ok) == (0, 5)
    assert (desk.project / "fetched").read_bytes() == ALL_BYTES * 10
    assert shell.run(["cat", "/root/page"]).stdout == "page of ünd\n"


def test_a_command_is_run_in_it_from_the_command_line(vm_node: VmNode, vm: int, tmp_path: Path) -> None:
    environment = {**os.environ, STATE_VARIABLE: str(vm_node.settings.state), "HOME": str(tmp_path)}
    done = subprocess.run(
        [GOLDSMITH, "enter", str(vm), "sh", "-c", "cat; hostname >&2; exit 9"], cwd=tmp_path, env=environment,
        input=ALL_BYTES, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (9, ALL_BYTES), done.stderr
    assert b"debian-vm\n" in done.stderr


def test_nothing_of_it_stays_in_the_guest(pve: Pve, vm: int, shell: ConsoleShell) -> None:
    with open_agent(pve, "pve", vm, "the machine") as other:
        assert other.run(["true"]).stdout == ""
        assert len(shell.run(["sh", "-c", "ls -d /run/goldsmith.*"]).stdout.split()) == 4
    wait_until(lambda: len(shell.run(["sh", "-c", "ls -d /run/goldsmith.*"]).stdout.split()) <= 2, seconds=10)


def test_a_machine_that_does_not_run_or_has_no_agent_says_so(pve: Pve, vm_node: VmNode) -> None:
    vm_node.do(vm_node.qemu.post(vmid=791, name="bare", memory=128))
    try:
        with open_agent(pve, "pve", 791, "bare") as shell, pytest.raises(ShellFailed) as caught:
            shell.run(["true"], timeout=30)
        assert "bare cannot be entered through its guest agent: no guest agent answers" in caught.value.message
        assert "No QEMU guest agent configured" in caught.value.message
    finally:
        vm_node.do(vm_node.qemu(791).delete())


def test_a_token_that_may_not_use_the_agent_says_what_it_lacks(vm_node: VmNode, vm: int) -> None:
    with (
        open_pve(make_token(vm_node, "look@pve", "VM.Audit")) as pve,
        open_agent(pve, "pve", vm, "the machine") as shell,
        pytest.raises(ShellFailed) as caught,
    ):
        shell.run(["true"], timeout=30)
    assert f"through its guest agent: it may not be used: Permission check failed (/vms/{vm}, VM.Monitor)" in str(
        caught.value
    )
