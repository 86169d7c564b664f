"""Where an image is built, and how it gets to its node: what of that depends on this machine is looked at here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from goldsmith.build.delivery import Delivery, Way, choose_delivery, make_local
from goldsmith.build.facts import Site
from goldsmith.cli.proxmox import list_endpoints
from goldsmith.cli.site import Sites, load_node_settings
from goldsmith.definition.image import Image
from goldsmith.node.client import find_node
from goldsmith.node.host import judge_host, look_at_host


@dataclass(frozen=True)
class Route:
    """An image as it is built, and how it is delivered; without `delivery` it is built where it is to be."""

    image: Image
    """As its builds see it."""
    wanted: Image
    """As it is written: its tests and servers are where that says."""
    delivery: Delivery | None = None

    def find_target(self, sites: Sites) -> Site | None:
        """Return where the template is uploaded to; None where it is not."""
        return sites.of(self.wanted) if self.delivery is not None and self.delivery.way is Way.UPLOAD else None


def choose_route(image: Image) -> Route:
    """Decide where an image is built. Nothing is started, and no node is asked."""
    variables = image.variables
    if variables.proxmox_api_host is None or variables.proxmox_shell != "none":
        return Route(image, image)
    node = variables.proxmox_node or list_endpoints(image)[0].host
    lacking = list_lacking() if variables.without_shell is None else []
    delivery = choose_delivery(image, node, lacking)
    is_local = delivery is not None and delivery.way is Way.UPLOAD
    return Route(make_local(image) if is_local else image, image, delivery)


def list_lacking() -> list[str]:
    """Return what this machine lacks for the embedded node; nothing where it runs."""
    settings = load_node_settings()
    if find_node(settings.state) is not None:
        return []
    return [finding.message for finding in judge_host(look_at_host(settings), settings) if finding.level == "error"]


def name_node(route: Route, site: Site | None) -> Route:
    """Return a route whose delivery names its node as that calls itself, where it has been asked."""
    if route.delivery is None or site is None:
        return route
    return replace(route, delivery=replace(route.delivery, node=site.node.name))
