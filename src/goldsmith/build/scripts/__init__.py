"""Shell scripts that run inside a build guest, as resources."""

from importlib.resources import files


def read_script(name: str) -> str:
    """Return a script of this folder."""
    return (files(__name__) / name).read_text(encoding="utf-8")
