# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copacetic.errors import InvalidReferenceError
from copacetic.http import HttpClient, HttpSettings
from copacetic.oci import Reference
from copacetic.oci.credentials import Keychain
from copacetic.oci.location import Location
from copacetic.oci.registryclient import RegistryClient
from copacetic.oci.registryconfig import RegistryConfig
from copacetic.oci.registrysettings import RegistrySettings
from copacetic.oci.transports import TRANSPORTS, NamedPath, TaggedPath, Transport


@pytest.mark.parametrize("prefix", ["", "docker://", "registry://", "image://"])
def test_registries_have_several_spellings(prefix: str) -> None:
    found = Location.parse(f"{prefix}registry.example/app:1")
    assert found.transport.name == "registry"
    assert found.reference == Reference.parse("registry.example/app:1")
    assert str(found) == "registry.example/app:1"


@pytest.mark.parametrize(
    ("text", "kind", "canonical"),
    [
        ("docker:web", "docker", "docker:docker.io/library/web:latest"),
        ("docker-daemon:me/web:1", "docker", "docker:docker.io/me/web:1"),
        ("podman:localhost/web:1", "podman", "podman:localhost/web:1"),
    ],
)
def test_an_engine_s_image_is_in_no_registry(text: str, kind: str, canonical: str) -> None:
    found = Location.parse(text)
    assert (found.transport.name, str(found), found.reference) == (kind, canonical, None)
    assert Location.parse(canonical) == found


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
        (
            "docker-archive:f.tar:app",
            "docker-archive",
            "f.tar",
            "docker.io/library/app:latest",
            "docker-archive:f.tar:docker.io/library/app:latest",
        ),
        ("archive://f.tar", "docker-archive", "f.tar", "", "docker-archive:f.tar"),
    ],
)
def test_files_have_a_path_and_a_tag(text: str, kind: str, path: str, tag: str, canonical: str) -> None:
    found = Location.parse(text)
    named = Reference.parse(tag) if tag else None
    assert found.transport.name == kind
    assert found.place == (NamedPath(Path(path), named) if kind == "docker-archive" else TaggedPath(Path(path), tag))
    assert found.reference is None
    assert str(found) == canonical
    assert Location.parse(str(found)) == found


def test_a_malformed_location_says_every_form_that_there_is() -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Location.parse("oci:")
    assert caught.value.hint == (
        "write [registry/]repository[:tag][@digest], oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, "
        "docker:NAME or podman:NAME"
    )


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda row: row.name)
def test_what_a_location_is_read_and_written_with_is_named_as_the_location_is(
    tmp_path: Path, transport: Transport[Any]
) -> None:
    named = transport.name in {"registry", "docker", "podman"}
    text = f"{transport.prefixes[0]}{'registry.example' if named else tmp_path}/x:1"
    location = Location.parse(text)
    with HttpClient(HttpSettings()) as http:
        registries = RegistryClient(http, RegistryConfig(RegistrySettings()), Keychain())
        clients = SimpleNamespace(registries=registries, engine=lambda kind: None)
        assert location.open_source(clients).name == str(location)
        assert location.open_destination(clients).name == str(location)


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
        ("containers-storage:app", "the transport containers-storage: is not supported"),
        ("docker:", "names no repository"),
        ("podman:UPPER", "lower case"),
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
        lambda a, b: a + b,
        st.sampled_from(["oci:", "oci-archive:", "docker-archive:", "docker:", "docker://"]),
        st.text(),
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
