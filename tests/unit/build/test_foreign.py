"""Base images from elsewhere: what they are called on a node, and what a plan says of them."""

from __future__ import annotations

from goldsmith.base.digest import Digest
from goldsmith.build.foreign import Found, clean_name, describe_source
from goldsmith.build.plan import plan_build
from goldsmith.build.steps import EnsureBase
from goldsmith.definition.bases import Download, LocalFile, OciImage

from .making import make_facts, make_image, make_layering

MANIFEST, FILE = Digest("sha256:" + "a1" * 32), Digest("sha256:" + "b2" * 32)
URL = Found(Download("https://example.org/x/my%20base-1.tar.xz?token=abc"), FILE, "the node downloads it")
IMAGE = Found(OciImage("h:5000", "base/debian", "12"), MANIFEST, "h:5000/base/debian:12 is it now")


def test_a_file_is_called_by_its_digest() -> None:
    assert URL.name_file(FILE) == "my_20base-1-" + "b2" * 8 + ".tar.xz"
    assert URL.is_named("my_20base-1-" + "b2" * 8 + ".tar.xz")
    assert not URL.is_named("my_20base-1-" + "b3" * 8 + ".tar.xz")
    assert (URL.is_true("x", FILE), URL.is_true("x", MANIFEST)) == (True, False)


def test_an_image_is_called_by_its_manifest_and_its_file() -> None:
    name = f"debian-{'a1' * 8}-{'b2' * 8}.tar.zst"
    assert IMAGE.name_file(FILE) == name
    assert IMAGE.is_named(name)
    assert (IMAGE.is_true(name, FILE), IMAGE.is_true(name, MANIFEST)) == (True, False)
    for other in (
        f"debian-{'a2' * 8}-{'b2' * 8}.tar.zst",
        f"debian-{'a1' * 8}.tar.zst",
        f"debian-{'a1' * 8}-x.tar.zst",
    ):
        assert not IMAGE.is_named(other)


def test_names_are_as_proxmox_takes_them() -> None:
    assert clean_name("grün & ../x") == "gr_n___.._x"
    assert len(clean_name("x" * 300)) == 120


def test_what_is_recorded_says_where_it_came_from_without_what_is_secret_in_a_url() -> None:
    assert describe_source(URL) == "https://example.org/x/my%20base-1.tar.xz"
    assert describe_source(IMAGE) == "oci://h:5000/base/debian:12"
    assert describe_source(Found(LocalFile("/home/me/base.tar.zst"), FILE, "")) == "base.tar.zst"


def test_a_plan_says_what_a_moving_tag_names_now() -> None:
    image = make_image(base_image="oci://h:5000/base/debian:12")
    (step, *_) = plan_build(image, make_facts(), make_layering(image, base=IMAGE)).steps
    assert isinstance(step, EnsureBase)
    assert (step.reason, step.found) == ("h:5000/base/debian:12 is it now", IMAGE)
    assert step.storage == "local"


def test_without_a_node_a_plan_says_that_nobody_has_looked() -> None:
    image = make_image(base_image="oci://h:5000/base/debian:12")
    (step, *_) = plan_build(image, make_facts(templates=None), make_layering(image)).steps
    assert step.reason == "it comes from elsewhere; it is looked for when the node is there"
