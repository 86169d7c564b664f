"""What `publish`, `images where` and `images withdraw` share: versions, their places, and what lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace

import click

from goldsmith.artifacts.repository import Repository, Version
from goldsmith.base.errors import NodeUnreachable, PveError, UsageError
from goldsmith.base.events import Events
from goldsmith.build.facts import Site
from goldsmith.build.publish.lying import Lying, judge_place
from goldsmith.build.publish.places import CONTENT, Cluster, Place, choose_places
from goldsmith.build.publish.records import Brought, list_brought
from goldsmith.build.pull import Way, choose_way
from goldsmith.build.repositories import open_image_repository
from goldsmith.cli.options import Settings
from goldsmith.cli.project import state_directory
from goldsmith.cli.site import Sites, open_own
from goldsmith.cli.versions import Chosen, choose_version, list_readable
from goldsmith.definition.image import Image
from goldsmith.definition.server import STABLE
from goldsmith.definition.values import PLACE
from goldsmith.pve.client import Pve
from goldsmith.pve.storage import Storage, Volume

node_option = click.option("--node", "nodes", multiple=True, metavar="NODE", help="Only this node. Repeatable.")
storage_option = click.option(
    "--storage",
    "storages",
    multiple=True,
    metavar="STORAGE",
    help="Instead of what `publish` in vars.yml says: a storage, or NODE:STORAGE. Repeatable.",
)


@dataclass(frozen=True)
class Where:
    """What the command line says of places."""

    nodes: tuple[str, ...] = ()
    storages: tuple[str, ...] = ()

    def check(self) -> Where:
        """Return it.

        :raises UsageError: something in it is no storage.
        """
        for word in self.storages:
            if PLACE.match(word) is None:
                raise UsageError(f"--storage: '{word}' is neither a storage nor NODE:STORAGE")
        return self


@dataclass
class Group:
    """Images of one Proxmox that go to the same places, the versions that are meant, and the places."""

    site: Site
    images: list[Image]
    places: tuple[Place, ...]
    chosen: list[Chosen] = field(default_factory=list)


class Yards:
    """The storages of the project's nodes while a command runs."""

    def __init__(self, settings: Settings, stack: ExitStack, events: Events) -> None:
        self.settings, self.events = settings, events
        self._sites = Sites(stack, events, settings)
        self._clusters: dict[str, Cluster] = {}

    def group(self, images: Sequence[Image], where: Where) -> list[Group]:
        """Return images with the places that they are for, those of one Proxmox and the same places together.

        :raises UsageError: nobody says where one of them is to be.
        """
        groups: dict[tuple[str, tuple[str, ...]], Group] = {}
        for image in images:
            self.settings.masker.add(*image.secrets)
            wanted = where.storages or image.variables.publish
            if not wanted:
                hint = "--storage says it for once, `publish` in its vars.yml for good"
                raise UsageError(f"nobody says to which storages {image.name} is to be published", hint=hint)
            site = self._sites.of(image)
            key = (site.name, tuple(wanted))
            if key not in groups:
                places = choose_places(wanted, self._read_cluster(site), where.nodes)
                groups[key] = Group(site, [], places)
            groups[key].images.append(image)
        return list(groups.values())

    def _read_cluster(self, site: Site) -> Cluster:
        if site.name not in self._clusters:
            self._clusters[site.name] = read_cluster(site)
        return self._clusters[site.name]

    def read_places(self, group: Group) -> Iterator[tuple[Place, list[Volume]]]:
        """Yield each place of a group with the templates there; what keeps us from seeing them is its fault then."""
        for place in group.places:
            volumes: list[Volume] = []
            try:
                if not place.fault:
                    volumes = group.site.pve.node(place.node).storage.list_content(place.storage, CONTENT)
            except PveError as error:
                place = replace(place, fault=error.message)  # noqa: PLW2901 - the same place, by now known better
            yield place, volumes

    def find_site(self, group: Group, place: Place) -> Site:
        """Return a place's node, with the shell there where there are shells."""
        if place.node == group.site.node.name or group.site.kind != "proxmox":
            return group.site
        variables = group.images[0].variables.model_copy(update={"proxmox_node": place.node})
        return self._sites.of(replace(group.images[0], variables=variables))

    def make_opener(self, group: Group, places: Iterable[Place]) -> Callable[[Place], AbstractContextManager[Site]]:
        """Return what opens a place in a thread. Their nodes are found here and now, in the main thread."""
        found = {place: self.find_site(group, place) for place in places}
        return lambda place: open_own(found[place])

    def look(self, group: Group, wanted: Sequence[Version] = ()) -> Iterator[tuple[Place, list[Lying]]]:
        """Yield what lies at each place of a group.

        :param wanted: versions that are to be there.
        """
        versions = [version for repository in open_repositories(group) for version in repository.list_versions()]
        for place, volumes in self.read_places(group):
            brought = self.list_brought(group, place, volumes)
            yield place, judge_place(place, volumes, versions, brought, [] if place.fault else wanted)

    def list_brought(self, group: Group, place: Place, volumes: Iterable[Volume]) -> dict[str, Brought]:
        """Return what was written down on this machine of templates at a place, by volume id."""
        where = place.identify(self._name_site(group, place))
        return list_brought(state_directory(), where, [volume.volid for volume in volumes])

    def choose_way(self, group: Group, chosen: Chosen, place: Place) -> Way:
        """Decide whether a place's node is to pull a version, and can: of a shared storage, each node that sees it."""
        if place.fault or not self._sites.of(chosen.image).pulls:
            return Way()
        cluster = self._read_cluster(group.site)
        seeing = [node.name for node in cluster.nodes if place.shared and cluster.find(node.name, place.storage)]
        return choose_way(chosen.repository, map(group.site.pve.node, dict.fromkeys([place.node, *seeing])))

    def _name_site(self, group: Group, place: Place) -> str:
        return f"{group.site.name.rpartition(':')[0]}:{place.node}"


