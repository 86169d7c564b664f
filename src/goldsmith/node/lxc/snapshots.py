"""Snapshots of guests: a frozen copy of every volume and a copy of the options under a name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from goldsmith.base.process import run
from goldsmith.node.context import Node
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.config import GuestConfig, Options, hold_lock, open_config, save_config
from goldsmith.node.lxc.disks import find_volume, volumes_of
from goldsmith.node.lxc.power import run_start, stop_guest
from goldsmith.node.lxc.runtime import Runtime
from goldsmith.node.properties import UNUSED_KEY
from goldsmith.node.routing import Task

_NOT_COPIED = frozenset(("description", "lock", "snaptime", "snapstate"))
"""What a snapshot's options and the current ones do not take from each other (PVE, __snapshot_copy_config)."""


def has_snapshot_feature(node: Node, options: Options) -> bool:
    """Tell whether every mount point can be snapshotted; bind mounts cannot (PVE)."""
    points = options.mount_points()
    return all(point.kind == "volume" and find_volume(node, point)[0].has_snapshots() for point in points)


def get_snapshot(config: GuestConfig, name: str) -> Options:
    """Return a snapshot's options.

    :raises ApiFault: there is none of that name.
    """
    if name not in config.snapshots:
        raise ApiFault(f"snapshot '{name}' does not exist")
    return config.snapshots[name]


@contextmanager
def open_frozen(runtime: Runtime) -> Iterator[None]:
    """Hold all processes of a running guest still while the block runs, so that several disks agree."""
    if not runtime.is_running():
        yield
        return
    try:
        runtime.freeze()
        yield
    finally:
        run(runtime.command("lxc-unfreeze"), check=False)


def snapshot_volumes(node: Node, vmid: int, options: Options, name: str, stack: ExitStack) -> None:
    """Freeze every volume's content under a name; the stack forgets them again unless told otherwise.

    One volume is consistent by itself; a guest with several is held still meanwhile.
    """
    points = volumes_of(options)
    with ExitStack() as frozen:
        if len(points) > 1:
            frozen.enter_context(open_frozen(Runtime(node, vmid)))
        for point in points:
            storage, volume = find_volume(node, point)
            stack.callback(delete_quietly, node, options, name)
            storage.snapshot(volume, name)


def delete_quietly(node: Node, options: Options, name: str) -> None:
    """Forget volumes' snapshots, whichever of them exist."""
    for point in volumes_of(options):
        storage, volume = find_volume(node, point)
        with suppress(Exception):
            storage.delete_snapshot(volume, name)


def _copy(options: Options) -> Options:
    copied = options.copy()
    for key in [key for key in copied.values if key in _NOT_COPIED or UNUSED_KEY.fullmatch(key)]:
        del copied.values[key]
    return copied


def run_snapshot(task: Task, node: Node, vmid: int, name: str, description: str) -> None:
    """Worker `vzsnapshot`: freeze a guest's present state under a name."""
    with open_config(node, vmid) as config:
        config.check_lock()
        if config.current.is_template:
            raise ApiFault("you can't take a snapshot if it's a template")
        if name in config.snapshots:
            raise ApiFault(f"snapshot name '{name}' already used")
        if not has_snapshot_feature(node, config.current):
            raise ApiFault("snapshot feature is not available")
    with hold_lock(node, vmid, "snapshot") as config, ExitStack() as stack:
        _prepare(node, vmid, name, description)
        stack.callback(_forget_section, node, vmid, name)
        for point in volumes_of(config.current):
            task.log(f"create storage snapshot of {point.key} ({point.volume})")
        snapshot_volumes(node, vmid, config.current, name, stack)
        _commit(node, vmid, name)
        stack.pop_all()


def _prepare(node: Node, vmid: int, name: str, description: str) -> None:
    """Write the snapshot's options down before the first volume is touched, marked as unfinished."""
    with open_config(node, vmid, timeout=60) as config:
        taken = _copy(config.current)
        taken.values.update({"snaptime": str(int(time.time())), "snapstate": "prepare"})
        if description:
            taken.values["description"] = description.rstrip("\n") + "\n"
        config.snapshots[name] = taken
        save_config(node, vmid, config)


