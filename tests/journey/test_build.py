"""`goldsmith build` as a person runs it, on a machine whose node does not run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from goldsmith.node import daemon
from tests.journey.conftest import GOLDSMITH, PASSWORD, PROJECT, Journey
from tests.lxc.guests import Guests, list_traces
from tests.lxc.images import SMALL

pytestmark = pytest.mark.root


def test_the_shipped_image_is_built_shown_and_boots(journey: Journey) -> None:
    done = journey.goldsmith("build", "images/lxc")
    version, template = done.stdout.splitlines()
    assert re.fullmatch(r"debian-12-golden:\d{8}\.1", version)
    assert re.fullmatch(r".*/debian-12-golden-\d{8}(\.\d+)?\.tar\.zst", template)
    assert Path(template).stat().st_size > 50 << 20  # it can be read though the node does not run
    for said in ("[1/12]", "layer packages", "keep layer packages", "Install packages", "layer playbook", "is built"):
        assert said in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert daemon.status(journey.node.settings) is None
    state = str(journey.node.settings.state)
    assert [found for found in list_traces(journey.node.settings) if found != state] == []
    assert journey.find_leftovers() == []
    assert version in journey.goldsmith("images").stdout
    shown = json.loads(journey.goldsmith("--json", "images", "show", version).stdout)
    assert "git" in json.dumps(shown)
    kept = re.escape(f"{journey.home}/.cache/goldsmith/downloads")
    assert re.search(rf"^\d+ downloaded files, \d+ MB, in {kept}$", journey.goldsmith("cache").stderr, re.MULTILINE)
    node = journey.use_node()
    guest = Guests(node)(ostemplate=f"plain:vztmpl/{Path(template).name}", start=True).wait_booted()
    assert guest.sh("systemctl is-system-running; id -un 1000").split() == ["running", "ops"]


def test_json_lines_tell_the_whole_story_and_no_secret(journey: Journey) -> None:
    journey.write_image(SMALL)
    done = journey.goldsmith("--json", "build", "lxc")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = {event["event"] for event in events}
    assert {"step-started", "step-finished", "playbook-task", "undone", "image-built"} <= kinds
    built = next(event for event in events if event["event"] == "image-built")
    assert (built["version"].partition(":")[0], Path(built["template"]).exists()) == ("lxc", True)
    assert PASSWORD not in done.stdout + done.stderr


def test_a_check_changes_nothing(journey: Journey) -> None:
    before = sorted(str(path) for path in journey.project.rglob("*"))
    done = journey.goldsmith("build", "lxc", "--check")
    assert "layer playbook" in done.stdout + done.stderr
    assert sorted(str(path) for path in journey.project.rglob("*")) == before
    assert daemon.status(journey.node.settings) is None
    assert not (journey.home / ".local/state/goldsmith/runs").exists()


def test_every_mistake_is_named_with_its_line_before_anything_starts(journey: Journey) -> None:
    journey.write_image(
        "- hosts: all\n  tasks:\n    - name: Broken\n      no_such_module_at_all: {}\n",
        "temp_vmdi: 900\ntemp_disk_size: big\ntemp_ip_address: 10.1.2.3/24\ntemp_gateway: 10.9.9.1\n"
        "ssh_key_file: none.pub\n",
    )
    done = journey.goldsmith("build", "lxc", code=2)
    for said in ("vars.yml:1:", "did you mean", "temp_vmid", "vars.yml:2:", "vars.yml:4:", "vars.yml:5:", "accepted:"):
        assert said in done.stderr
    journey.write_image("- hosts: all\n  tasks:\n    - name: Broken\n      ansible.builtin.command: {cmd: x\n")
    done = journey.goldsmith("build", "lxc", code=2)
    assert re.search(r"playbook\.yml:\d+", done.stderr)
    assert daemon.status(journey.node.settings) is None
    assert "Traceback" not in done.stderr
    assert not (journey.project / "repository").exists()


def test_a_failed_task_is_shown_with_its_words_and_log(journey: Journey) -> None:
    journey.write_image(SMALL.replace('"true"', "echo before; echo went wrong >&2; exit 3"))
    done = journey.goldsmith("build", "lxc", code=7)
    for said in ("Something small", "went wrong", "lxc-build", "logs/lxc-"):
        assert said in done.stderr
    (log,) = (journey.project / "logs").iterdir()
    assert "went wrong" in log.read_text()
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None


def test_two_builds_at_once_share_the_node_and_the_last_one_stops_it(journey: Journey) -> None:
    journey.write_image(SMALL)
    journey.write_image(SMALL, name="other")
    builds = [journey.start("build", name) for name in ("lxc", "other")]
    assert [build.wait() for build in builds] == [0, 0], [build.output for build in builds]
    assert daemon.status(journey.node.settings) is None
    assert journey.find_leftovers() == []


def test_a_kept_guest_is_entered_as_the_message_says_and_cleaned_away(journey: Journey) -> None:
    journey.use_node()  # a person who wants to look around keeps the node running
    journey.write_image(SMALL)
    done = journey.goldsmith("build", "lxc", "--keep")
    command = re.search(r"enter it: (ssh .*)", done.stderr)
    assert command is not None
    enter = [*command[1].split(), "-o", "BatchMode=yes", "hostname"]
    entered = subprocess.run(enter, capture_output=True, text=True, check=False)
    assert entered.stdout.strip() == "lxc-build", entered.stderr
    clean = re.search(r"(goldsmith clean \w+)", done.stderr)
    assert clean is not None
    journey.goldsmith(*clean[1].split()[1:])
    assert journey.find_leftovers() == []


def test_make_lxc_image_builds_and_a_second_install_costs_next_to_nothing(journey: Journey, tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    clone = tmp_path / "clone"
    for name in tracked.splitlines():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-p", PROJECT / name, clone / name], check=True)
    venv = clone / ".venv"  # as a first install leaves it
    venv.mkdir()
    (venv / "bin").symlink_to(GOLDSMITH.parent)
    for stamp in (".packages", ".installed"):
        (venv / stamp).touch()
    make = ["make", "-C", str(clone)]
    shown = subprocess.run([*make, "-n", "install"], env=journey.env, capture_output=True, text=True, check=True).stdout
    assert "apt-get" not in shown
    assert "pip" not in shown
    done = subprocess.run([*make, "lxc-image-check"], env=journey.env, capture_output=True, text=True, check=True)
    assert "nothing was changed" in done.stdout + done.stderr
    done = subprocess.run([*make, "lxc-image"], env=journey.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (clone / "repository" / "index.json").exists()


def test_several_images_are_built_side_by_side_upon_each_other(journey: Journey) -> None:
    journey.write_image(SMALL.replace('"true"', '"echo base > /opt/base"'), name="base")
    for name in ("one", "two"):
        playbook = SMALL.replace('"true"', f'"grep base /opt/base && echo {name} > /opt/{name}"')
        journey.write_image(playbook, "base_image: image:base\n", name=name)
    done = journey.goldsmith("build", "one", "base", "two")
    built = [line for line in done.stdout.splitlines() if ":" in line and "/" not in line]
    assert next(version.partition(":")[0] for version in built) == "base"
    assert sorted(version.partition(":")[0] for version in built) == ["base", "one", "two"]
    assert re.search(r"^one \| \[\d+/\d+\] ok: ", done.stderr, re.MULTILINE)
    (one,) = [json.loads(journey.goldsmith("--json", "images", "show", version).stdout)
              for version in built if version.startswith("one:")]  # fmt: skip
    assert one["base"] == f"image:{built[0]}"
    assert journey.find_leftovers() == []
    again = journey.goldsmith("build", "one", "two", "base")
    assert sorted(again.stdout.splitlines()) == sorted(done.stdout.splitlines())
    assert again.stderr.count("is up to date") == 3
    shared = journey.goldsmith("explain", "one").stdout
    assert "one:" in shared


def test_several_builds_are_interrupted_together(journey: Journey) -> None:
    long = SMALL.replace('"true"', '"sleep 300"').replace("Something small", "Something long")
    for name in ("one", "two"):
        journey.write_image(long, name=name)
    build = journey.start("--json", "build", "one", "two")
    build.await_text("Something long")
    build.send(signal.SIGINT)
    assert build.wait(seconds=60) == 130
    assert "Traceback" not in build.output
    assert journey.find_leftovers() == []
    assert daemon.status(journey.node.settings) is None
