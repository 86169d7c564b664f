"""Units that have systemd look for drift: read by systemd itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from goldsmith.base.errors import UsageError
from goldsmith.cli.options import Settings
from goldsmith.cli.units import SERVICE, TIMER, render_units, write_units


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    project = tmp_path / "my 100% servers"
    (project / "images").mkdir(parents=True)
    (project / "inventory").mkdir()
    (project / "inventory" / "hosts.yml").write_text("all: {}\n")
    return Settings(named_project=project, vault_password_file=tmp_path / "pass word")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_them(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    write_units(folder, render_units(settings, ["web1", "--ignore", "/srv/a b"]))
    paths = [str(folder / name) for name in (SERVICE, TIMER)]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "goldsmith-drift" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_service_runs_where_the_project_is(settings: Settings) -> None:
    service = render_units(settings, ["web1", "--ignore", "/srv/a b"])[SERVICE]
    assert f"WorkingDirectory={settings.project}".replace("%", "%%") in service
    (command,) = [line for line in service.splitlines() if line.startswith("ExecStart=/")]
    assert command.endswith(f'--vault-password-file "{settings.vault_password_file}" drift web1 --ignore "/srv/a b"')


def test_files_of_others_stay(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / TIMER).write_text("[Timer]\n")
    units = render_units(settings, [])
    with pytest.raises(UsageError, match="was not written by goldsmith"):
        write_units(tmp_path, units)
    assert not (tmp_path / SERVICE).exists()
    (tmp_path / TIMER).unlink()
    write_units(tmp_path, units)
    write_units(tmp_path, units)
    with pytest.raises(UsageError, match="is no directory"):
        write_units(tmp_path / "nowhere", units)
