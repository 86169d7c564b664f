"""Guests that are entered through their node, by LXC's own way in: its shell on this machine, or reached over ssh."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldsmith.base.errors import ProgramTimedOut, ShellFailed
from goldsmith.base.process import run
from goldsmith.build.trial.entrance import render_entry
from goldsmith.cli.site import locate_logs
from goldsmith.pve.shell import LocalShell, Shell, TargetExists
from goldsmith.pve.ssh import open_ssh_shell
from goldsmith.pve.target import DirectTarget
from goldsmith.verify.outcome import State
from goldsmith.verify.settle import find_unreadiness, wait_settled
from goldsmith.verify.subject import open_subject
from tests.lxc.benches import FROM_THE_DOCUMENTATION, Bench, list_bad
from tests.lxc.guests import Guest, Guests, RunningNode, wait_until
from tests.unit.provision.sshd import SSHD, open_sshd

pytestmark = pytest.mark.root
DATA = bytes(range(256)) * 20_000 + os.urandom(1_000_001)
ODD = ["a b", "$HOME `id` $(id)", "'", '"', "\\", "*", "", "new\nline", "-n", "ü€", ";&|<>", "%s", "~"]


@pytest.fixture(scope="module")
def guest(node: RunningNode) -> Iterator[Guest]:
    """A guest that nothing but its node reaches: it has no network device."""
    guests = Guests(node)
    try:
        made = guests(memory=512)
        made.api.config.put(delete="net0")
        made.start()
        yield made
    finally:
        guests.remove_all()


@pytest.fixture(scope="module", params=["local", "ssh"])
def node_shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if request.param == "local":
        yield LocalShell()
        return
    if SSHD is None:
        pytest.skip("sshd is not installed")
    with open_sshd(tmp_path_factory.mktemp("sshd")) as target, open_ssh_shell(target.access) as shell:
        yield shell


@pytest.fixture
def target(guest: Guest, node_shell: Shell) -> DirectTarget:
    address = guest.on.address(guest.vmid)
    lxc_path = locate_logs(guest.on.settings)["lxc_path"]
    made = DirectTarget(f"guest {guest.vmid}", address, guest.vmid, node_shell, lxc_path)
    wait_until(lambda: find_unreadiness(made.shell) is None, what="guest")
    return made


@pytest.fixture
def shell(target: DirectTarget) -> Shell:
    return target.shell


@pytest.fixture
def bench(target: DirectTarget, tmp_path: Path) -> Bench:
    return Bench(tmp_path, target)


# --- the shell


def test_words_and_input_arrive_as_they_are(shell: Shell) -> None:
    assert shell.run(["printf", "%s\\0", *ODD]).stdout.split("\0")[:-1] == ODD
    assert shell.run(["cat"], text="in\n$put 'ü'").stdout == "in\n$put 'ü'"


def test_root_has_what_a_login_would_give_and_nothing_of_ours(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://ours.example.org")
    told = dict(line.split("=", 1) for line in shell.run(["env"]).stdout.splitlines())
    assert (told["HOME"], told["USER"]) == ("/root", "root")
    assert "/usr/sbin" in told["PATH"].split(":")
    assert "http_proxy" not in told


def test_exit_codes_come_back(shell: Shell) -> None:
    for code in (0, 1, 7, 255):
        assert shell.run(["sh", "-c", f"exit {code}"], check=False).returncode == code
    with pytest.raises(ShellFailed, match=r"ls failed on guest .*: .*No such file"):
        shell.run(["ls", "/nowhere"])
    with pytest.raises(ShellFailed, match=r"guest .* has no program nothing-of-that-name"):
        shell.run(["nothing-of-that-name"])


def test_files_are_carried_byte_by_byte(shell: Shell) -> None:
    path = "/root/with space 'and' quote"
    shell.remove(path)
    assert shell.put(io.BytesIO(DATA), path, mode=0o640) == len(DATA)
    assert shell.size(path) == len(DATA)
    with shell.open_read(path) as stream:
        assert stream.read() == DATA
    with pytest.raises(TargetExists):
        shell.put(io.BytesIO(b"new"), path)
    assert "with space 'and' quote" in shell.list_directory("/root")
    assert shell.run(["stat", "-c", "%a %U", path]).stdout == "640 root\n"


def test_a_program_that_hangs_is_stopped(shell: Shell) -> None:
    with pytest.raises(ProgramTimedOut):
        shell.run(["sleep", "300.25"], timeout=0.5)
    running = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [3]00.25'"]
    wait_until(lambda: shell.run(running, check=False).stdout.strip() == "0", what="end")


def test_a_guest_that_does_not_run_cannot_be_entered(guest: Guest, node_shell: Shell) -> None:
    nobody = DirectTarget("guest 999", "192.0.2.1", 999, node_shell, locate_logs(guest.on.settings)["lxc_path"])
    with pytest.raises(ShellFailed, match="guest 999 cannot be entered: Failed to get"):
        nobody.shell.run(["true"])
    assert find_unreadiness(nobody.shell) is not None


# --- a person's way in


def test_a_person_gets_in_and_the_exit_code_comes_back(target: DirectTarget) -> None:
    done = run(render_entry(target, ["sh", "-c", "pwd; printf '%s|' \"$@\"; exit 3", "sh", *ODD], terminal=False),
               check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "/root\n" + "".join(f"{word}|" for word in ODD))
    typed = run(render_entry(target, terminal=False), input="echo $0; shopt -q login_shell && exit 9", check=False)
    assert (typed.returncode, typed.stdout) == (9, "/bin/bash\n")


def test_a_person_has_a_terminal(target: DirectTarget, tmp_path: Path) -> None:
    asked = 'test -t 0 && test -t 1 && echo "$TERM is there"; exit 4'
    argv = render_entry(target, ["sh", "-c", asked], terminal=True)
    script = tmp_path / "before_a_terminal.py"
    script.write_text(
        "import os, pty, sys\ncode = os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:]))\nprint('code', code)\n"
    )
    environment = {**os.environ, "TERM": "xterm-256color"}
    done = subprocess.run([sys.executable, "-P", script, *map(str, argv)], env=environment, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=30, check=True)  # fmt: skip
    assert "xterm-256color is there" in done.stdout
    assert done.stdout.split()[-2:] == ["code", "4"]


# --- tests of users


def test_testinfras_modules_work_unchanged(bench: Bench) -> None:
    outcomes = bench.run("""
