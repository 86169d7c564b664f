"""Reading what the user wrote, for commands: images, inventory and playbooks, with every problem of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from goldsmith.base.errors import DefinitionError, NotOurs, Problem
from goldsmith.build.cache.choose import Layering
from goldsmith.build.plan import choose_hostname, plan_build
from goldsmith.build.play import list_plays, read_stages
from goldsmith.cli.options import Settings
from goldsmith.cli.site import look_without_node
from goldsmith.cli.surroundings import make_surroundings
from goldsmith.definition.hosts import Reserved, check_not_reserved, load_reserved
from goldsmith.definition.image import Image
from goldsmith.definition.images import find_image_directory, list_images
from goldsmith.definition.load import load_image
from goldsmith.provision.syntax import check_syntax

INVENTORY = Path("inventory") / "hosts.yml"
CHECKS_AT_ONCE = 2
"""Each is a process of Ansible's that keeps a processor busy for a second."""


@dataclass
class Reading:
    """What was read, and all that is wrong with it."""

    images: list[Image] = field(default_factory=list)
    """Those that can be used."""
    reserved: Reserved = field(default_factory=Reserved)
    inventory: Path | None = None
    """The inventory, where there is one that can be used."""
    problems: list[Problem] = field(default_factory=list)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Add the problems that the block raises to ours."""
        try:
            yield
        except DefinitionError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]

    def check(self) -> None:
        """Go on only with what is right.

        :raises DefinitionError: something is wrong.
        """
        if self.problems:
            raise DefinitionError(self.problems)


def read_images(directories: Iterable[Path], settings: Settings) -> Reading:
    """Read images and the inventory. Secrets are masked from here on."""
    reading, inventory = Reading(), settings.project / INVENTORY
    with reading.collect():
        reading.reserved = load_reserved(inventory)
        reading.inventory = inventory if inventory.exists() else None
    for directory in directories:
        with reading.collect():
            image = load_image(directory, make_surroundings(settings))
            settings.masker.add(*image.secrets)
            check_not_reserved(image, reading.reserved)
            check_plan(image, reading.reserved)
            reading.images.append(image)
    return reading


def list_proxmox_images(settings: Settings) -> list[Image]:
    """Return the project's images that are built on a Proxmox. One with mistakes in it tells us nothing."""
    found, project = list[Image](), settings.find_project()
    for directory in list_images(project) if project is not None else []:
        with suppress(DefinitionError):
            image = load_image(directory, make_surroundings(settings))
            settings.masker.add(*image.secrets)
            found += [image] if image.variables.proxmox_api_host is not None else []
    return found


def find_directories(named: Iterable[str], project: Path) -> list[Path]:
    """Return the folders of the images that are named, each once.

    :raises UsageError: there is no such image.
    """
    return list(dict.fromkeys(find_image_directory(where, project) for where in named))


def check_plan(image: Image, reserved: Reserved) -> None:
    """Check that an image could be built as far as that can be told without its node.

    :raises DefinitionError: it could not.
    """
    try:
        plan_build(image, look_without_node(image), Layering(stages=read_stages(image)), reserved=reserved)
    except NotOurs as error:
        raise DefinitionError([Problem(image.vars_file, 0, error.message, error.hint)]) from error


@contextmanager
def open_syntax_checks(images: Iterable[Image]) -> Iterator[list[Future[None]]]:
    """Let Ansible read the playbooks in the background; `result()` of each raises what it complains of."""
    with ThreadPoolExecutor(CHECKS_AT_ONCE, "syntax-check") as pool:
        try:
            plays = [(image, play) for image in images for play in list_plays(image)]
            yield [pool.submit(check_syntax, play, host=choose_hostname(image)) for image, play in plays]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def collect_syntax(checks: Iterable[Future[None]], reading: Reading) -> None:
    """Wait for the checks of playbooks and add what they found."""
    for check in checks:
        with reading.collect():
            check.result()
