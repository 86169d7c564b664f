"""Does the system work: has it come up, with all its units, and with sources to be kept up to date from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from goldsmith.verify.hygiene.policy import Policy
from goldsmith.verify.hygiene.probe import Probe
from goldsmith.verify.hygiene.registry import Judgement, check, failed, judge_list, passed

LOCAL_SCHEMES = frozenset({"file", "copy", "cdrom"})
ONE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s")
URIS = re.compile(r"\s*URIs:\s*(?P<uris>.+)", re.IGNORECASE)


@check("system-running", "running")
def judge_running(probe: Probe, _policy: Policy) -> Judgement:
    """Take systemd's own word."""
    state = probe.text("running").strip() or "nothing"
    if state == "running":
        return passed("systemd says: running")
    jobs = "something is still starting: systemctl list-jobs" if state in ("starting", "initializing") else ""
    return failed(f"systemd says: {state}", jobs)


@check("no-failed-units", "failed-units")
def judge_units(probe: Probe, _policy: Policy) -> Judgement:
    """List the units that have failed."""
    return judge_list(probe.lines("failed-units"), "units have failed", "no unit has failed")


@check("apt-sources", "apt-sources", "apt-check")
def judge_apt(probe: Probe, _policy: Policy) -> Judgement:
    """Let apt read its sources, then look at where they lead."""
    complaint = probe.sections["apt-check"]
    if complaint.code != 0:
        return failed("apt cannot read its sources", complaint.text.strip())
    uris = list(dict.fromkeys(list_uris(probe)))
    if not uris:
        return failed("apt has no sources", "/etc/apt/sources.list and /etc/apt/sources.list.d name none")
    local = [*_list_local(uris, probe), *_list_proxies(probe)]
    hosts = ", ".join(dict.fromkeys(urlsplit(uri).netloc or uri for uri in uris))
    return judge_list(local, "only the machine of the build reaches", f"sources: {hosts}")


def list_uris(probe: Probe) -> Iterator[str]:
    """Yield the URIs of all sources, of either format (sources.list(5))."""
    for line in probe.lines("apt-sources"):
        file, _, text = line.partition("\t")
        if file.endswith(".sources"):
            found = URIS.match(text)
            yield from found["uris"].split() if found else ()
        elif found := ONE_LINE.match(text):
            yield found["uri"]


def _list_local(uris: list[str], probe: Probe) -> Iterator[str]:
    for uri in uris:
        if uri.partition(":")[0] in LOCAL_SCHEMES or _is_near(urlsplit(uri).hostname, probe):
            yield f"source {uri}"


def _list_proxies(probe: Probe) -> Iterator[str]:
    """Yield settings of apt that lead to this guest itself or to its gateway (lines of `apt-config dump`)."""
    for line in probe.lines("apt-config"):
        name, _, value = line.rstrip(";").partition(" ")
        address = value.strip('"')
        if "://" in address and _is_near(urlsplit(address).hostname, probe):
            yield f"{name} {address}"


def _is_near(host: str | None, probe: Probe) -> bool:
    """Tell whether a host is the guest itself or its gateway, on the embedded node the machine of the build."""
    if host is None:
        return False
    if host == "localhost" or host in probe.lines("gateway"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local