def test_host(host):
    assert host.backend.NAME == "direct"
    assert host.system_info.distribution == "debian"
    assert host.user("root").shell == "/bin/bash"
    assert host.package("systemd").is_installed
    assert host.process.filter(comm="systemd")
    assert host.sysctl("kernel.ostype") == "Linux"
    assert host.mount_point("/").exists
    assert host.exists("systemctl")
def test_file(host):
    passwd = host.file("/etc/passwd")
    assert passwd.contains("root")
    assert (passwd.user, passwd.group, passwd.mode) == ("root", "root", 0o644)
    assert host.file("/etc").is_directory
    assert not host.file("/nowhere").exists
def test_service(host):
    assert host.service("ssh").is_running
    assert host.service("ssh").is_enabled
    assert not host.service("nothing").is_running
def test_socket(host):
    assert host.socket("tcp://22").is_listening
    assert not host.socket("tcp://2").is_listening
def test_sudo(host):
    host.check_output("useradd --system stranger || true")
    assert host.user("stranger").exists
""")
    assert list_bad(outcomes) == {}


def test_commands_are_as_over_ssh(bench: Bench) -> None:
    outcomes = bench.run(f"""
ODD = {ODD!r}
def test_words(host):
    assert host.check_output("printf '%%s\\\\0' " + " ".join(["%s"] * len(ODD)), *ODD).split("\\0")[:-1] == ODD
def test_bytes(host):
    host.check_output("python3 -c 'open(\\"/root/bytes\\", \\"wb\\").write(bytes(range(256)) * 5000)' || "
                      "perl -e 'print map {{ chr }} 0..255 for 1..5000' >/root/bytes")
    done = host.run("cat /root/bytes; cat /root/bytes >&2; exit 5")
    assert done.rc == 5
    assert done.stdout_bytes == done.stderr_bytes == bytes(range(256)) * 5000
def test_unicode(host):
    assert host.run("echo 'grün €'; echo ünd >&2") .stdout == "grün €\\n"
    assert host.run("echo ünd >&2").stderr == "ünd\\n"
def test_the_shell_is_roots_own(host):
    assert host.check_output("[[ $BASH_VERSION ]] && pwd; echo $HOME") == "/root\\n/root"
def test_lines_and_quotes(host):
    assert host.check_output("cat <<'END'\\n'$HOME' \\"x\\"\\n\\nEND") == "'$HOME' \\"x\\""
