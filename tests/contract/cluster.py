"""A cluster's HA, replication and backup jobs, kept by fakepve: its schema checks each call, this remembers it.

As in pve-ha-manager and pve-manager (PVE 9), a resource that is removed leaves its rules, and a rule goes with its last
resource; a replication job belongs to the guest in its id.
"""

from __future__ import annotations

from typing import Any

from fakepve import FakePve
from fakepve.model import PveError

KEYS = {
    "/cluster/ha/resources": "sid",
    "/cluster/ha/rules": "rule",
    "/cluster/replication": "id",
    "/cluster/backup": "id",
}
Fields = dict[str, Any]


class ClusterState:
    """What a cluster has of the four; put into a running fakepve."""

    def __init__(self, fake: FakePve) -> None:
        self.kept: dict[str, dict[str, Fields]] = {path: {} for path in KEYS}
        self._otherwise = fake.synthesise
        fake.synthesise = self._answer
        self.unreachable = False
        """Whether the other node is off: then no replication job is ever removed but by force."""

    @property
    def ha(self) -> dict[str, Fields]:
        return self.kept["/cluster/ha/resources"]

    @property
    def rules(self) -> dict[str, Fields]:
        return self.kept["/cluster/ha/rules"]

    @property
    def replication(self) -> dict[str, Fields]:
        return self.kept["/cluster/replication"]

    @property
    def jobs(self) -> dict[str, Fields]:
        return self.kept["/cluster/backup"]

    async def _answer(self, match: Any, method: str, info: Any, user: str, values: Fields) -> Any:
        path = match.template.rpartition("/{")[0] or match.template
        if path not in KEYS or path.count("/") + match.template.count("{") < match.template.count("/"):
            return await self._otherwise(match, method, info, user, values)
        key = KEYS[path]
        if method == "GET":
            shown = [self._show(path, name) for name in self.kept[path]]
            self._schedule()
            return shown
        if method == "POST":
            return self._add(path, values[key], {name: value for name, value in values.items() if name != key})
        name = match.params[key]
        if name not in self.kept[path]:
            raise PveError(500, f"no such {path.rpartition('/')[2]} '{name}'")
        if method == "DELETE" and path == "/cluster/replication" and not values.get("force"):
            self.replication[name]["remove_job"] = "full"
            return None
        if method == "DELETE":
            return self._remove(path, name)
        self.kept[path][name].update({one: value for one, value in values.items() if one not in (key, "delete")})
        return None

    def _schedule(self) -> None:
        """Remove, after somebody has seen them once more, the jobs that are to go."""
        for name, job in list(self.replication.items()):
            if "remove_job" in job and not self.unreachable:
                del self.replication[name]

    def _show(self, path: str, name: str) -> Fields:
        shown = {KEYS[path]: name, "digest": "0" * 40, **self.kept[path][name]}
        if path == "/cluster/replication":
            shown["guest"] = int(name.partition("-")[0])
        return shown

    def _add(self, path: str, name: str, values: Fields) -> None:
        if name in self.kept[path]:
            raise PveError(500, f"'{name}' already defined")
        self.kept[path][name] = values

    def _remove(self, path: str, name: str) -> None:
        del self.kept[path][name]
        if path != "/cluster/ha/resources":
            return
        for rule, values in list(self.rules.items()):
            rest = [sid for sid in values["resources"].split(",") if sid != name]
            if rest:
                values["resources"] = ",".join(rest)
            else:
                del self.rules[rule]
