"""What is inside a version, for scanners: a software bill of materials in CycloneDX's form, kept beside the version.

The one door to cyclonedx-python-lib. No clock and no chance is in it: the same version gives the same bytes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from goldsmith.artifacts.record import BuildRecord, Package, render_time
from goldsmith.artifacts.repository import Attached, Repository, Version
from goldsmith.artifacts.store import CREATED
from goldsmith.artifacts.tree import find_file

MEDIA_TYPE = "application/vnd.cyclonedx+json"
"""Registered with IANA; what scanners look for."""
_OS_RELEASE = "usr/lib/os-release"


@dataclass(frozen=True)
class Distribution:
    """Whose packages they are, as os-release(5) has it: `debian`, `12`."""

    name: str = "debian"
    release: str = ""


def parse_os_release(data: bytes) -> Distribution:
    """Parse os-release(5)."""
    lines = [line.partition("=") for line in data.decode(errors="replace").splitlines()]
    values = {key.strip(): value.strip().strip("\"'") for key, equals, value in lines if equals}
    return Distribution(values.get("ID", Distribution.name), values.get("VERSION_ID", ""))


def read_distribution(repository: Repository, version: Version) -> Distribution:
    """Return whose packages a version holds, as it says itself.

    :raises RepositoryDamaged: a layer is not what its digest promises.
    """
    data = find_file(repository, version, _OS_RELEASE)
    return Distribution() if data is None else parse_os_release(data)


def render_purl(package: Package, distribution: Distribution) -> str:
    """Render a package's URL: `pkg:deb/debian/git@1:2.39.5?arch=amd64&distro=debian-12`.

    Source: the purl specification, type `deb`.
    """
    return _make_purl(package, distribution).to_string()


def _make_purl(package: Package, distribution: Distribution) -> PackageURL:
    distro = f"{distribution.name}-{distribution.release}" if distribution.release else ""
    qualifiers = {key: value for key, value in (("arch", package.arch), ("distro", distro)) if value}
    return PackageURL("deb", distribution.name, package.name, package.version, qualifiers)


def render_sbom(version: Version, record: BuildRecord, distribution: Distribution) -> bytes:
    """Render the bill of materials of a version, from the packages that were recorded of it."""
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:goldsmith:{version.digest}"),
        components=[_make_component(package, distribution) for package in record.packages],
    )
    bom.metadata.timestamp = version.created
    bom.metadata.component = Component(
        name=version.name,
        version=version.tag,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref=version.digest,
        properties=[Property(name="goldsmith:digest", value=version.digest)],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string().encode()


def _make_component(package: Package, distribution: Distribution) -> Component:
    purl = _make_purl(package, distribution)
    return Component(
        name=package.name, version=package.version, type=ComponentType.LIBRARY, purl=purl, bom_ref=purl.to_string()
    )


def attach_sbom(repository: Repository, version: Version) -> Attached:
    """Make a version's bill of materials and store it beside the version.

    :raises VersionNotFound: nobody has recorded what it was made of, or it has gone.
    """
    record = repository.read_record(version)
    document = render_sbom(version, record, read_distribution(repository, version))
    return repository.attach(version, MEDIA_TYPE, {MEDIA_TYPE: document}, {CREATED: render_time(version.created)})


def find_sbom(repository: Repository, version: Version) -> bytes | None:
    """Return a version's bill of materials as JSON."""
    attached = repository.list_attached(version, MEDIA_TYPE)
    return repository.store.read_blob(attached[-1].get_part(MEDIA_TYPE)) if attached else None
