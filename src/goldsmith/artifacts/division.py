"""How a root file system is divided into layers: a pure plan, the same for the same files, and steady when they change.

    directories         all folders, so that whatever unpacks a later layer finds them as they are to be
    packages, alone     large source packages, and such as have been updated before: one layer each
    packages, shared    all others, by a hash of their name; updated ones apart from those that never were
    places              files of no package, by the folder they lie in: large ones alone, others shared
    changing            what nearly every build changes: /etc, databases of packages, caches, logs
    directories         the same blob once more

Steady means: what a package's upgrade changes is its own layer, `changing` and `directories`. No package's place
depends on others, except at one edge: only so many get a layer alone. They are ranked by the power of two that their
size is below, so that growing seldom moves one, and a new one pushes out at most one other.

The folders come twice because there are two ways to unpack: tools that keep layers apart (podman 4.3, Docker)
make folders that a layer lacks anew, with mode 755 and root for an owner, and the last layer wins (tried with podman:
/tmp was 755). It is stored and sent once, and tar skips it or sets the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from goldsmith.artifacts.owners import Owners

ROOT = b"./"
MOST_LAYERS = 64
ALONE, SHARED_UPDATED, SHARED_QUIET = 34, 6, 12
PLACES_ALONE, PLACES_SHARED = 5, 3
"""With the folders twice and `changing` these are 63."""
LEAST_ALONE = 128 << 10
"""Bytes of tar, or a fourth of it for an updated package. A smaller one would save less than its layer's descriptor and
transfer cost."""
UPDATED_WEIGHT = 4
DIRECTORIES, CHANGING = "directories", "changing"
SETTINGS = b"etc/"
"""Packages' files too: builds change them, and the layer of a package without them is the same in all images."""
CHANGING_BELOW = (
    b"run/", b"tmp/", b"var/cache/", b"var/lib/apt/", b"var/lib/dpkg/", b"var/lib/rpm/", b"var/lib/systemd/",
    b"var/lib/ucf/", b"var/log/", b"var/tmp/", b"lib/apk/", b"usr/lib/apk/", b"usr/lib/sysimage/",
)  # fmt: skip


class _Label(NamedTuple):
    """What belongs together whatever happens. Labels are sorted: packages first, files of no package last."""

    family: int
    name: bytes


_PACKAGE, _PLACE, _CHANGING = range(3)


@dataclass(frozen=True)
class Group:
    """What goes into one layer, in the order in which it stands there; `title` says to a person what it is."""

    title: str
    names: tuple[bytes, ...]


def plan_division(sizes: Mapping[bytes, int], shared: Iterable[list[bytes]], owners: Owners) -> list[Group]:
    """Divide a root file system into at most 64 layers, of which the last repeats the first.

    :param sizes: bytes of tar by name; folders have a slash at the end.
    :param shared: the sorted names of each inode that has several; they stay together, where the first belongs.
    """
    labels = {name: _label(name, owners) for name in sizes if not name.endswith(b"/")}
    for names in shared:
        labels.update((name, labels[names[0]]) for name in names[1:])
    titles = _choose_titles(_add_up(labels, sizes), owners)
    members: dict[str, list[bytes]] = {title: [] for title in titles.values()}
    for name in sorted(labels):
        members[titles[labels[name]]].append(name)
    folders = order_names(name for name in sizes if name.endswith(b"/"))
    around = [Group(DIRECTORIES, folders)] if folders else []
    files = [Group(title, tuple(names)) for title, names in members.items()]
    return [*around, *files, *(around if files else [])]


def order_names(names: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return names in the order in which a layer has them: by their bytes, the root before all others."""
    return tuple(sorted(names, key=lambda name: (name != ROOT, name)))


def _label(name: bytes, owners: Owners) -> _Label:
    if name.startswith(SETTINGS):
        return _Label(_CHANGING, b"")
    owner = owners.files.get(name)
    if owner is not None:
        return _Label(_PACKAGE, owner)
    if name.startswith(CHANGING_BELOW):
        return _Label(_CHANGING, b"")
    return _Label(_PLACE, b"/".join(name.split(b"/")[:-1][:3]))


def _add_up(labels: Mapping[bytes, _Label], sizes: Mapping[bytes, int]) -> dict[_Label, int]:
    totals: dict[_Label, int] = {}
    for name, label in labels.items():
        totals[label] = totals.get(label, 0) + sizes[name]
    return totals


def _choose_titles(totals: Mapping[_Label, int], owners: Owners) -> dict[_Label, str]:
    """Return the layer of each label, in the order of layers."""
    weights = {label: size * (UPDATED_WEIGHT if _is_updated(label, owners) else 1) for label, size in totals.items()}
    packages = [label for label in sorted(totals) if label.family == _PACKAGE]
    places = [label for label in sorted(totals) if label.family == _PLACE]
    updated = [label for label in packages if _is_updated(label, owners)]
    quiet = [label for label in packages if not _is_updated(label, owners)]
    alone = _largest(packages, ALONE, weights)
    places_alone = _largest(places, PLACES_ALONE, weights)
    titles = {label: _text(label.name) for label in packages if label in alone}
    titles |= _share(updated, alone, lambda label: f"updated packages {_bucket(label, SHARED_UPDATED)}")
    titles |= _share(quiet, alone, lambda label: f"packages {_bucket(label, SHARED_QUIET)}")
    titles |= {label: f"/{_text(label.name)}" for label in places if label in places_alone}
    titles |= _share(places, places_alone, lambda label: f"files of no package {_bucket(label, PLACES_SHARED)}")
    return titles | {label: CHANGING for label in totals if label.family == _CHANGING}


def _is_updated(label: _Label, owners: Owners) -> bool:
    return label.family == _PACKAGE and label.name in owners.updated


def _largest(labels: Iterable[_Label], most: int, weights: Mapping[_Label, int]) -> set[_Label]:
    large = [label for label in labels if weights[label] >= LEAST_ALONE]
    return set(sorted(large, key=lambda label: (-weights[label].bit_length(), label))[:most])


def _share(labels: Iterable[_Label], but: set[_Label], title: Callable[[_Label], str]) -> dict[_Label, str]:
    """Return the titles of labels that have no layer alone, in the titles' order."""
    found = {label: title(label) for label in labels if label not in but}
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def _bucket(label: _Label, number: int) -> int:
    return int.from_bytes(hashlib.sha256(label.name).digest()[:8], "big") % number + 1


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
