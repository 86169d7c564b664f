"""The process that becomes `ansible-playbook`. Run as a script by ansible-runner, never imported.

ansible-runner puts Ansible on a terminal, and Ansible asks a terminal: `vars_prompt` and `pause` would wait for ever
for a person who is not there. With standard input closed they take their default and say so. When goldsmith is killed
and can end nothing any more, the kernel ends this process (prctl(2), PR_SET_PDEATHSIG), and so those that Ansible and
mitogen have forked: a worker would else wait for the end of its task, and the connection for the worker's.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def end_with_parents() -> None:
    """Have the kernel end this process with the one that started it, and each that it forks with its own parent.

    Those that the main thread forks: for the kernel, the parent is a thread, and others may end long before.
    """
    prctl, parent = ctypes.CDLL(None).prctl, [0]

    def note_parent() -> None:
        parent[0] = os.getpid() if threading.current_thread() is threading.main_thread() else 0

    def end_with_parent() -> None:
        if parent[0]:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent[0]:  # it has ended before that
                os.kill(os.getpid(), signal.SIGKILL)

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.register_at_fork(before=note_parent, after_in_child=end_with_parent)


def main() -> None:
    """Do what `python -m ansible playbook ...` does."""
    end_with_parents()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.argv[1:1] = ["playbook"]
    runpy.run_module("ansible", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
