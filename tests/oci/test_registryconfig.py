# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from copacetic.errors import RegistryError, UsageError
from copacetic.oci.reference import DEFAULT_REGISTRY, Reference
from copacetic.oci.registryconfig import Endpoint, RegistryConfig, is_loopback
from copacetic.oci.registrysettings import RegistrySettings

DIGEST = "sha256:" + "ab" * 32


def parse(text: str) -> Reference:
    return Reference.parse(text)


def names(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [endpoint.name for endpoint in endpoints]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def configure(tmp_path: Path, text: str) -> RegistryConfig:
    return RegistryConfig(RegistrySettings(registries_conf=(write(tmp_path / "registries.conf", text),)))


# ---- schemes and TLS


@pytest.mark.parametrize(
    ("settings", "registry", "schemes", "verify"),
    [
        (RegistrySettings(), "registry.example", ("https",), True),
        (RegistrySettings(), "registry.example:5000", ("https",), True),
        (RegistrySettings(), "localhost:5000", ("http", "https"), True),
        (RegistrySettings(), "127.0.0.1:5000", ("http", "https"), True),
        (RegistrySettings(), "[::1]:5000", ("http", "https"), True),
        (RegistrySettings(plain_http=True), "registry.example", ("http",), True),
        (RegistrySettings(tls_verify=False), "registry.example", ("https", "http"), False),
        (RegistrySettings(tls_verify=False), "localhost", ("http", "https"), False),
    ],
)
def test_plain_http_is_for_loopback_or_on_demand(
    settings: RegistrySettings, registry: str, schemes: tuple[str, ...], verify: bool
) -> None:
    config = RegistryConfig(settings)
    reference = parse(f"{registry}/team/app:1")
    for endpoint in (*config.select_pull(reference), config.select_push(reference)):
        assert (endpoint.schemes, endpoint.tls.verify) == (schemes, verify)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("a.localhost:5000", True),
        ("127.1.2.3:5000", True),
        ("[::1]", True),
        ("[::1]:5000", True),
        ("localhost.example", False),
        ("127.0.0.1.example:80", False),
        ("10.0.0.1", False),
        ("registry", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_default_registry_has_a_host_for_its_api() -> None:
    (endpoint,) = RegistryConfig(RegistrySettings()).select_pull(parse("debian:12"))
    assert (endpoint.host, endpoint.registry, endpoint.repository) == (
        f"registry-1.{DEFAULT_REGISTRY}",
        DEFAULT_REGISTRY,
        "library/debian",
    )


def test_certificates_come_from_the_first_directory_that_knows_the_host(tmp_path: Path) -> None:
    docker, podman = tmp_path / "docker", tmp_path / "podman"
    for name in ("ca.crt", "other.crt", "client.cert", "client.key", "notes.txt"):
        write(docker / "registry.example:5000" / name, name)
    write(podman / "registry.example:5000" / "ca.crt", "")
    write(podman / "registry.example" / "ca.crt", "")
    config = RegistryConfig(RegistrySettings(certs_dirs=(tmp_path / "absent", docker, podman)))
    tls = config.select_push(parse("registry.example:5000/a:1")).tls
    folder = docker / "registry.example:5000"
    assert tls.ca_files == (folder / "ca.crt", folder / "other.crt")
    assert (tls.client_cert, tls.client_key) == (folder / "client.cert", folder / "client.key")
    assert config.select_push(parse("registry.example/a:1")).tls.ca_files == (podman / "registry.example" / "ca.crt",)
    assert config.select_push(parse("other.example/a:1")).tls.ca_files == ()


def test_a_given_certificate_directory_is_for_every_host(tmp_path: Path) -> None:
    write(tmp_path / "given" / "ca.crt", "")
    write(tmp_path / "certs.d" / "registry.example" / "x.crt", "")
    settings = RegistrySettings(cert_dir=tmp_path / "given", certs_dirs=(tmp_path / "certs.d",))
    endpoint = RegistryConfig(settings).select_push(parse("registry.example/a:1"))
    assert endpoint.tls.ca_files == (tmp_path / "given" / "ca.crt",)


def test_a_client_certificate_needs_its_key(tmp_path: Path) -> None:
    write(tmp_path / "registry.example" / "client.cert", "")
    config = RegistryConfig(RegistrySettings(certs_dirs=(tmp_path,)))
    with pytest.raises(UsageError, match=r"has no client\.key beside it"):
        config.select_push(parse("registry.example/a:1"))


# ---- mirrors

EXAMPLE = """
unqualified-search-registries = ["a.example"]

[[registry]]
prefix = "a.example/foo"
location = "inside.example/bar"

[[registry.mirror]]
location = "m0.example/mirror-for-foo"

[[registry.mirror]]
location = "m1.example/mirrors/foo"
insecure = true

[[registry]]
location = "b.example"

[[registry.mirror]]
location = "mirror.b.example"
"""


def test_mirrors_are_read_in_their_order_and_the_origin_last(tmp_path: Path) -> None:
    endpoints = configure(tmp_path, EXAMPLE).select_pull(parse("a.example/foo/image:latest"))
    assert names(endpoints) == [
        "m0.example/mirror-for-foo/image",
        "m1.example/mirrors/foo/image",
        "inside.example/bar/image",
    ]
    assert [endpoint.is_mirror for endpoint in endpoints] == [True, True, False]
    assert [endpoint.schemes for endpoint in endpoints] == [("https",), ("https", "http"), ("https",)]
    assert [endpoint.tls.verify for endpoint in endpoints] == [True, False, True]


def test_nothing_is_written_to_a_mirror_or_a_moved_place(tmp_path: Path) -> None:
    assert configure(tmp_path, EXAMPLE).select_push(parse("a.example/foo/image:1")).name == "a.example/foo/image"


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("b.example/image:1", ["mirror.b.example/image", "b.example/image"]),
        ("b.example/a/b/c", ["mirror.b.example/a/b/c", "b.example/a/b/c"]),
        ("b.example:5000/image", ["b.example:5000/image"]),
        ("sub.b.example/image", ["sub.b.example/image"]),
        ("a.example/food/image", ["a.example/food/image"]),
        ("a.example/image", ["a.example/image"]),
    ],
)
def test_a_prefix_ends_where_a_part_of_the_name_ends(tmp_path: Path, reference: str, found: list[str]) -> None:
    assert names(configure(tmp_path, EXAMPLE).select_pull(parse(reference))) == found


