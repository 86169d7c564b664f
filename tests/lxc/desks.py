"""A playbook of many kinds of tasks, for guests that are entered through the API."""

from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from goldsmith.base.events import Event, Events
from goldsmith.base.secrets import Masker
from goldsmith.provision.play import Play, PlaybookOutcome
from goldsmith.provision.playbook import run_playbook
from goldsmith.pve.console.shell import ConsoleShell
from goldsmith.pve.target import ConsoleTarget

ALL_BYTES = bytes(range(256)) * 40
MIB = 1 << 20
PLAY = """
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.copy: {src: bytes, dest: /root/copied, mode: "0640"}
    - ansible.builtin.template: {src: page.j2, dest: /root/page}
    - ansible.builtin.raw: "printf raw >/root/raw"
    - ansible.builtin.shell: "echo shell $((1+1)) && echo err >&2"
      register: said
    - ansible.builtin.assert: {that: [said.stdout == 'shell 2', said.stderr == 'err']}
    - ansible.builtin.command: sleep 1
      async: 30
      poll: 0
      register: job
    - ansible.builtin.async_status: {jid: "{{ job.ansible_job_id }}"}
      register: state
      until: state.finished
      retries: 40
      delay: 0.3
    - ansible.builtin.fetch: {src: /root/copied, dest: "{{ playbook_dir }}/fetched", flat: true}
    - ansible.builtin.script: "own.sh one"
      register: own
    - ansible.builtin.assert: {that: "own.stdout | trim == 'own one'"}
    - ansible.builtin.command: id -un
      become: true
      become_user: daemon
      register: who
    - ansible.builtin.assert: {that: "who.stdout == 'daemon'"}
"""


@dataclass
class Desk:
    """A project whose playbooks are run on the guest."""

    project: Path
    target: ConsoleTarget
    told: list[Event] = field(default_factory=list)

    def run(self, playbook: str, strategy: str = "mitogen_linear") -> PlaybookOutcome:
        file = self.project / "playbook.yml"
        file.write_text(playbook)
        events = Events(self.told.append, masker=Masker())
        play = Play(file, self.project, {"name": "ünd"}, strategy)
        return run_playbook(play, self.target, events=events, log=self.project / "log")


def make_desk(folder: Path, shell: ConsoleShell) -> Desk:
    """Lay out what `PLAY` takes, for the guest behind a shell."""
    (folder / "files").mkdir()
    (folder / "files" / "bytes").write_bytes(ALL_BYTES * 10)
    (folder / "files" / "own.sh").write_text("#!/bin/sh\necho own $1\n")
    (folder / "templates").mkdir()
    (folder / "templates" / "page.j2").write_text("page of {{ name }}\n")
    return Desk(folder, ConsoleTarget("the-guest", "", shell))


def measure_copies(shell: ConsoleShell, size: int) -> tuple[float, float]:
    """Bring random bytes there and back, compare them, and return MiB a second of each way."""
    data, mib = os.urandom(size), size / MIB
    begun = time.monotonic()
    assert shell.put(io.BytesIO(data), "/root/large", mode=0o600) == size
    there = time.monotonic() - begun
    assert shell.run(["sha256sum", "/root/large"], timeout=60).stdout.split()[0] == hashlib.sha256(data).hexdigest()
    begun, digest, read = time.monotonic(), hashlib.sha256(), 0
    with shell.open_read("/root/large") as file:
        while piece := file.read(MIB):
            digest.update(piece)
            read += len(piece)
    back = time.monotonic() - begun
    assert (read, digest.hexdigest()) == (size, hashlib.sha256(data).hexdigest())
    return mib / there, mib / back