def _commit(node: Node, vmid: int, name: str) -> None:
    with open_config(node, vmid, timeout=60) as config:
        del config.snapshots[name].values["snapstate"]
        config.current.values["parent"] = name
        save_config(node, vmid, config)


def _forget_section(node: Node, vmid: int, name: str) -> None:
    with open_config(node, vmid, timeout=60) as config:
        config.snapshots.pop(name, None)
        save_config(node, vmid, config)


def drop_unfinished(node: Node, config: GuestConfig) -> None:
    """Forget snapshots that a dead worker was making or deleting. The caller saves the config."""
    for name, options in list(config.snapshots.items()):
        if options.get("snapstate"):
            delete_quietly(node, options, name)
            _remove_section(config, name)


def _remove_section(config: GuestConfig, name: str) -> None:
    """Take a snapshot out of a config; those made after it hang on the one before it."""
    taken = config.snapshots.pop(name)
    for options in (config.current, *config.snapshots.values()):
        if options.get("parent") == name:
            del options.values["parent"]
            options.values.update({"parent": taken.get("parent")} if taken.get("parent") else {})


def run_rollback(task: Task, node: Node, vmid: int, name: str, start: bool) -> None:
    """Worker `vzrollback`: bring a guest back to a snapshot; it is stopped first and stays so unless `start`."""
    with open_config(node, vmid, timeout=60) as config:
        config.check_lock()
        taken = get_snapshot(config, name)
        if Runtime(node, vmid).is_running():
            stop_guest(node, vmid, config)
        config.current.values["lock"] = "rollback"
        save_config(node, vmid, config)
        for point in volumes_of(taken):
            storage, volume = find_volume(node, point)
            storage.unmount(volume)
            storage.rollback(volume, name)
        config.current = _rolled_back(config.current, taken, name)
        config.pending, config.pending_delete = {}, []
        save_config(node, vmid, config)
    if start:
        task.spawn("vzstart", str(vmid), run_start, vmid)


def _rolled_back(current: Options, taken: Options, name: str) -> Options:
    """Return the options after a rollback; disks that are newer than the snapshot become unused ones."""
    result = _copy(taken)
    result.values["parent"] = name
    if "description" in current.values:
        result.values["description"] = current.values["description"]
    known = {point.volume for point in taken.mount_points()}
    for point in volumes_of(current, unused=True):
        if point.volume not in known:
            result.values[result.free_key("unused")] = point.volume
    return result


def run_delete_snapshot(task: Task, node: Node, vmid: int, name: str, force: bool) -> None:
    """Worker `vzdelsnapshot`: forget a snapshot. With `force`, also where a volume's snapshot cannot be removed."""
    del task
    with hold_lock(node, vmid, "snapshot-delete") as before:
        taken = get_snapshot(before, name)
        with open_config(node, vmid, timeout=60) as config:
            config.snapshots[name].values["snapstate"] = "delete"
            save_config(node, vmid, config)
        for point in volumes_of(taken):
            storage, volume = find_volume(node, point)
            with suppress(*([ApiFault] if force else [])):
                storage.delete_snapshot(volume, name)
        with open_config(node, vmid, timeout=60) as config:
            _remove_section(config, name)
            save_config(node, vmid, config)


def list_snapshots(node: Node, vmid: int, config: GuestConfig) -> list[dict[str, Any]]:
    """Return what `GET snapshot` shows: every snapshot, then the present state as `current`."""
    shown: list[dict[str, Any]] = []
    for name, options in sorted(config.snapshots.items(), key=lambda item: item[1].number("snaptime")):
        entry: dict[str, Any] = {"name": name, "description": options.get("description")}
        entry["snaptime"] = options.number("snaptime")
        shown.append({**entry, **({"parent": options.get("parent")} if options.get("parent") else {})})
    running = int(Runtime(node, vmid).is_running())
    current = {"name": "current", "description": "You are here!", "running": running, "digest": config.digest}
    if parent := config.current.get("parent"):
        current["parent"] = parent
    return [*shown, current]