def test_only_the_longest_prefix_counts(tmp_path: Path) -> None:
    text = """
    [[registry]]
    prefix = "example.com"
    insecure = true
    [[registry.mirror]]
    location = "short.example"
    [[registry]]
    prefix = "example.com/a/b"
    [[registry]]
    prefix = "example.com/a"
    [[registry.mirror]]
    location = "middle.example/m"
    """
    config = configure(tmp_path, text)
    assert names(config.select_pull(parse("example.com/x:1"))) == ["short.example/x", "example.com/x"]
    assert names(config.select_pull(parse("example.com/a/x:1"))) == ["middle.example/m/x", "example.com/a/x"]
    (endpoint,) = config.select_pull(parse("example.com/a/b/x:1"))
    assert (endpoint.name, endpoint.tls.verify) == ("example.com/a/b/x", True)


def test_a_wildcard_covers_every_subdomain(tmp_path: Path) -> None:
    config = configure(tmp_path, '[[registry]]\nprefix = "*.example.com"\ninsecure = true\n')
    assert config.select_push(parse("a.b.example.com/x:1")).tls.verify is False
    assert config.select_push(parse("a.example.com:5000/x:1")).tls.verify is False
    assert config.select_push(parse("example.com/x:1")).tls.verify is True
    assert config.select_push(parse("a.example.com.evil.example/x:1")).tls.verify is True


def test_a_mirror_of_the_default_registry_gets_the_whole_name(tmp_path: Path) -> None:
    text = f'[[registry]]\nlocation = "{DEFAULT_REGISTRY}"\n[[registry.mirror]]\nlocation = "mirror.example:5000/hub"\n'
    endpoints = configure(tmp_path, text).select_pull(parse("debian:12"))
    assert names(endpoints) == ["mirror.example:5000/hub/library/debian", f"{DEFAULT_REGISTRY}/library/debian"]


@pytest.mark.parametrize(
    ("options", "by_tag", "by_digest"),
    [
        ("", True, True),
        ('pull-from-mirror = "digest-only"', False, True),
        ('pull-from-mirror = "tag-only"', True, False),
        ('pull-from-mirror = "all"', True, True),
    ],
)
def test_a_mirror_may_be_for_digests_or_tags_only(tmp_path: Path, options: str, by_tag: bool, by_digest: bool) -> None:
    text = f'[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "m.example"\n{options}\n'
    config = configure(tmp_path, text)
    assert (len(config.select_pull(parse("a.example/x:1"))) == 2) is by_tag
    assert (len(config.select_pull(parse(f"a.example/x@{DIGEST}"))) == 2) is by_digest


