"""A real virtual machine under emulation, one for all tests of this folder.

Run as root: `pytest tests/vm`. The image is made once and kept in $GOLDSMITH_TEST_CACHE (by default
/var/cache/goldsmith-tests). Fixtures: `vm_node` (a running node with clients), `vm` (the vmid of the running machine,
its agent answers), `boot_image`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from goldsmith.base.process import SAFE_PATH
from goldsmith.node.settings import NodeSettings
from tests.vm.image import BootImage, ensure_image
from tests.vm.machines import VmNode

CACHE = Path(os.environ.get("GOLDSMITH_TEST_CACHE", "/var/cache/goldsmith-tests"))
VMID = 900
_NEEDED = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say plainly why nothing runs where it cannot."""
    lacking = [name for name in _NEEDED if which(name, path=SAFE_PATH) is None]
    reason = "needs root" if os.geteuid() != 0 else f"needs {', '.join(lacking)}" if lacking else ""
    for item in items if reason else []:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def vm_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmNode]:
    """A running node; at the end it is stopped and everything of it is gone."""
    number = os.getpid() % 100
    settings = NodeSettings(
        state=tmp_path_factory.mktemp("vm-node"), port=18200 + number, host_bridge=f"gsv{os.getpid() % 100000}",
        network=f"10.{100 + number}.0.1/16", disk_size=8 << 30, accel="tcg",
    )  # fmt: skip
    node = VmNode(settings)
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.fixture(scope="session")
def boot_image() -> BootImage:
    """The image to boot from."""
    return ensure_image(CACHE)


@pytest.fixture(scope="session")
def vm(vm_node: VmNode, boot_image: BootImage) -> int:
    """The vmid of a running Debian whose guest agent answers."""
    upid = vm_node.root_qemu.post(
        vmid=VMID, name="debian", memory=768, cores=2, agent="1", ostype="l26", args=boot_image.args, serial0="socket",
        vga="serial0", virtio0=f"plain:0,import-from={boot_image.disk},cache=unsafe", net0="virtio,bridge=vmbr0",
    )  # fmt: skip
    vm_node.do(upid)
    vm_node.do(vm_node.qemu(VMID).status.start.post())
    vm_node.wait_for_agent(VMID)
    return VMID
