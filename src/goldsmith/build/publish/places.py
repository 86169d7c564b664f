"""Which storages of which nodes are meant: pure. A shared storage is one place, one that each node has are as many."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from goldsmith.definition.values import PLACE
from goldsmith.pve.client import NodeState
from goldsmith.pve.storage import Storage

CONTENT = "vztmpl"


@dataclass(frozen=True)
class Place:
    """A storage on a node. `available` in bytes."""

    node: str
    storage: str
    shared: bool = False
    """Whether all nodes see the same; it is reached over this one then."""
    available: int = 0
    fault: str = ""
    """Why nothing can be brought there; empty where it can."""

    def __str__(self) -> str:
        return f"{self.node}:{self.storage}"

    def identify(self, site: str) -> str:
        """Return what stays the same of it over whichever node a shared storage is reached.

        :param site: the name of its node (`Site.name`).
        """
        return f"{site.rpartition(':')[0] if self.shared else site} {self.storage}"


@dataclass(frozen=True)
class Cluster:
    """What is known of a cluster, or of the one node that there is."""

    nodes: Sequence[NodeState]
    storages: Mapping[str, Sequence[Storage]]
    """Those of the nodes that are on, by the node's name."""
    own: str
    """The node that an image names, or that answers: what is shared is reached over it."""

    def find(self, node: str, storage: str) -> Storage | None:
        """Find a storage of a node; one that is meant for other nodes alone is listed, too, not enabled (PVE 8.4)."""
        return next((one for one in self.storages.get(node, ()) if one.name == storage and one.enabled), None)


def choose_places(wanted: Sequence[str], cluster: Cluster, only: Collection[str] = ()) -> tuple[Place, ...]:
    """Return the places that are meant, each once, in the order in which they are named.

    :param wanted: storages, alone or as NODE:STORAGE.
    :param only: names of nodes; empty: all of them.
    """
    found = [place for word in wanted for place in _choose(word, cluster, only)]
    unique: dict[tuple[str, str], Place] = {}
    for place in found:
        unique.setdefault(("" if place.shared else place.node, place.storage), place)
    known = {node.name for node in cluster.nodes}
    strangers = [Place(name, "-", fault=f"there is no node {name}") for name in only if name not in known]
    return (*unique.values(), *strangers)


def _choose(word: str, cluster: Cluster, only: Collection[str]) -> Iterator[Place]:
    match = PLACE.match(word)
    assert match is not None  # the definition, or the command line, has checked it
    node, storage = match["node"], match["storage"]
    if node is not None:
        if not only or node in only:
            yield judge(node, storage, cluster)
        return
    names = sorted((one.name for one in cluster.nodes if not only or one.name in only), key=lambda n: n != cluster.own)
    having = [name for name in names if cluster.find(name, storage) is not None]
    if shared := [name for name in having if (found := cluster.find(name, storage)) and found.shared]:
        yield judge(shared[0], storage, cluster)
        return
    off = [one.name for one in cluster.nodes if not one.online and one.name in names]
    yield from (judge(name, storage, cluster) for name in [*having, *off] or names[:1])


def judge(node: str, storage: str, cluster: Cluster) -> Place:
    """Return a place with what is wrong with it, if anything."""
    found = cluster.find(node, storage)
    if found is None:
        return Place(node, storage, fault=_explain_absence(node, storage, cluster))
    fault = ""
    if CONTENT not in found.content:
        allowed = ",".join(sorted({*found.content, CONTENT}))
        fault = f"{storage} takes no templates (pvesm set {storage} --content {allowed})"
    elif not found.active:
        fault = f"{storage} is not active on {node}"
    return Place(node, storage, found.shared, found.available, fault)


def _explain_absence(node: str, storage: str, cluster: Cluster) -> str:
    state = next((one for one in cluster.nodes if one.name == node), None)
    if state is None:
        return f"there is no node {node}"
    return f"{node} has no storage {storage} that we may see" if state.online else f"{node} is off, or out of reach"
