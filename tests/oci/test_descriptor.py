# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import CopaError, ImageError, IntegrityError, UsageError
from copacetic.oci import Descriptor, Digest, Platform

HEX = "0123456789abcdef" * 4
ENTRY: dict[str, Any] = {
    "x-first": [1],
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "size": 7,
    "digest": f"sha256:{HEX}",
    "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["f"], "x-new": True},
    "annotations": {"a": "b"},
    "artifactType": "t/t",
    "urls": ["https://mirror.example/x"],
    "x-last": {"kept": None},
}


class TestDigest:
    @pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX * 2}"])
    def test_reading_and_writing_gives_the_same(self, text: str) -> None:
        assert str(Digest.parse(text)) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "sha256",
            "sha256:",
            HEX,
            f"sha256:{HEX[1:]}",
            f"sha256:{HEX}0",
            f"sha256:{HEX.upper()}",
            f"sha256:{HEX[:-1]}g",
            f"sha256:{HEX}\n",
            f" sha256:{HEX}",
            f"SHA256:{HEX}",
            f"sha512:{HEX}",
            f"md5:{HEX[:32]}",
            "sha256:" + "\u0660" * 64,
            "sha256:../../../../etc/passwd",
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ImageError, match="not a digest"):
            Digest.parse(text)

    @given(st.binary())
    def test_of_is_sha256(self, data: bytes) -> None:
        assert str(Digest.of(data)) == "sha256:" + hashlib.sha256(data).hexdigest()

    @given(st.text())
    def test_any_text_gives_only_our_errors(self, text: str) -> None:
        with pytest.raises(ImageError):
            Digest.parse(text)


class TestPlatform:
    @pytest.mark.parametrize(
        ("text", "normal"),
        [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm64/8", "linux/arm64/v8"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
        ],
    )
    def test_other_spellings_are_understood(self, text: str, normal: str) -> None:
        assert str(Platform.parse(text)) == normal
        assert str(Platform.parse(normal)) == normal

    @pytest.mark.parametrize(
        "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b", "linux/amd64/", "linux/\n"]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="not a platform"):
            Platform.parse(text)

    @pytest.mark.parametrize(
        ("wanted", "there", "matches"),
        [
            ("linux/amd64", "linux/amd64", True),
            ("linux/amd64", "linux/arm64", False),
            ("linux/amd64", "windows/amd64", False),
            ("linux/arm64", "linux/arm64/v8", True),
            ("linux/arm64/v8", "linux/arm64", True),
            ("linux/arm64/v9", "linux/arm64", False),
            ("linux/arm", "linux/arm/v7", True),
            ("linux/arm/v6", "linux/arm/v7", False),
            ("linux/arm/v7", "linux/arm", False),
        ],
    )
    def test_a_platform_without_variant_takes_any(self, wanted: str, there: str, matches: bool) -> None:
        assert Platform.parse(wanted).matches(Platform.parse(there)) is matches


class TestDescriptor:
    def test_unknown_fields_and_their_order_are_kept(self) -> None:
        written = Descriptor.from_json(ENTRY, "x").to_json()
        assert written == ENTRY
        assert list(written) == list(ENTRY)

    def test_all_fields_are_read(self) -> None:
        read = Descriptor.from_json(ENTRY, "x")
        assert read.platform == Platform(os="linux", architecture="arm", variant="v7", os_features=("f",))
        assert (read.size, read.artifact_type, read.urls) == (7, "t/t", ("https://mirror.example/x",))
        assert read.annotations == {"a": "b"}

    def test_pointing_elsewhere_keeps_what_is_not_about_the_content(self) -> None:
        new = Descriptor(media_type="m", digest=Digest.of(b"new"), size=3, annotations={"lost": "x"})
        moved = Descriptor.from_json({**ENTRY, "data": "b2xk"}, "x").pointing_to(new)
        kept = {key: value for key, value in ENTRY.items() if key != "urls"}
        assert moved.to_json() == {**kept, "mediaType": "m", "digest": str(new.digest), "size": 3}
        assert moved.urls == ()

    def test_a_made_one_writes_what_it_holds(self) -> None:
        made = Descriptor(
            media_type="m",
            digest=Digest.of(b""),
            size=0,
            platform=Platform(os="linux", architecture="arm64", variant="v8", os_version="1", os_features=("f",)),
            annotations={"k": "v"},
            artifact_type="t",
            urls=("u",),
        )
        assert Descriptor.from_json(made.to_json(), "x") == made

    def test_nulls_are_absent_fields(self) -> None:
        entry = {**ENTRY, "platform": None, "annotations": None, "urls": None, "artifactType": None}
        assert Descriptor.from_json(entry, "x").platform is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"digest": None},
            {"digest": 1},
            {"digest": "sha256:x"},
            {"size": None},
            {"size": -1},
            {"size": "7"},
            {"size": True},
            {"size": 7.0},
            {"mediaType": 1},
            {"annotations": ["a"]},
            {"urls": "u"},
            {"platform": "linux/amd64"},
            {"platform": {"os.features": "x"}},
        ],
    )
    def test_a_wrong_field_is_one_clear_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ImageError):
            Descriptor.from_json({**ENTRY, **wrong}, "the entry")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ENTRY)), inner, max_size=5)
            ),
            max_leaves=12,
        )
    )
    def test_any_document_gives_only_our_errors(self, document: object) -> None:
        with pytest.raises(CopaError):
            Descriptor.from_json(document, "x")

    def test_content_is_checked(self) -> None:
        right = Descriptor(media_type="m", digest=Digest.of(b"abc"), size=3)
        right.check(b"abc", where="here")
        with pytest.raises(IntegrityError, match=r"here: .* has 2 bytes instead of 3"):
            right.check(b"ab", where="here")
        with pytest.raises(IntegrityError, match="expected the digest"):
            right.check(b"abd", where="here")

    def test_sha512_is_checked_as_such(self) -> None:
        digest = Digest("sha512", hashlib.sha512(b"abc").hexdigest())
        Descriptor(media_type="m", digest=digest, size=3).check(b"abc", where="here")
