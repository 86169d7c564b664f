"""Disks and network devices of virtual machines, as the options describe them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from goldsmith.node.properties import make_mac, parse_bool, parse_properties, parse_size, render_properties, render_size
from goldsmith.node.storage.driver import VolumeId

DRIVE_KEY = re.compile(r"(ide|scsi|virtio)(\d+)")
SERIAL_KEY = re.compile(r"serial(\d+)")
_NEW_DISK = re.compile(r"(?:([^/:\s]+):)?(\d+(?:\.\d+)?)")
_MODELS = frozenset((
    "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82551", "i82557b", "i82559er", "ne2k_isa",
    "ne2k_pci", "pcnet", "rtl8139", "virtio", "vmxnet3",
))  # fmt: skip
GIB = 1 << 30


@dataclass(frozen=True)
class Drive:
    """`scsiN`, `virtioN`, `ideN` or `unusedN`. `values` holds every key as written."""

    key: str
    values: Mapping[str, str]

    @classmethod
    def parse(cls, key: str, text: str) -> Drive:
        """Parse the option `key`; `volume` is another name for `file`."""
        values = parse_properties(text, "file")
        if "volume" in values:
            values["file"] = values.pop("volume")
        return cls(key, values)

    @property
    def file(self) -> str:
        """A volume id, `none`, or what asks for a new disk (`local:8`)."""
        return self.values.get("file", "none")

    @property
    def interface(self) -> str:
        """`ide`, `scsi`, `virtio`."""
        return self.key.rstrip("0123456789")

    @property
    def index(self) -> int:
        """The number in its key."""
        return int(self.key.removeprefix(self.interface))

    @property
    def is_cdrom(self) -> bool:
        """Whether it is a CD drive."""
        return self.values.get("media") == "cdrom"

    @property
    def has_disk(self) -> bool:
        """Whether it has a volume that is the machine's own."""
        return not self.is_cdrom and ":" in self.file

    @property
    def size(self) -> int:
        """Its size in bytes; 0: not known."""
        return parse_size(self.values["size"]) if "size" in self.values else 0

    def get(self, key: str) -> str:
        """Return another key's value, or nothing."""
        return self.values.get(key, "")

    def flag(self, key: str) -> bool:
        """Return a flag; absent is false."""
        return parse_bool(self.values.get(key))

    def request(self, default_storage: str = "") -> tuple[str, int] | None:
        """Return storage (nothing: none is named) and bytes when it asks for a new disk (`local:8`, GiB), else None."""
        match = _NEW_DISK.fullmatch(self.file)
        return (match[1] or default_storage, int(float(match[2]) * GIB)) if match else None

    def with_volume(self, volume: VolumeId | str, size: int) -> Drive:
        """Return it with a volume and its size, as it is stored: what was only about making it is left out."""
        kept = {key: value for key, value in self.values.items() if key not in ("format", "import-from")}
        return replace(self, values={**kept, "file": str(volume), "size": render_size(size)})

    def render(self) -> str:
        """Render the option's value."""
        return render_properties(self.values, default_key="file")


@dataclass(frozen=True)
class Net:
    """A network device, `netN`."""

    key: str
    model: str
    mac: str
    values: Mapping[str, str]
    """What is beside model and address."""

    @classmethod
    def parse(cls, key: str, text: str) -> Net:
        """Parse the option `key`: `virtio=MAC,bridge=...`, `model=virtio,macaddr=MAC,...` or `virtio,bridge=...`."""
        values = parse_properties(text, "model")
        for model in _MODELS & values.keys():
            values |= {"model": model, "macaddr": values.pop(model)}
        return cls(key, values.pop("model", ""), values.pop("macaddr", ""), values)

    @property
    def index(self) -> int:
        """The number in its key."""
        return int(self.key[3:])

    @property
    def bridge(self) -> str:
        """The bridge by its API name; empty: a network of QEMU's own."""
        return self.values.get("bridge", "")

    @property
    def link_down(self) -> bool:
        """Whether its cable is pulled."""
        return parse_bool(self.values.get("link_down"))

    def complete(self) -> Net:
        """Return it with a hardware address, as it is stored."""
        return replace(self, mac=self.mac or make_mac())

    def render(self) -> str:
        """Render the option's value."""
        return render_properties({self.model: self.mac, **self.values}, first=(self.model,))
