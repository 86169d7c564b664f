"""How fast a playbook runs on a guest, as a ratio to plain `ansible-playbook` over ssh in the same run.

    sudo .venv/bin/python benchmarks/provision.py [--runs 5]

Makes a container on an embedded node of its own (as the tests do), with the base template from the tests' cache. The
contestants run interleaved, after one run that brings the guest into the wanted state, so that all do the same: the
table shows medians. Ten tasks and the facts; nothing is fetched.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.lxc.conftest import ensure_template
from tests.lxc.guests import Guests, RunningNode, has_answer, wait_until
from tests.unit.provision.sshd import make_key

from goldsmith.base.events import Events, PlaybookTask
from goldsmith.node.settings import NodeSettings
from goldsmith.provision.play import Play
from goldsmith.provision.playbook import run_playbook
from goldsmith.pve.target import Target

PLAYBOOK = """
- hosts: all
  tasks:
    - name: Group
      ansible.builtin.group: {name: ops, gid: 1500}
    - name: Account
      ansible.builtin.user: {name: ops, uid: 1500, group: ops, shell: /bin/bash}
    - name: Folders
      ansible.builtin.file: {path: "/home/ops/{{ item }}", state: directory, owner: ops, mode: "0700"}
      loop: [.ssh, bin]
    - name: Key
      ansible.builtin.copy: {content: "ssh-ed25519 AAAA ops\\n", dest: /home/ops/.ssh/authorized_keys, mode: "0600"}
    - name: Template
      ansible.builtin.template: {src: motd.j2, dest: /etc/motd, mode: "0644"}
    - name: Sudo
      ansible.builtin.copy: {content: "ops ALL=(ALL) ALL\\n", dest: /etc/sudoers-ops, mode: "0440"}
    - name: Line
      ansible.builtin.lineinfile: {path: /etc/environment, line: "EDITOR=vi", create: true}
    - name: Package
      ansible.builtin.apt: {name: [openssh-server, systemd], state: present}
    - name: Service
      ansible.builtin.systemd_service: {name: ssh, enabled: true}
    - name: Command
      ansible.builtin.command: "true"
"""


@contextmanager
def open_guest(folder: Path) -> Iterator[Target]:
    """Make a node and a guest on it; both are gone afterwards."""
    number = os.getpid() % 90
    settings = NodeSettings(
        state=folder / "node", port=18100 + number, host_bridge=f"gsb{number}", network=f"10.{110 + number}.0.1/16",
        disk_size=8 << 30,
    )  # fmt: skip
    node = RunningNode(settings)
    guests = Guests(node)
    try:
        node.start()
        node.template = ensure_template(node)
        guest = guests(start=True, ssh_public_keys=make_key(folder / "key")).wait_booted()
        address = node.address(guest.vmid)
        wait_until(lambda: has_answer(address), what="sshd")
        host_key = guest.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")
        (folder / "known_hosts").write_text(f"{address} {host_key}\n")
        yield Target("guest", address, folder / "key", folder / "known_hosts")
    finally:
        guests.remove_all()
        node.remove()


def run_plain(playbook: Path, target: Target, **settings: str) -> None:
    """What somebody does by hand."""
    argv = [
        Path(sys.executable).with_name("ansible-playbook"), "-i", f"{target.address},", "-u", target.user,
        "--private-key", target.private_key, "--ssh-common-args", f"-o UserKnownHostsFile={target.known_hosts}",
        playbook,
    ]  # fmt: skip
    # A socket folder of its own for each run: otherwise the second one finds the first one's connection.
    with tempfile.TemporaryDirectory(prefix="cp-") as control:
        env = {
            **os.environ,
            "ANSIBLE_SSH_CONTROL_PATH_DIR": control,
            "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=1s",
        }
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env | settings)


def measure(contestants: dict[str, Callable[[], None]], runs: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gb-") as name:
        folder = Path(name)
        playbook = folder / "playbook.yml"
        playbook.write_text(PLAYBOOK)
        (folder / "templates").mkdir()
        (folder / "templates" / "motd.j2").write_text("{{ ansible_facts.distribution }}\n")
        tasks: list[PlaybookTask] = []
        with open_guest(folder) as target:

            def ours(strategy: str) -> None:
                tasks.clear()
                events = Events(lambda event: tasks.append(event) if isinstance(event, PlaybookTask) else None)
                run_playbook(Play(playbook, folder, {}, strategy), target, events=events, log=folder / "log")

            ours("linear")
            results = measure(
                {
                    "ansible-playbook": lambda: run_plain(playbook, target),
                    "ansible-playbook, pipelining": lambda: run_plain(playbook, target, ANSIBLE_PIPELINING="1"),
                    "ours, linear": lambda: ours("linear"),
                    "ours, mitogen_linear": lambda: ours("mitogen_linear"),
                },
                options.runs,
            )
    for task in tasks:
        print(f"    {task.task:20} {task.outcome:8} {task.seconds:6.2f} s")
    reference = results["ansible-playbook"]
    for contestant, seconds in results.items():
        print(f"{contestant:30} {seconds:6.2f} s   {seconds / reference:5.2f} x ansible-playbook")


if __name__ == "__main__":
    main()
