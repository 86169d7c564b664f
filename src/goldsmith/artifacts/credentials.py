"""Who we are to a registry: from the environment, or from where podman, skopeo and docker keep their logins.

Sources: containers-auth.json(5); docker's config.json; docker-credential-helpers' protocol.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldsmith.base.errors import ProgramError, RepositoryError
from goldsmith.base.process import run
from goldsmith.base.secrets import Secret

USER, PASSWORD = "GOLDSMITH_REGISTRY_USER", "GOLDSMITH_REGISTRY_PASSWORD"
_TOKEN_USER = "<token>"  # noqa: S105 - no password, but the mark of one
"""What a credential helper calls the user when it hands out an identity token."""


@dataclass(frozen=True)
class Credentials:
    """A user and a password; or an identity token, which a token server takes in their place."""

    user: str
    password: Secret
    identity_token: Secret | None = None


def find_credentials(registry: str, path: str, environment: Mapping[str, str], home: Path) -> Credentials | None:
    """Find credentials for a registry; those of the environment come first.

    :param registry: host and port: `registry.example.org:5000`.
    :param path: below which images lie there; auth files may hold a login for a part of a registry.
    :raises RepositoryError: a file of logins cannot be read.
    """
    if (login := find_login(environment)) is not None:
        return login
    for file in list_files(environment, home):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = _find_in(_load(file), registry, path)
            if found is not None:
                return found
    return None


def find_login(environment: Mapping[str, str]) -> Credentials | None:
    """Return the login that the environment gives for the registry of an image's versions."""
    if not environment.get(USER):
        return None
    return Credentials(environment[USER], Secret(environment.get(PASSWORD, "")))


def list_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return where logins may be kept, in the order in which skopeo and podman look."""
    if environment.get("REGISTRY_AUTH_FILE"):
        return [Path(environment["REGISTRY_AUTH_FILE"])]
    files = [home / ".config/containers/auth.json"]
    if environment.get("XDG_CONFIG_HOME"):
        files = [Path(environment["XDG_CONFIG_HOME"], "containers/auth.json")]
    if environment.get("XDG_RUNTIME_DIR"):
        files.insert(0, Path(environment["XDG_RUNTIME_DIR"], "containers/auth.json"))
    return [*files, Path(environment.get("DOCKER_CONFIG") or home / ".docker", "config.json")]


def _load(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, PermissionError) as error:
        raise RepositoryError(f"the logins in {file} cannot be read: {error}", hint="correct or remove it") from error
    return value if isinstance(value, Mapping) else {}


def _find_in(config: Mapping[str, Any], registry: str, path: str) -> Credentials | None:
    helper = (config.get("credHelpers") or {}).get(registry) or config.get("credsStore")
    if helper:
        return _ask_helper(str(helper), registry)
    auths = {_normalise(key): entry for key, entry in (config.get("auths") or {}).items()}
    for key in _list_keys(registry, path):
        entry = auths.get(key)
        if isinstance(entry, Mapping) and (found := _parse_entry(entry)) is not None:
            return found
    return None


def _list_keys(registry: str, path: str) -> Iterator[str]:
    """Yield under which names a login may be kept, the narrowest first."""
    parts = [part for part in path.split("/") if part]
    for length in range(len(parts), -1, -1):
        yield "/".join([registry, *parts[:length]])


def _normalise(key: str) -> str:
    """Bring docker's old names (`https://index.example.org/v1/`) into today's form."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return key.removesuffix("/v1").removesuffix("/v2")


def _parse_entry(entry: Mapping[str, Any]) -> Credentials | None:
    token = Secret(str(entry["identitytoken"])) if entry.get("identitytoken") else None
    with suppress(binascii.Error, ValueError):
        user, colon, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
        if colon:
            return Credentials(user, Secret(password.rstrip("\0")), token)
    return None if token is None else Credentials("", Secret(""), token)


def _ask_helper(name: str, registry: str) -> Credentials | None:
    """Ask a credential helper; one that knows nothing of this registry ends with an error."""
    try:
        answer = json.loads(run([f"docker-credential-{name}", "get"], input=registry, timeout=30).stdout)
    except (ProgramError, ValueError):
        return None
    user, secret = str(answer.get("Username", "")), Secret(str(answer.get("Secret", "")))
    if user == _TOKEN_USER:
        return Credentials("", Secret(""), secret)
    return Credentials(user, secret)
