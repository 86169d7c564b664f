"""The examples are right: their images and inventories are read without a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from goldsmith.definition.fleet import HostEntry, make_finder, parse_fleet
from goldsmith.definition.images import list_images
from goldsmith.definition.load import Surroundings, load_image

EXAMPLES = sorted(path for path in (Path(__file__).parents[3] / "examples").iterdir() if path.is_dir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_read_without_a_mistake(example: Path) -> None:
    images = [load_image(directory, Surroundings({}, example, None)) for directory in list_images(example)]
    inventory = example / "inventory" / "hosts.yml"
    hosts = yaml.safe_load(inventory.read_text())["all"]["hosts"]
    fleet = parse_fleet([HostEntry(name, given) for name, given in hosts.items()], inventory, make_finder([]), {})
    assert fleet.servers
    wanted = {server.variables.image for server in fleet.servers}
    assert wanted <= {image.variables.template_name for image in images}
