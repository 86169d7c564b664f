"""The process that becomes `ansible-playbook`. Run as a script by ansible-runner, never imported.

ansible-runner puts Ansible on a terminal, and Ansible asks a terminal: `vars_prompt` and `pause` would wait for ever
for a person who is not there. With standard input closed they take their default and say so. When goldsmith is killed
and can end nothing any more, the kernel ends this process (prctl(2), PR_SET_PDEATHSIG).
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do what `python -m ansible playbook ...` does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.argv[1:1] = ["playbook"]
    runpy.run_module("ansible", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
