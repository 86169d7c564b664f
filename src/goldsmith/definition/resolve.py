"""Values of known variables with their templates rendered, and what they were made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from goldsmith.base.secrets import Secret
from goldsmith.definition.given import Given, find_texts, is_template
from goldsmith.definition.source import UnsafeText
from goldsmith.definition.values import RenderError

if TYPE_CHECKING:
    from goldsmith.definition.templates import Templates


class Resolver:
    """Renders given values on demand; a template may use any other variable that is given or has a default."""

    def __init__(self, given: Mapping[str, Given], defaults: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._given, self._environment = given, environment
        self._defaults = defaults
        self._done: dict[str, Any] = {}
        self._open: list[str] = []

    @cached_property
    def _templates(self) -> Templates:
        from goldsmith.definition.templates import Templates  # here: most images need no jinja2

        return Templates(self._environment, frozenset({*self._given, *self._defaults}), self.resolve)

    def resolve(self, name: str) -> Any:
        """Return the value of a variable: plain, rendered, secrets revealed.

        :raises RenderError: it, or one that it uses, cannot be rendered, or it uses itself.
        """
        if name in self._open:
            raise RenderError(f"uses itself ({' -> '.join([*self._open[self._open.index(name) :], name])})")
        if name not in self._done:
            self._open.append(name)
            try:
                self._done[name] = self._render(self._get(name))
            finally:
                self._open.pop()
        return self._done[name]

    def _get(self, name: str) -> Any:
        value = self._given[name].value if name in self._given else None
        return self._defaults.get(name) if value is None else value

    def _render(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._render(item) for item in value]
        if isinstance(value, dict):
            return {key: self._render(item) for key, item in value.items()}
        if isinstance(value, Secret):
            return value.reveal()
        if isinstance(value, UnsafeText):
            return value.text
        return self._templates.render(value) if isinstance(value, str) and is_template(value) else value

    def find_used(self, name: str) -> frozenset[str]:
        """Return all variables that a variable is made of, itself and those used indirectly included."""
        used, waiting = {name}, [name]
        while waiting:
            new = self._used_by(waiting.pop()) - used
            used |= new
            waiting += new
        return frozenset(used)

    def _used_by(self, name: str) -> frozenset[str]:
        value = self._given[name].value if name in self._given else None
        texts = [text for text in find_texts(value) if isinstance(text, str) and is_template(text)]
        return frozenset().union(*(self._templates.find_names(text) for text in texts))

    def is_hidden(self, name: str) -> bool:
        """Tell whether a value, or part of what it is made of, was encrypted or comes from the environment."""
        used = self.find_used(name) & self._given.keys()
        return any(self._is_encrypted(self._given[one]) for one in used)

    @staticmethod
    def _is_encrypted(given: Given) -> bool:
        return given.encrypted or any(isinstance(text, Secret) for text in find_texts(given.value))
