"""Jinja in the values of known variables: `"{{ lookup('env', 'VMID') }}"`. The one door to jinja2.

Rendered in jinja2's sandbox, with the other variables of the image's files and `lookup('env', NAME)`, and nothing
else: what only a guest or Ansible knows (facts, other lookups, Ansible's own filters) is not there before the build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from goldsmith.definition.values import RenderError, UnknownName

PLAIN = (int, float, type(None))


class Templates:
    """Renders templates. `get` gives the value of a variable by its name, rendered; KeyError where there is none."""

    def __init__(self, environment: Mapping[str, str], names: frozenset[str], get: Callable[[str], Any]) -> None:
        self._names, self._get = names, get
        self._environment = environment
        self._jinja = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
        )
        self._jinja.globals["lookup"] = self._lookup

    def render(self, text: str) -> Any:
        """Return what a template makes: text, or for one single `{{ expression }}` the value of that expression.

        :raises RenderError: it is no template, uses an unknown name, or fails.
        """
        try:
            tree = self._jinja.parse(text)
            values = {name: self._get(name) for name in sorted(self._names_in(tree))}
            if _is_expression(tree, text):
                inner = text.strip()[2:-2].strip("+-")
                return _to_plain(self._jinja.compile_expression(inner, undefined_to_none=False)(values))
            return self._jinja.from_string(text).render(values)
        except RenderError:
            raise
        except UndefinedError as error:
            raise UnknownName(f"cannot be rendered: {error.message}") from None
        except TemplateSyntaxError as error:
            raise RenderError(f"is not a template: {error.message}") from None
        except Exception as error:  # whatever the user's own expression raises
            raise RenderError(f"cannot be rendered: {str(error) or type(error).__name__}") from None

    def find_names(self, text: str) -> frozenset[str]:
        """Return the variables that a template uses; none for text that is no template."""
        try:
            return frozenset(self._names_in(self._jinja.parse(text)))
        except TemplateError:
            return frozenset()

    def _names_in(self, tree: nodes.Template) -> Iterator[str]:
        return (name for name in meta.find_undeclared_variables(tree) if name in self._names)

    def _lookup(self, kind: object, *names: object, default: object = "") -> str:
        """Ansible's `lookup`, for the environment only; several names give their values with commas between them."""
        if kind not in ("env", "ansible.builtin.env"):
            raise UnknownName(f"uses lookup({kind!r}); only lookup('env', NAME) is known before the build")
        return ",".join(self._environment.get(str(name), str(default)) for name in names)


def _is_expression(tree: nodes.Template, text: str) -> bool:
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return False
    parts = tree.body[0].nodes
    bare = text.strip()
    single = len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData)
    return single and bare.startswith("{{") and bare.endswith("}}")  # a comment beside it is not in the tree


def _to_plain(value: Any) -> Any:
    """Return a value as YAML could have given it; an undefined one raises its error."""
    if isinstance(value, StrictUndefined):
        str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if not isinstance(value, PLAIN):
        raise RenderError(f"gives a {type(value).__name__}, which is no plain value")
    return value
