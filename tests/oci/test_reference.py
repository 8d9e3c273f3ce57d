# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copacetic.errors import InvalidReferenceError
from copacetic.oci import Digest, Reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

component = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
host = st.sampled_from(
    [
        "docker.io",
        "registry.example",
        "localhost",
        "localhost:5000",
        "127.0.0.1:443",
        "[::1]:5000",
        "[fe80::1]",
        "HOST",
        "a:1",
    ]
)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
digest = st.sampled_from([DIGEST, "sha512:" + HEX * 2])


@st.composite
def names(draw: st.DrawFn) -> str:
    parts = draw(st.lists(component, min_size=1, max_size=4))
    text = "/".join(parts)
    if draw(st.booleans()) or "." in parts[0] or "localhost" in parts[0]:
        text = f"{draw(host)}/{text}"
    if draw(st.booleans()):
        text += f":{draw(tag)}"
    if draw(st.booleans()):
        text += f"@{draw(digest)}"
    return text


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("me/app", "docker.io/me/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/me/app:1", "docker.io/me/app:1"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        ("registry.example/app", "registry.example/app:latest"),
        ("registry.example:5000/a/b/c:v1", "registry.example:5000/a/b/c:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("UPPER/app", "UPPER/app:latest"),
        ("a/b__c--d.e_f", "docker.io/a/b__c--d.e_f:latest"),
        (f"registry.example/{HEX}", f"registry.example/{HEX}:latest"),
        ("app:" + "x" * 128, "docker.io/library/app:" + "x" * 128),
    ],
)
def test_references_are_completed_as_docker_does(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


def test_the_parts_are_told_apart() -> None:
    parsed = Reference.parse(f"registry.example:5000/team/app:1.0@{DIGEST}")
    assert parsed == Reference(
        registry="registry.example:5000", repository="team/app", tag="1.0", digest=Digest("sha256", HEX)
    )
    assert parsed.name == "registry.example:5000/team/app"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names no repository"),
        (":tag", "names no repository"),
        (f"@{DIGEST}", "names no repository"),
        ("registry.example/", "names no repository"),
        ("/app", "empty part"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("registry.example//b", "empty part"),
        ("me/App", "lower case"),
        ("App", "lower case"),
        ("app:", "'' is not a tag"),
        ("app:-x", "'-x' is not a tag"),
        ("app:a b", "'a b' is not a tag"),
        ("app:" + "x" * 129, "is not a tag"),
        ("app:1:2", "'1:2' is not a tag"),
        ("app@", "after @ is not a digest"),
        ("app@sha256:abc", "after @ is not a digest"),
        (f"app@sha256:{HEX.upper()}", "after @ is not a digest"),
        (f"app@md5:{HEX[:32]}", "after @ is not a digest"),
        (f"app@{DIGEST}@{DIGEST}", "after @ is not a digest"),
        (HEX, "is an image ID"),
        ("-a/b", "'-a'"),
        ("a/b-", "'b-'"),
        ("a..b", "'a..b'"),
        ("a___b", "'a___b'"),
        ("a b", "'a b'"),
        ("app\n", "'app\\n'"),
        ("registry.example:port/app", "is not a registry host"),
        ("registry.example:99999/app", "there is no port 99999"),
        ("-registry.example/app", "is not a registry host"),
        ("[::1/app", "is not a registry host"),
        ("user@registry.example/app", "after @ is not a digest"),
        ("https://registry.example/app", "is not a registry host"),
        ("é/app", "'é'"),
        ("a/" * 127 + "bb/c", "longer than"),
    ],
)
def test_a_malformed_reference_says_which_part(text: str, part: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        Reference.parse(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("nginx", "nginx:latest"),
        ("docker.io/me/app:1", "me/app:1"),
        ("registry.example/library/x:1", "registry.example/library/x:1"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
        ("docker.io/a.b/c:1", "docker.io/a.b/c:1"),
        ("docker.io.example/x:1", "docker.io.example/x:1"),
    ],
)
def test_the_familiar_form_is_short(text: str, short: str) -> None:
    assert Reference.parse(text).familiar == short


def test_a_new_tag_drops_the_digest_and_a_digest_keeps_the_tag() -> None:
    parsed = Reference.parse(f"app:1@{DIGEST}")
    assert str(parsed.with_tag("2")) == "docker.io/library/app:2"
    assert str(Reference.parse("app:1").with_digest(Digest("sha256", HEX))) == str(parsed)
    with pytest.raises(InvalidReferenceError, match="is not a tag"):
        parsed.with_tag("a/b")


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a." * 100_000, "a-" * 100_000 + "!/x", "x:" + "a" * 200_000, "." * 200_000]
)
def test_long_nonsense_is_refused_quickly(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidReferenceError):
        Reference.parse(text)
    assert time.monotonic() - started < 0.5


@given(names())
def test_writing_and_reading_gives_the_same(text: str) -> None:
    parsed = Reference.parse(text)
    assert Reference.parse(str(parsed)) == parsed
    assert Reference.parse(parsed.familiar) == parsed


@given(st.text() | st.text(alphabet="aA1.:/@-_[] \n") | names().map(lambda text: text[:-1]))
@example("docker.io/" + HEX)
@settings(max_examples=300)
def test_any_text_is_a_reference_or_one_clear_error(text: str) -> None:
    parsed, message = read(text)
    if parsed is None:
        assert message
        assert message.isprintable()
    else:
        assert Reference.parse(str(parsed)) == parsed


def read(text: str) -> tuple[Reference | None, str]:
    try:
        return Reference.parse(text), ""
    except InvalidReferenceError as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("registry.example/a/b:1", "registry.example/a/b"),
        (f"registry.example/a/b:1@{DIGEST}", "registry.example/a/b"),
        (f"registry.example:5000/a/b@{DIGEST}", "registry.example:5000/a/b"),
        ("web", "docker.io/library/web"),
        ("localhost/a/b:1", "a/b"),
        ("localhost:5000/a/b:1", "a/b"),
        (f"127.0.0.1:5000/a/b@{DIGEST}", "a/b"),
        ("10.1.2.3/a/b:2", "a/b"),
        ("[::1]:5000/a/b", "a/b"),
        ("registry:5000/a/b", "a/b"),
        ("registry.corp.internal/a/b", "a/b"),
        ("hub.svc/a/b", "a/b"),
        ("hub.ns.svc.cluster.local:443/a/b", "a/b"),
    ],
)
def test_one_name_stands_for_an_image_however_it_is_called(text: str, name: str) -> None:
    assert Reference.parse(text).public_name == name