def test_a_rule_may_keep_its_mirrors_for_digests(tmp_path: Path) -> None:
    text = """
    [[registry]]
    location = "a.example"
    mirror-by-digest-only = true
    [[registry.mirror]]
    location = "m.example"
    """
    config = configure(tmp_path, text)
    assert names(config.select_pull(parse("a.example/x:1"))) == ["a.example/x"]
    assert names(config.select_pull(parse(f"a.example/x@{DIGEST}"))) == ["m.example/x", "a.example/x"]


def test_given_mirrors_go_before_those_of_files(tmp_path: Path) -> None:
    settings = RegistrySettings(
        registries_conf=(write(tmp_path / "registries.conf", EXAMPLE),),
        mirrors=(("b.example", "http://given.example:5000/m/"), ("c.example", "never.example")),
    )
    endpoints = RegistryConfig(settings).select_pull(parse("b.example/image:1"))
    assert names(endpoints) == ["given.example:5000/m/image", "mirror.b.example/image", "b.example/image"]
    assert endpoints[0].schemes == ("http",)


@pytest.mark.parametrize("mirror", ["ftp://m.example", "mirror", "https://", "m.example/UPPER", "m.example:99999"])
def test_a_mirror_that_is_none_is_refused(mirror: str) -> None:
    settings = RegistrySettings(mirrors=(("b.example", mirror),))
    with pytest.raises(UsageError):
        RegistryConfig(settings).select_pull(parse("b.example/image:1"))


# ---- files


def test_a_blocked_registry_is_refused_by_name(tmp_path: Path) -> None:
    config = configure(tmp_path, '[[registry]]\nprefix = "bad.example/x"\nblocked = true\n')
    for select in (config.select_pull, config.select_push):
        with pytest.raises(RegistryError, match=r"bad\.example/x/y:1: bad\.example/x is blocked by .*registries\.conf"):
            select(parse("bad.example/x/y:1"))
    config.select_push(parse("bad.example/other:1"))


def test_a_single_tag_can_be_blocked(tmp_path: Path) -> None:
    config = configure(tmp_path, '[[registry]]\nprefix = "a.example/x:old"\nblocked = true\n')
    with pytest.raises(RegistryError, match="is blocked"):
        config.select_pull(parse("a.example/x:old"))
    config.select_pull(parse("a.example/x:new"))


def test_drop_ins_replace_rules_with_the_same_prefix(tmp_path: Path) -> None:
    main = write(tmp_path / "registries.conf", '[[registry]]\nprefix = "a.example"\nblocked = true\n')
    folder = tmp_path / "registries.conf.d"
    write(folder / "20.conf", '[[registry]]\nprefix = "a.example"\nlocation = "second.example"\n')
    write(folder / "10.conf", '[[registry]]\nprefix = "a.example"\nlocation = "first.example"\n')
    write(folder / "30.conf.off", '[[registry]]\nprefix = "a.example"\nblocked = true\n')
    config = RegistryConfig(RegistrySettings(registries_conf=(main, folder, tmp_path / "absent")))
    assert names(config.select_pull(parse("a.example/x:1"))) == ["second.example/x"]


def test_the_first_version_of_the_file_still_forbids_and_permits(tmp_path: Path) -> None:
    text = """
    [registries.search]
    registries = ["search.example"]
    [registries.insecure]
    registries = ["lab.example"]
    [registries.block]
    registries = ["bad.example"]
    """
    config = configure(tmp_path, text)
    assert config.select_push(parse("lab.example/x:1")).tls.verify is False
    with pytest.raises(RegistryError, match="is blocked"):
        config.select_pull(parse("bad.example/x:1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry", "not valid TOML"),
        ("\xff\xfe", "not valid TOML"),
        ("registry = 3", r"expected \[\[registry\]\] tables"),
        ("registry = [3]", r"expected \[\[registry\]\] tables"),
        ("[[registry]]\nblocked = true", "needs a usable prefix or location"),
        ('[[registry]]\nprefix = "a b"', "needs a usable prefix or location"),
        ('[[registry]]\nprefix = "a.example"\nblocked = "yes"', "blocked is neither true nor false"),
        ("[[registry]]\nprefix = 3", "prefix is not a string"),
        ('[[registry]]\nprefix = "a.example"\nlocation = "b c"', "not a location"),
        ('[[registry]]\nprefix = "a.example"\n[[registry.mirror]]\ninsecure = true', "not a location"),
        (
            '[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "b.c"\npull-from-mirror = "often"',
            "pull-from-mirror is none of",
        ),
        ("#" * (1 << 20) + "#", "more than"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "registries.conf"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message) as caught:
        RegistryConfig(RegistrySettings(registries_conf=(path,)))
    assert str(caught.value).startswith(str(path))