def test_codes(host):
    assert [host.run(f"exit {{code}}").rc for code in (0, 1, 255)] == [0, 1, 255]
    assert host.run("kill -9 $$").rc == 137
    assert host.run("nothing-of-that-name").rc == 127
def test_no_input(host):
    assert host.run("cat").stdout == ""
""")  # fmt: skip
    assert list_bad(outcomes) == {}


def test_a_test_may_reboot_its_guest(bench: Bench) -> None:
    outcomes = bench.run("""
def test_reboot(host, guest):
    for _ in range(2):
        host.run_expect([0], "touch /run/gone /root/kept")
        guest.reboot()
        assert not host.file("/run/gone").exists
        assert host.file("/root/kept").exists
        assert host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")
def test_after(host):
    assert host.run("true").rc == 0
""")
    assert list_bad(outcomes) == {}


def test_a_guest_that_its_node_starts_anew_is_noticed(bench: Bench, guest: Guest) -> None:
    """Nobody inside reboots: the order is only written down, and the node stops and starts the guest."""

    def restart() -> None:
        wait_until(lambda: guest.sh("test -e /run/ordered && echo yes", check=False), seconds=60, what="order")
        guest.stop()
        guest.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    outcomes = bench.run("""
def test_reboot(host, guest):
    host.check_output("printf '#!/bin/sh\\ntouch /run/ordered\\n' >/run/systemctl; chmod 755 /run/systemctl")
    host.check_output("mount --bind /run/systemctl /usr/bin/systemctl")
    guest.reboot(timeout=60)
    assert not host.file("/run/ordered").exists
    assert host.service("systemd-journald").is_running
""")
    restarting.join()
    assert list_bad(outcomes) == {}


def test_a_guest_that_does_not_come_back_fails_the_test(bench: Bench) -> None:
    outcomes = bench.run("""
def test_reboot(host, guest):
    host.run_expect([0], "mount --bind /bin/true /usr/bin/systemctl")
    guest.reboot(timeout=2)
""")
    assert outcomes["test_reboot"].message == "the guest has not come back 2 s after its reboot: it is still up"
    assert list_bad(bench.run("def test_it(host): host.check_output('umount /usr/bin/systemctl')\n")) == {}


def test_a_hanging_test_is_stopped_and_what_it_ran_is_ended(bench: Bench, shell: Shell) -> None:
    begun = time.monotonic()
    outcomes = bench.run(
        "def test_hangs(host):\n    print('before it hangs')\n    host.run('trap \"\" TERM; sleep 301')\n"
        "def test_after(host):\n    assert host.user('root').exists\n",
        test_timeout=5.0,
    )
    assert time.monotonic() - begun < 20
    assert list(list_bad(outcomes)) == ["test_hangs"]
    assert outcomes["test_hangs"].message == "stopped: it did not end within 5 s"
    assert "before it hangs" in outcomes["test_hangs"].detail
    assert shell.run(["true"]).returncode == 0


def test_a_guest_that_is_gone_fails_its_tests_with_a_reason(bench: Bench, guest: Guest) -> None:
    gone = DirectTarget("guest 999", "192.0.2.1", 999, LocalShell(), locate_logs(guest.on.settings)["lxc_path"])
    bench.subject = gone
    outcome = bench.run("def test_it(host):\n    host.run('true')\n")["test_it"]
    assert outcome.state is State.FAILED
    assert "the guest cannot be entered: lxc-attach: 999:" in outcome.message


def test_a_guest_is_described_once_it_has_settled(target: DirectTarget) -> None:
    with open_subject(target) as shell:
        assert wait_settled(shell).state in ("running", "degraded")


def test_a_file_of_testinfras_documentation_runs_unchanged(
    node: RunningNode, node_shell: Shell, make_guest: Guests, tmp_path: Path
) -> None:
    made = make_guest(start=True, memory=512)
    lxc_path = locate_logs(node.settings)["lxc_path"]
    target = DirectTarget(f"guest {made.vmid}", node.address(made.vmid), made.vmid, node_shell, lxc_path)
    wait_until(lambda: find_unreadiness(target.shell) is None, what="guest")
    wait_settled(target.shell)
    install = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y nginx"
    target.shell.run(["sh", "-c", install], timeout=120)
    outcomes = Bench(tmp_path, target).run(FROM_THE_DOCUMENTATION)
    assert list_bad(outcomes) == {}
    assert set(outcomes) == {"test_passwd_file", "test_nginx_is_installed", "test_nginx_running_and_enabled"}
