# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import InvalidReferenceError
from copacetic.oci import Reference
from copacetic.oci.location import Location


@pytest.mark.parametrize("prefix", ["", "docker://", "registry://", "image://"])
def test_registries_have_several_spellings(prefix: str) -> None:
    found = Location.parse(f"{prefix}registry.example/app:1")
    assert found.kind == "registry"
    assert found.reference == Reference.parse("registry.example/app:1")
    assert str(found) == "registry.example/app:1"


@pytest.mark.parametrize(
    ("text", "kind", "path", "tag", "canonical"),
    [
        ("oci:dir", "oci", "dir", "", "oci:dir"),
        ("oci:dir:1.0", "oci", "dir", "1.0", "oci:dir:1.0"),
        ("oci:/a/b c/d:1.0", "oci", "/a/b c/d", "1.0", "oci:/a/b c/d:1.0"),
        ("oci:dir:", "oci", "dir", "", "oci:dir"),
        ("oci:dir:app:1.0", "oci", "dir", "app:1.0", "oci:dir:app:1.0"),
        (
            "oci:dir:registry.example/app:1.0",
            "oci",
            "dir",
            "registry.example/app:1.0",
            "oci:dir:registry.example/app:1.0",
        ),
        ("oci-dir://dir:1", "oci", "dir", "1", "oci:dir:1"),
        ("oci-dir:///abs", "oci", "/abs", "", "oci:/abs"),
        ("oci-archive:f.tar:1", "oci-archive", "f.tar", "1", "oci-archive:f.tar:1"),
        ("docker-archive:f.tar", "docker-archive", "f.tar", "", "docker-archive:f.tar"),
        ("docker-archive:f.tar:app", "docker-archive", "f.tar", "docker.io/library/app:latest", None),
        ("archive://f.tar", "docker-archive", "f.tar", "", "docker-archive:f.tar"),
    ],
)
def test_files_have_a_path_and_a_tag(text: str, kind: str, path: str, tag: str, canonical: str | None) -> None:
    found = Location.parse(text)
    assert (found.kind, found.path, found.tag) == (kind, Path(path), tag)
    assert str(found) == (canonical or f"{kind}:{path}:{tag}")
    assert Location.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("oci:", "names no directory"),
        ("oci::1", "names no directory"),
        ("oci-archive:", "names no file"),
        ("oci:a\0b", "names no directory"),
        ("oci:dir:-x", "is not a tag"),
        ("oci:dir:a b", "is not a tag"),
        ("docker-archive:f:me/UPPER", "lower case"),
        ("docker-daemon:app", "the transport docker-daemon: is not supported"),
        ("containers-storage:app", "is not supported"),
        ("https://registry.example/app", "is not supported"),
        ("docker://registry://app", "'registry:'"),
        ("docker://", "names no repository"),
        ("", "names no repository"),
    ],
)
def test_a_malformed_location_says_which_part(text: str, part: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Location.parse(text)
    assert part in str(caught.value)


@given(
    st.text()
    | st.builds(
        lambda a, b: a + b, st.sampled_from(["oci:", "oci-archive:", "docker-archive:", "docker://"]), st.text()
    )
)
def test_any_text_is_a_location_or_one_clear_error(text: str) -> None:
    found, message = read(text)
    if found is None:
        assert message.isprintable()
    else:
        assert Location.parse(str(found)) == found


def read(text: str) -> tuple[Location | None, str]:
    try:
        return Location.parse(text), ""
    except InvalidReferenceError as error:
        return None, str(error)
