"""What `base_image` says, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldsmith.definition.bases import (
    Base,
    Download,
    LocalFile,
    NodeTemplate,
    OciImage,
    StoredVersion,
    parse_base,
    parse_checksum,
)

from .making import Place

DIGEST = "sha256:" + "0a" * 32
FORMS: list[tuple[str, Base]] = [
    ("debian-12-standard", NodeTemplate("debian-12-standard")),
    ("local:vztmpl/my-base.tar.zst", NodeTemplate("local:vztmpl/my-base.tar.zst")),
    ("oci:vztmpl/my-base.tar.zst", NodeTemplate("oci:vztmpl/my-base.tar.zst")),  # a storage may be called so
    ("vztmpl/my-base.tar.zst", NodeTemplate("vztmpl/my-base.tar.zst")),
    ("image:debian-12-base:stable", StoredVersion("debian-12-base:stable")),
    ("https://example.org/x/a_1.tar.xz?k=v", Download("https://example.org/x/a_1.tar.xz?k=v")),
    ("./a.tar.zst", LocalFile("./a.tar.zst")),
    ("/srv/a.tar.gz", LocalFile("/srv/a.tar.gz")),
    ("oci://docker.io/library/debian:12", OciImage("docker.io", "library/debian", "12")),
    (f"oci://h:5000/a/b-c@{DIGEST}", OciImage("h:5000", "a/b-c", "", DIGEST)),
    (f"oci://[fe80::1]:5000/a:v1@{DIGEST}", OciImage("[fe80::1]:5000", "a", "v1", DIGEST)),
]


@pytest.mark.parametrize(("text", "base"), FORMS)
def test_each_form_is_told_from_the_others(text: str, base: Base) -> None:
    assert parse_base(text) == base
    if isinstance(base, OciImage):
        assert f"oci://{base}" == text


def test_the_name_of_a_download_is_the_end_of_its_path() -> None:
    base = parse_base("https://example.org/x/a_1.tar.xz?k=v.zip")
    assert isinstance(base, Download)
    assert base.filename == "a_1.tar.xz"


def test_digits_of_a_checksum_are_in_small_letters() -> None:
    assert parse_checksum(DIGEST.upper().replace("SHA", "Sha")) == DIGEST


def test_a_files_path_is_relative_to_the_images_folder(place: Place) -> None:
    (place.directory / "base.tar.zst").write_bytes(b"x")
    place.write(f"base_image: ./base.tar.zst\nbase_checksum: {DIGEST}\n")
    image = place.load()
    assert image.base == LocalFile(str(Path(place.directory, "base.tar.zst")))
    assert image.variables.base_checksum == DIGEST
