"""What playbook.yml promises, looked at in a guest that was made from the image. `goldsmith test` runs this.

`host` is that of testinfra (https://testinfra.readthedocs.io); `variables` are those of vars.yml, with their defaults.
Add tests of your own, here or in other files named test_*.py.
"""

import pytest


@pytest.fixture
def user(host, variables):
    return host.user(variables["template_user"])


def test_the_account_is_there(host, variables, user):
    assert user.exists
    assert user.uid == user.gid == variables["template_uid"]
    assert user.group == variables["template_user"]
    assert user.shell == "/bin/bash"
    assert host.file(user.home).user == user.name


def test_the_account_may_become_root(host, user):
    assert "sudo" in user.groups
    assert host.package("sudo").is_installed
    assert "(ALL : ALL) ALL" in host.check_output("sudo -l -U %s", user.name)


def test_the_password_is_a_hash(user):
    assert user.password.startswith("$6$")


def test_the_password_must_be_changed_at_the_first_login(host, variables, user):
    last_change = host.check_output("getent shadow %s", user.name).split(":")[2]
    assert (last_change == "0") == variables["force_reset_password"]


def test_the_key_is_authorized(host, variables, user):
    keys = host.file(f"{user.home}/.ssh/authorized_keys")
    assert keys.content_string.strip() == variables["template_ssh_key"]
    assert (keys.user, keys.mode) == (user.name, 0o600)
    assert (host.file(f"{user.home}/.ssh").user, host.file(f"{user.home}/.ssh").mode) == (user.name, 0o700)


@pytest.mark.for_each("package", "apps")
def test_packages_are_installed(host, package):
    name, _, version = package.partition("=")
    found = host.package(name.partition(":")[0])
    assert found.is_installed
    assert version in ("", found.version)


@pytest.mark.parametrize(("key", "variable"), [("user.name", "git_user"), ("user.email", "git_email")])
def test_git_knows_the_account(host, variables, user, key, variable):
    wanted = variables[variable]
    if wanted is None:
        pytest.skip(f"{variable} is not set")
    assert host.check_output("git config --file %s --get %s", f"{user.home}/.gitconfig", key) == wanted


def test_ssh_runs(host):
    assert host.service("ssh").is_running
    assert host.socket("tcp://22").is_listening


@pytest.mark.destructive
def test_a_reboot_changes_nothing_that_matters(host, guest, user):
    before = host.file("/etc/machine-id").content_string
    guest.reboot()
    assert host.file("/etc/machine-id").content_string == before
    assert host.check_output("systemctl is-system-running") == "running"
    assert user.exists
