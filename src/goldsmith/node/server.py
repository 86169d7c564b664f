"""The HTTPS front: finds the method, the caller and the parameters, in the order in which Proxmox looks at them.

    path -> method (501) -> caller (401) -> declared permission (403) -> node name (500) -> parameters (400) -> code

Code runs in threads, because it reads files and waits for locks; long work runs in tasks (`spawner`). The server
listens on the loopback interface only.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from goldsmith.base.errors import GoldsmithError
from goldsmith.node.access.permissions import AclCaller
from goldsmith.node.access.tickets import Tickets
from goldsmith.node.api import import_methods
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault, PermissionFault
from goldsmith.node.incoming import identify, read_parameters, receive_upload
from goldsmith.node.replies import EmptyFault, render_data, render_fault
from goldsmith.node.routing import METHODS, Call, Method
from goldsmith.node.schema import check_parameters, may_use_token
from goldsmith.node.spawner import Request, request_task
from goldsmith.node.version import is_at_least
from goldsmith.node.websocket import lead_to_port, wants_websocket

_THREADS = 16
_LOG = logging.getLogger(__name__)
_UPLOAD = "/nodes/{node}/storage/{storage}/upload"
_WEBSOCKET = "/vncwebsocket"
_OPEN = frozenset((("GET", "/access/ticket"), ("POST", "/access/ticket")))
"""What can be asked without being known."""


def _compile(path: str) -> re.Pattern[str]:
    """Return the pattern of a path template. Only a volume's name may have slashes in it."""
    pattern = re.sub(r"\\{(\w+)\\}", lambda match: _variable(match[1]), re.escape(path))
    return re.compile(pattern)


def _variable(name: str) -> str:
    return f"(?P<{name}>{'.+' if name == 'volume' else '[^/]+'})"


@dataclass(frozen=True)
class Routes:
    """All methods by their paths."""

    patterns: list[tuple[re.Pattern[str], dict[str, Method]]]

    @classmethod
    def collect(cls, version: str) -> Routes:
        """Return the routes of every method that `api` declares; longer paths first, so that `{volume}` comes last.

        :param version: of Proxmox VE; what came later than that is left out.
        """
        import_methods()
        by_path: dict[str, dict[str, Method]] = {}
        for method in [method for method in METHODS if is_at_least(version, method.since)]:
            by_path.setdefault(method.path, {})[method.verb] = method
        return cls([(_compile(path), methods) for path, methods in sorted(by_path.items(), reverse=True)])

    def find(self, verb: str, path: str) -> tuple[Method, dict[str, str]]:
        """Return a method and the variables of its path.

        :raises ApiFault: 501, there is none; PVE's words.
        """
        for pattern, methods in self.patterns:
            if verb in methods and (match := pattern.fullmatch(path)):
                return methods[verb], match.groupdict()
        raise ApiFault(f"Method '{verb} {path}' not implemented", status=501)


class Server:
    """One node's API."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._routes = Routes.collect(node.settings.pve_version)
        self._tickets = Tickets(node.settings.state / "authkey")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")

    def make_app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.router.add_route("*", "/api2/{style:json|extjs}{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        style = request.match_info["style"]
        try:
            answer = await self._answer(request)
            if request.match_info["path"].endswith(_WEBSOCKET) and wants_websocket(request):
                return await lead_to_port(request, answer["port"])
            return render_data(answer, style)
        except ApiFault as fault:
            return render_fault(fault, style)
        except GoldsmithError as error:
            return render_fault(ApiFault(error.message), style)
        except OSError as error:
            _LOG.exception("%s %s", request.method, request.path)
            return render_fault(ApiFault(str(error)), style)
        except Exception as error:
            _LOG.exception("%s %s", request.method, request.path)
            return render_fault(ApiFault(f"{type(error).__name__}: {error}"), style)

    async def _answer(self, request: web.Request) -> Any:
        path = request.match_info["path"].rstrip("/") or "/"
        method, variables = self._routes.find("GET" if request.method == "HEAD" else request.method, path)
        caller = self._identify(request, method)
        if method.path == _UPLOAD:
            return await self._upload(request, method, caller, variables)
        params = {**await read_parameters(request), **variables}
        return await self._in_thread(self._call, method, caller, params)

    def _identify(self, request: web.Request, method: Method) -> AclCaller:
        if (method.verb, method.path) in _OPEN:
            return AclCaller("", self._node.access.load())
        caller = identify(request, self._node.access.load(), self._tickets)
        if "!" in caller.id and not may_use_token(method.verb, method.path):
            text = f"URI '{request.match_info['path']}' not available with API token, need proper ticket.\n"
            raise PermissionFault(text)
        return caller

    async def _upload(self, request: web.Request, method: Method, caller: AclCaller, variables: dict[str, str]) -> Any:
        """Receive a file. Whether the caller may is asked first: nobody else's bytes are stored."""
        try:
            self._check(method, caller, variables)
        except PermissionFault as fault:
            raise EmptyFault(fault.reason, status=fault.status) from fault
        storage = self._node.storage(variables["storage"])
        received = await receive_upload(request, storage.root / ".upload")
        temporary = Path(received.pop("tmpfilename"))
        try:
            result = await self._in_thread(self._call, method, caller, {**received, **variables}, temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return result

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _check(self, method: Method, caller: AclCaller, params: dict[str, Any]) -> None:
        """Check what a method declares to need, and that this is the node that is meant."""
        if method.permission is not None:
            template, *privileges = method.permission
            path = re.sub(r"\{(\w+)\}", lambda match: str(params.get(match[1], "")), template)
            caller.check(path, *privileges, any_of=method.any_of)
        name = params.get("node", self._node.name)
        if name not in (self._node.name, "localhost"):
            problem = f"failed to get address info for: {name}: Name or service not known"
            raise ApiFault(f"hostname lookup '{name}' failed - {problem}")

    def _call(self, method: Method, caller: AclCaller, params: dict[str, Any], upload: Path | None = None) -> Any:
        self._check(method, caller, params)
        typed = check_parameters(method.verb, method.path, params)
        if "node" in typed:
            typed["node"] = self._node.name

        def spawn(kind: str, name: str, work: Callable[..., Any], *arguments: Any) -> str:
            return request_task(self._node, Request(kind, name, caller.id, work, arguments))

        return method.code(Call(self._node, caller, typed, spawn, self._tickets, upload))


def make_tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