def read_cluster(site: Site) -> Cluster:
    """Read the nodes of a site's cluster and their storages. One that cannot be reached counts as off."""
    nodes, storages = list(site.pve.nodes()), dict[str, Sequence[Storage]]()
    for number, node in enumerate(nodes):
        if node.online:
            found = find_storages(site.pve, node.name)
            nodes[number] = replace(node, online=found is not None)
            storages[node.name] = found or ()
    return Cluster(nodes, storages, site.node.name)


def find_storages(pve: Pve, node: str) -> list[Storage] | None:
    """Find the storages of a node; None where it cannot be reached."""
    try:
        return pve.node(node).storage.list_storages()
    except NodeUnreachable:
        return None


def open_repositories(group: Group) -> list[Repository]:
    """Return the repositories of a group's images, each once."""
    found = {image.repository: image for image in group.images}
    return [open_image_repository(image) for image in found.values()]


def choose_images(names: Sequence[str], settings: Settings, where: Where) -> list[Image]:
    """Return the project's images that are named, or all that say where they are published.

    :raises UsageError: there is none of a name, or none at all.
    """
    known = list(list_readable(settings))
    chosen = [image for image in known if (image.name in names if names else where.storages or image.variables.publish)]
    unknown = sorted(set(names) - {image.name for image in known})
    if unknown:
        hint = f"there are: {', '.join(sorted(image.name for image in known)) or 'none'}"
        raise UsageError(f"the project has no image {', '.join(unknown)}", hint=hint)
    if not chosen:
        hint = "set `publish` in the vars.yml of images, or give --storage"
        raise UsageError("no image of the project says where it is to be published", hint=hint)
    return chosen


def choose_current(image: Image) -> Version | None:
    """Find the version of an image that is to be published: what its channel stable names, else the newest."""
    repository = open_image_repository(image)
    return repository.find_version(f"{image.name}:{STABLE}") or repository.find_version(image.name)


def choose_named(words: Sequence[str], settings: Settings) -> list[Chosen]:
    """Return the versions that are named, each once."""
    chosen = [choose_version(word, settings) for word in words]
    return list({f"{one.image.name} {one.version}": one for one in chosen}.values())
