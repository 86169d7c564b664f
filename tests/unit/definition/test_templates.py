"""Jinja in known variables: what it may use, and what it says when it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from .making import Place, encrypt, inline

OTHERS = """\
base_apps: [git, vim]
team: web
number: 905
nested: {mail: "{{ team }}@example.com"}
"""
ENVIRONMENT = {"VMID": "907", "WHO": "Jo {{ no }}"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temp_vmid", "\"{{ lookup('env', 'VMID') }}\"", 907),
        ("temp_vmid", "\"{{ lookup('ansible.builtin.env', 'NONE', default='908') }}\"", 908),
        ("temp_vmid", "\"{{ lookup('env', 'NONE') | default(909, true) }}\"", 909),
        ("temp_vmid", '"{{ number }}"', 905),
        ("temp_vmid", '"{{ number + 1 }}"', 906),
        ("temp_vmid", "\"9{{ '0' }}1\"", 901),
        ("temp_vmid", '"{{ none }}"', None),
        ("temp_vmid", '"{{ missing | default(none) }}"', None),
        ("template_user", '"{{ team }}"', "web"),
        ("template_user", '"{{- team -}}"', "web"),
        ("template_user", "\"{% if team == 'web' %}www{% else %}ops{% endif %}\"", "www"),
        ("git_email", '"{{ nested.mail }}"', "web@example.com"),
        ("git_user", "\"{{ lookup('env', 'WHO') }}\"", "Jo {{ no }}"),
        ("git_user", "!unsafe '{{ no }}'", "{{ no }}"),
        ("git_user", '"{{ template_user }} on {{ template_name }}"', "ops on lxc"),
        ("git_user", '"{{ apps }}{# and no more #}"', "[]"),
        ("force_reset_password", "\"{{ team == 'db' }}\"", False),
        ("force_reset_password", '"{% if team %}no{% endif %}"', False),
        ("apps", "\"{{ base_apps + ['htop'] }}\"", ("git", "vim", "htop")),
        ("apps", '["{{ team }}-tools", git]', ("web-tools", "git")),
        ("template_name", '"{{ team }}-12"', "web-12"),
    ],
)
def test_a_template_is_rendered(name: str, text: str, value: Any, place: Place) -> None:
    place.write(f"{OTHERS}{name}: {text}\n")
    assert getattr(place.load(ENVIRONMENT).variables, name) == value


FORM = " (accepted: a template of other variables in vars.yml and vault.yml, and of lookup('env', NAME))"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('git_user: "{{ nobody }}"', "git_user cannot be rendered: 'nobody' is undefined" + FORM),
        ('git_user: "{{ ansible_hostname }}"', "git_user cannot be rendered: 'ansible_hostname' is undefined" + FORM),
        ('git_user: "{{ proxmox_node }}"', "git_user cannot be rendered: 'proxmox_node' is undefined" + FORM),
        ("git_user: \"{{ lookup('file', 'x') }}\"", "git_user uses lookup('file'); only lookup('env', NAME) is known"),
        ("git_user: \"{{ query('env', 'x') }}\"", "git_user cannot be rendered: 'query' is undefined"),
        ('git_user: "{{ git_user"', "git_user is not a template: unexpected end of template"),
        ('git_user: "a {# b"', "git_user is not a template: Missing end of comment tag"),
        ("git_user: \"{{ 'x' | to_yaml }}\"", "git_user is not a template: No filter named 'to_yaml'."),
        ('git_user: "{{ 1 / 0 }}"', "git_user cannot be rendered: division by zero"),
        ('git_user: "{{ nested.none.more }}"', "git_user cannot be rendered: 'dict object' has no attribute 'none'"),
        ('git_user: "{{ lookup }}"', "git_user gives a method, which is no plain value"),
        ("git_user: \"{{ ''.__class__ }}\"", "git_user cannot be rendered: access to attribute '__class__' of 'str'"),
        ('git_user: "{{ base_apps.append(1) }}"', "git_user cannot be rendered: "),
        ('git_user: "{{ range(10000000) | list }}"', "git_user cannot be rendered: Range too big"),
        ('git_user: "{{ git_email }}"\ngit_email: "{{ git_user }}"', "git_user uses itself (git_user -> git_email -> "),
        ('git_user: "{{ git_user }}"', "git_user uses itself (git_user -> git_user)"),
        ("git_user: \"{{ lookup('env', 'NONE') }}\"", "git_user is empty; leave the variable out for its default"),
        (
            "temp_vmid: \"{{ lookup('env', 'WHO') }}\"",
            "temp_vmid is text, not a whole number (accepted: a whole number",
        ),
        ('apps: "{{ base_apps | join }}"', "apps is text, not a list"),
        ('git_user: "{{ template_password }}"\ntemplate_password: geheim', "git_user would show the secret template_p"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused_at_its_line(text: str, problem: str, place: Place) -> None:
    place.write(f"{OTHERS}{text}\n")
    assert place.fail({"WHO": "Jo"})[0].startswith(f"vars.yml:5: {problem}")


def test_templates_of_the_playbooks_own_variables_are_left_to_ansible(place: Place) -> None:
    place.write("greeting: 'hello {{ ansible_hostname }}'\nraw: !unsafe '{{ x }}'\nplain: !unsafe 'x'\n")
    assert place.load().extra == {
        "greeting": "hello {{ ansible_hostname }}",
        "raw": "{% raw %}{{ x }}{% endraw %}",
        "plain": "x",
    }


def test_a_secret_may_be_made_of_others(place: Place) -> None:
    place.give_password()
    place.write(
        'template_password: "{{ vault_password }}!"\n'
        "proxmox_api_token_secret: \"{{ lookup('env', 'TOKEN') }}\"\n"
        'git_email: "{{ vault_mail }}"\n',
        vault=f'vault_password: "{{{{ half }}}}-{{{{ half }}}}"\nhalf: {inline("ab{{")}vault_mail: a@b\n',
    )
    image = place.load({"TOKEN": "t0"})
    assert image.variables.template_password is not None
    assert image.variables.template_password.reveal() == "ab{{-ab{{!"
    assert image.variables.proxmox_api_token_secret is not None
    assert image.variables.proxmox_api_token_secret.reveal() == "t0"
    assert image.variables.git_email == "a@b"


@pytest.mark.parametrize(
    "secret", ["geheim{{", "{{ geheim + 'x' }}", "{% geheim %}", "a{#geheim", "{{ 'geheim' / 2 }}"]
)
def test_a_secret_that_is_no_template_is_not_shown(secret: str, place: Place) -> None:
    place.write(f'template_password: "{secret}"\n')
    [problem] = place.fail()
    assert problem.startswith(
        "vars.yml:1: template_password cannot be rendered as a template (put `!unsafe` before it if it is no template)"
    )
    assert "geheim" not in problem
    place.write(f'template_password: !unsafe "{secret}"\n')
    password = place.load().variables.template_password
    assert password is not None
    assert password.reveal() == secret


def test_a_secret_that_only_names_another_variable_says_which_is_missing(place: Place) -> None:
    place.write('template_password: "{{ vault_password }}"\n')
    assert place.fail()[0].startswith("vars.yml:1: template_password cannot be rendered: 'vault_password' is undefined")


def test_what_is_made_of_something_encrypted_is_not_shown(place: Place) -> None:
    place.give_password()
    place.write('temp_gateway: "{{ a }}"\na: "{{ hidden }}"\n', vault=encrypt("hidden: geheim\n"))
    [problem] = place.fail()
    assert problem.startswith("vars.yml:1: temp_gateway: what is encrypted there is not accepted (accepted: an IPv4")
