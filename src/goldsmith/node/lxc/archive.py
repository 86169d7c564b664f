"""Archives of guests' files: unpacking templates and backups, packing backups. Flags and order are vzdump's.

Owners are numbers as the guest sees them: for unprivileged guests tar runs inside the guest's user map, so that an
archive fits privileged and unprivileged guests alike, and the kernel itself shifts file capabilities and ACLs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from typing import IO

from goldsmith.base.process import Argument, open_process, render_command
from goldsmith.node.faults import ApiFault
from goldsmith.node.lxc.assemble import CONF, ROOT, Assembly
from goldsmith.node.lxc.idmap import IdMap
from goldsmith.node.lxc.programs import assembled, module_environment
from goldsmith.node.oci import find_layers, read_stages

Log = Callable[[str], None]
CONFIG_MEMBER = "./etc/vzdump/pct.conf"
CONFIG_LIMIT = 1 << 20
_ATTRIBUTES: tuple[Argument, ...] = (
    "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability",
    "--warning=no-file-ignored", "--warning=no-xattr-write",
)  # fmt: skip
_STANDARD_EXCLUDES: tuple[Argument, ...] = (
    "--no-anchored", "--exclude=lost+found", "--anchored",
    "--exclude=./tmp/?*", "--exclude=./var/tmp/?*", "--exclude=./var/run/?*.pid",
)  # fmt: skip
_UNPACKERS = {
    ".zst": ["zstd", "-dcq"], ".tzst": ["zstd", "-dcq"], ".gz": ["gzip", "-dc"], ".tgz": ["gzip", "-dc"],
    ".xz": ["xz", "-dc"], ".txz": ["xz", "-dc"], ".bz2": ["bzip2", "-dc"], ".tbz2": ["bzip2", "-dc"],
}  # fmt: skip


def run_pipeline(
    stages: Sequence[Sequence[Argument]],
    *,
    source: int | IO[bytes],
    sink: int | IO[bytes],
    on_line: Log,
    accept: Callable[[Sequence[int]], bool] = lambda codes: not any(codes),
) -> None:
    """Run programs each of which reads what the one before writes; what they say on stderr goes to `on_line`.

    :raises ApiFault: one of them failed; PVE's words.
    """
    with ExitStack() as stack:
        reader, writer = os.pipe()
        lines = stack.enter_context(os.fdopen(reader, errors="replace"))
        processes: list[Popen[bytes]] = []
        for number, argv in enumerate(stages):
            stdin = source if number == 0 else processes[-1].stdout
            stdout = sink if number == len(stages) - 1 else PIPE
            assert stdin is not None
            opened = open_process(argv, stdin=stdin, stdout=stdout, stderr=writer, env=module_environment())
            processes.append(stack.enter_context(opened))
            if number and (before := processes[-2].stdout) is not None:
                before.close()  # or the writer would never learn that its reader has gone
        os.close(writer)
        for line in lines:
            on_line(line.rstrip("\n"))
        codes = [process.wait() for process in processes]
    if not accept(codes):
        raise ApiFault(_describe_failure(stages, codes))


def _describe_failure(stages: Sequence[Sequence[Argument]], codes: Sequence[int]) -> str:
    # A reader that fails makes its writer fail too (SIGPIPE): the last failure is the cause.
    argv, code = [(argv, code) for argv, code in zip(stages, codes, strict=True) if code][-1]
    ended = f"exit code {code}" if code > 0 else f"got signal {-code} ({signal.Signals(-code).name})"
    return f"command '{render_command(_spell(argv))}' failed: {ended}"


def _spell(argv: Sequence[Argument]) -> Sequence[Argument]:
    """Leave out how a command is brought before the guest's file system: it says nothing to a person."""
    return argv[list(argv).index("--") + 1 :] if "--" in argv else argv


def unpacker(archive: Path) -> list[Argument]:
    """Return the program that turns an archive into plain tar, judged by its name; none for plain tar."""
    return list(_UNPACKERS.get(archive.suffix, ["cat"]))


def unpack(archive: Path, assembly: Assembly, idmap: IdMap, log: Log, *, ignore_errors: bool = False) -> None:
    """Unpack a template or backup into a guest's file system.

    What is there already stays (so does the content of a data disk that is mounted), and nothing is made in /dev.
    """
    tar: list[Argument] = ["tar", "xpf", "-", "--totals", *_ATTRIBUTES, "--sparse", "--skip-old-files"]
    tar += ["--anchored", "--exclude", "./dev/*", "--exclude", "dev/*", "-C", ROOT]
    log(f"extracting archive '{archive}'")
    accept = (lambda _: True) if ignore_errors else (lambda codes: not any(codes))
    layers = find_layers(archive)
    if layers is None:
        readers: list[list[list[Argument]]] = [[unpacker(archive)]]
    else:  # what is there already stays, so the uppermost comes first
        readers = [read_stages(layer) for layer in reversed(layers)]
        for reader in readers:
            _check_no_whiteouts(archive, reader)
    for reader in readers:
        with archive.open("rb") as source, Path(os.devnull).open("wb") as sink:
            stages = [*reader, assembled(assembly, idmap.wrap(tar))]
            run_pipeline(stages, source=source, sink=sink, on_line=log, accept=accept)


def _check_no_whiteouts(archive: Path, reader: Sequence[Sequence[Argument]]) -> None:
    """Raise where a layer takes files of another away: Proxmox can do that, the embedded node cannot."""
    with archive.open("rb") as source, TemporaryFile() as sink:
        run_pipeline([*reader, ["tar", "tf", "-"]], source=source, sink=sink, on_line=lambda _: None)
        sink.seek(0)
        if any(line.rpartition(b"/")[2].startswith(b".wh.") for line in sink):
            raise ApiFault("the embedded node makes no guests of images whose layers take files away (whiteouts)")


def read_config(archive: Path) -> str:
    """Return the guest's config that vzdump put first into a backup.

    :raises ApiFault: there is none.
    """
    tar: list[Argument] = ["tar", "xOf", "-", "--occurrence=1", CONFIG_MEMBER]
    stages: list[list[Argument]] = [unpacker(archive), tar, ["head", "-c", CONFIG_LIMIT]]
    with archive.open("rb") as source, TemporaryFile() as sink:
        # tar ends at the first hit; the unpacker, cut short, then fails, which is as it should be.
        run_pipeline(stages, source=source, sink=sink, on_line=lambda _: None, accept=lambda codes: codes[-1] == 0)
        sink.seek(0)
        text = sink.read().decode(errors="replace")
    if not text:
        raise ApiFault(f"no configuration found in '{archive}'")
    return text


def pack_command(
    assembly: Assembly, idmap: IdMap, targets: Sequence[str], excludes: Sequence[str], *, standard: bool = True
) -> list[Argument]:
    """Return the command that writes a guest's files as tar: its config first, then root and mount points.

    :param targets: paths inside the guest of the mount points that belong to the backup, without the root.
    :param excludes: tar's patterns of the caller (`exclude-path`).
    :param standard: leave out what every system makes anew (/tmp, pid files).
    """
    tar: list[Argument] = ["tar", "cpf", "-", "--totals", "--one-file-system", "-p", "--sparse", *_ATTRIBUTES]
    tar += [f"--directory={CONF}", CONFIG_MEMBER, f"--directory={ROOT}"]
    for pattern in excludes:
        tar += ["--anchored" if pattern.startswith("./") else "--no-anchored", f"--exclude={pattern}"]
    tar += [*(_STANDARD_EXCLUDES if standard else ()), "./", *(f".{target}" for target in targets)]
    return assembled(assembly, idmap.wrap(tar))
