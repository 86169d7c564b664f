"""What is decided before anything is done: options, restores, backups."""

import pytest

from goldsmith.node.faults import ApiFault, ParameterFault
from goldsmith.node.guestconf import list_pending
from goldsmith.node.lxc.archive import pack_command
from goldsmith.node.lxc.assemble import Assembly
from goldsmith.node.lxc.backup import compressor, find_template_fault, render_bytes, render_excludes, render_notes
from goldsmith.node.lxc.config import GuestConfig, Options, parse_config
from goldsmith.node.lxc.create import CreateRequest, plan_disks
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.options import check_lists, render_params, split_disks, stage_changes
from goldsmith.node.lxc.restore import merge_options, plan_restore

BACKED_UP = parse_config("""\
arch: amd64
dev0: /dev/sda
features: nesting=1
hostname: old
memory: 512
mp0: local:100/subvol-100-disk-1.subvol,mp=/data,backup=1,size=1536M
mp1: /srv/x,mp=/x
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,type=veth
parent: s1
rootfs: local:100/subvol-100-disk-0.subvol,size=4G
unprivileged: 1
unused0: local:100/subvol-100-disk-2.subvol
lxc.cap.drop: sys_time
""").current


def request(
    *, is_root: bool = True, unique: bool = False, disks: dict[str, str] | None = None, **options: str
) -> CreateRequest:
    return CreateRequest(101, "local:backup/x", "plain", options, disks or {}, unique=unique, is_root=is_root)


def test_options_are_stored_as_proxmox_stores_them() -> None:
    stored = render_params(
        {"vmid": 1, "password": "x", "onboot": True, "memory": 256, "tags": "b;a b", "description": "x"}
    )
    assert stored == {"onboot": "1", "memory": "256", "tags": "a;b", "description": "x\n"}


def test_a_bare_number_is_a_disk_of_the_default_storage() -> None:
    others, disks = split_disks(
        {"rootfs": "8", "mp0": "2,mp=/x", "mp1": "local:3,mp=/y", "unused0": "x", "memory": "1"}, "plain"
    )
    assert disks == {"rootfs": "plain:8", "mp0": "plain:2,mp=/x", "mp1": "local:3,mp=/y"}
    assert others == {"memory": "1"}


def test_a_root_disk_has_four_gib_unless_told() -> None:
    points = plan_disks(request())
    assert [(point.key, point.volume) for point in points] == [("rootfs", "plain:4")]


@pytest.mark.parametrize(
    ("params", "delete", "error"),
    [
        (
            {"description": "x"},
            ["description"],
            "you can't use '-description' and -delete description' at the same time",
        ),
        ({}, ["nosuchopt"], "unknown option 'nosuchopt'"),
    ],
)
def test_contradictions_are_refused(params: dict[str, str], delete: list[str], error: str) -> None:
    with pytest.raises(ParameterFault) as caught:
        check_lists(params, delete, [])
    assert caught.value.errors == {"delete": error}


@pytest.mark.parametrize(
    ("changes", "delete", "error"),
    [
        ({"unprivileged": "0"}, [], "unable to modify read-only option: 'unprivileged'"),
        ({}, ["rootfs"], "unable to delete required option 'rootfs'"),
    ],
)
def test_what_cannot_change_is_refused(changes: dict[str, str], delete: list[str], error: str) -> None:
    with pytest.raises(ApiFault) as caught:
        stage_changes(GuestConfig(Options({"rootfs": "local:1"})), changes, delete, [])
    assert caught.value.reason == error


def test_changes_wait_as_pending_and_can_be_dropped() -> None:
    config = GuestConfig(Options({"features": "nesting=1", "memory": "512"}))
    stage_changes(config, {"nameserver": "192.0.2.1"}, ["features"], [])
    assert list_pending(config)[:3] == [
        {"key": "features", "value": "nesting=1", "delete": 1},
        {"key": "memory", "value": 512},
        {"key": "nameserver", "pending": "192.0.2.1"},
    ]
    stage_changes(config, {}, [], ["features", "nameserver"])
    assert (config.pending, config.pending_delete) == ({}, [])


def test_a_restore_makes_all_disks_anew_on_the_storage() -> None:
    points = plan_restore(BACKED_UP, request())
    assert [point.render() for point in points] == ["plain:4", "plain:1.5,mp=/data,backup=1", "/srv/x,mp=/x"]


def test_a_restore_with_a_root_disk_drops_the_others() -> None:
    assert [point.key for point in plan_restore(BACKED_UP, request(disks={"rootfs": "local:2"}))] == ["rootfs"]


def test_directories_of_the_machine_are_restored_for_root_only() -> None:
    with pytest.raises(ApiFault, match=r"^restoring 'mp1' to bind mount is only possible for root$"):
        plan_restore(BACKED_UP, request(is_root=False))


def test_given_options_win_over_backed_up_ones() -> None:
    options = merge_options(BACKED_UP, request(hostname="new"))
    assert (options.get("hostname"), options.get("memory"), options.is_unprivileged) == ("new", "512", True)
    assert not {"rootfs", "mp0", "unused0", "parent"} & set(options.values)
    assert options.nets()[0].mac == "BC:24:11:00:00:01"
    assert options.raw == [("lxc.cap.drop", "sys_time")]


def test_a_unique_restore_has_new_addresses_and_a_stranger_no_raw_lines() -> None:
    options = merge_options(BACKED_UP, request(unique=True, is_root=False))
    assert options.nets()[0].mac != "BC:24:11:00:00:01"
    assert options.raw == []
    assert "dev0" not in options.values


def test_becoming_privileged_loses_the_features() -> None:
    options = merge_options(BACKED_UP, request(unprivileged="0"))
    assert not {"features", "unprivileged"} & set(options.values)


def test_compressors() -> None:
    assert compressor("zstd", 3) == (["zstd", "-q", "-T3", "-c"], ".tar.zst")
    assert compressor("gzip", None)[1] == ".tar.gz"
    assert compressor("0", None) == ([], ".tar")


def test_notes_and_sizes() -> None:
    values = {"guestname": "web", "vmid": "100", "node": "pve", "cluster": ""}
    assert render_notes(r"{{guestname}} {{vmid}}\n{{ node }} \\n", values) == "web 100\n{{ node }} \\n"
    assert find_template_fault(r"{{guestname}} \n {{ other }} \\x") == ""
    assert find_template_fault("two\nlines") == "contains a line feed"
    told = "found unknown: escape sequence '\\x' at char 0, variable 'other' at char 7"
    assert find_template_fault(r"\x {{other}}") == told
    assert [render_bytes(size) for size in (2048, 5 << 20, 3 << 30)] == ["2KB", "5MB", "3.00GB"]


def test_an_archive_begins_with_the_config_and_excludes_are_anchored_as_asked() -> None:
    command = pack_command(Assembly("/r"), IdMap(0), ["/data"], render_excludes(["/var/log/x", "*.bak"]))
    tar = [str(word) for word in command[command.index("tar") :]]
    assert tar.index("./etc/vzdump/pct.conf") < tar.index("./") < tar.index("./data")
    assert tar[tar.index("--exclude=./var/log/x") - 1] == "--anchored"
    assert tar[tar.index("--exclude=*.bak") - 1] == "--no-anchored"
    bare = pack_command(Assembly("/r"), IdMap(0), [], [], standard=False)
    assert not [word for word in map(str, bare) if word.startswith("--exclude")]
