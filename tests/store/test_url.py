"""Addresses of stores: what is read, what is refused, and that no password is ever shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.store.servers.url import StoreAddress, default_directory

CANARY = "s3cret-Canary"
ODD_CANARY = "s3/c:r@e?t#%Canary"
ODD_ENCODED = "s3%2Fc%3Ar%40e%3Ft%23%25Canary"


@pytest.mark.parametrize(
    ("url", "host", "port", "db"),
    [
        ("redis://cache.example.com:6380/3", "cache.example.com", 6380, 3),
        ("redis://cache", "cache", 6379, 0),
        ("redis://cache/", "cache", 6379, 0),
        ("redis://", "localhost", 6379, 0),
        ("redis:///2", "localhost", 6379, 2),
        ("REDIS://10.0.0.1?db=15", "10.0.0.1", 6379, 15),
        ("rediss://[::1]:7000/1", "::1", 7000, 1),
        ("redis://[fe80::1%eth0]", "fe80::1%eth0", 6379, 0),
    ],
)
def test_reads_host_port_and_database(url: str, host: str, port: int, db: int) -> None:
    address = StoreAddress.parse(url)
    assert (address.nodes, address.db) == (((host, port),), db)
    assert address.path is None


@pytest.mark.parametrize(
    ("url", "nodes", "service", "db"),
    [
        ("redis+cluster://h", (("h", 6379),), None, 0),
        ("rediss+cluster://h:1,i,[::1]:2/0", (("h", 1), ("i", 6379), ("::1", 2)), None, 0),
        ("redis+sentinel://h,i:2/main", (("h", 26379), ("i", 2)), "main", 0),
        ("rediss+sentinel://[::1]/a%2Fb/3", (("::1", 26379),), "a/b", 3),
        ("redis+sentinel://h/main?db=4", (("h", 26379),), "main", 4),
    ],
)
def test_reads_clusters_and_sentinels(
    url: str, nodes: tuple[tuple[str, int], ...], service: str | None, db: int
) -> None:
    address = StoreAddress.parse(url)
    assert (address.nodes, address.service, address.db) == (nodes, service, db)
    assert address.is_cluster == ("+cluster" in url)
    assert address.uses_tls == url.startswith("rediss")


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://h", None, None),
        (f"redis://:{CANARY}@h", None, CANARY),
        (f"redis://ann:{CANARY}@h:1/2", "ann", CANARY),
        (f"redis://a%40n:{ODD_ENCODED}@h", "a@n", ODD_CANARY),
        (f"redis://ann:{CANARY}@more@h", "ann", f"{CANARY}@more"),
        (f"unix://ann:{CANARY}@/run/s", "ann", CANARY),
        (f"unix:///run/s?password={ODD_ENCODED}", None, ODD_CANARY),
        (f"redis://h?username=ann&password={CANARY}", "ann", CANARY),
    ],
)
def test_reads_the_login(url: str, username: str | None, password: str | None) -> None:
    address = StoreAddress.parse(url)
    assert (address.username, address.password) == (username, password)


def test_reads_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    expected = {
        "unix:///run/redis.sock?db=4": Path("/run/redis.sock"),
        "unix://run/redis.sock": tmp_path / "run/redis.sock",
        "embedded:///var/lib/bc": Path("/var/lib/bc"),
        "embedded:///var/lib/bc/": Path("/var/lib/bc"),
        "embedded://data/bc": tmp_path / "data/bc",
        "embedded://./data/../bc": tmp_path / "bc",
        "embedded:///a%20b%3Fc": Path("/a b?c"),
        "embedded://~/bc": Path("/home/ann/bc"),
    }
    assert {url: StoreAddress.parse(url).path for url in expected} == expected
    assert StoreAddress.parse("unix:///run/redis.sock?db=4").db == 4


def test_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_directory() == Path("/home/ann/.local/share/banditcore/default")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_directory() == Path("/home/ann/.local/share/banditcore/default")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_directory() == Path("/data/banditcore/default")
    assert StoreAddress.parse("embedded://").path == Path("/data/banditcore/default")


def test_reads_options_in_their_types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    address = StoreAddress.parse(
        "rediss://h?ssl_ca_certs=ca.pem&ssl_check_hostname=no&ssl_cert_reqs=none"
        "&max_connections=7&client_name=a%20b"
    )
    assert dict(address.options) == {
        "ssl_ca_certs": str(tmp_path / "ca.pem"),
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "none",
        "max_connections": 7,
        "client_name": "a b",
    }


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache:6380/3",
        "redis://[::1]:7000/1",
        f"redis://a%40n:{ODD_ENCODED}@h?client_name=x%26y",
        f"rediss://:{CANARY}@h?ssl_ca_certs=/ca.pem&ssl_check_hostname=no&ssl_password=p%3D",
        f"unix://ann:{ODD_ENCODED}@/run/a%20b?db=4&max_connections=3",
        "unix:///run/%FF",
        "embedded:///a%20b%3Fc",
        "embedded://rel",
        f"redis+cluster://ann:{ODD_ENCODED}@h:1,[::1]:2,i",
        "rediss+cluster://h?ssl_check_hostname=no",
        f"redis+sentinel://:{CANARY}@h,i:2/my%2Fservice/3?sentinel_username=a&sentinel_password=b",
    ],
)
def test_url_is_complete(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = StoreAddress.parse(url)
    monkeypatch.chdir(tmp_path)  # a worker's directory is another one
    assert StoreAddress.parse(address.url) == address


UNUSABLE = {
    "": "no scheme",
    "localhost:6379": "no scheme",
    "http://h": "scheme is not one of",
    "redis+cluster://": "host or host:port",
    "redis+cluster://h,": "host or host:port",
    "redis+cluster://h/1": "no database but 0",
    "redis+cluster://h?db=2": "no database but 0",
    "redis+cluster://h?sentinel_password=x": "not one of",
    "rediss+cluster://h?ssl_ciphers=x": "not one of",
    "redis+sentinel://h": "/service",
    "redis+sentinel://h//1": "/service",
    "redis+sentinel://h/s/x": "database",
    "redis+sentinel:///s": "host or host:port",
    "redis+sentinel://h/s?sentinel_username=x": "without sentinel_password",
    "sentinel://h/s": "scheme is not one of",
    "redis://h:0": "port",
    "redis://h:65536": "port",
    "redis://h:12x": "host or host:port",
    "redis://h:²": "host or host:port",
    "redis://[::1": "host or host:port",
    "redis://a..b": "host or host:port",
    f"redis://{'a' * 64}": "host or host:port",
    "redis://h/x": "database",
    "redis://h/-1": "database",
    "redis://h/1?db=1": "twice",
    "redis://h?db=x": "option db",
    "redis://h?db=1&db=2": "twice",
    "redis://h?socket_timeout=1": "not one of",
    "redis://h?ssl_ca_certs=/x": "not one of",
    "rediss://h?ssl_cert_reqs=maybe": "ssl_cert_reqs",
    "rediss://h?ssl_check_hostname=maybe": "ssl_check_hostname",
    "redis://h?max_connections=0": "max_connections",
    "redis://a b": "space",
    "redis://h\n": "control",
    "unix://": "socket is missing",
    "unix:///a%00b": "NUL",
    "embedded:///a%00b": "NUL",
    "embedded:///a?db=1": "not one of",
    "redis://ann@h": "without a password",
    "redis://%FF:x@h": "UTF-8",
}


@pytest.mark.parametrize("url", UNUSABLE)
def test_unusable(url: str) -> None:
    with pytest.raises(InvalidValueError, match=UNUSABLE[url]) as caught:
        StoreAddress.parse(url)
    assert "unix:///path/to/socket" in str(caught.value)
    assert "embedded://" in str(caught.value)


def test_refuses_other_types() -> None:
    with pytest.raises(InvalidTypeError, match="bytes"):
        StoreAddress.parse(CANARY.encode())  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    "url",
    [
        # every place a password can end up in when its odd characters are not encoded
        "redis://:{}/x@h",
        "redis://:{}?x@h",
        "redis://:{}#x@h",
        "redis://:1{}:2@h:x",
        "redis://h:{}",
        "redis://h/{}",
        "redis://h?{}",
        "redis://h?pasword={}",
        "redis://h?{}=1",
        "redis://h?db={}",
        "redis://a:b@h?password={}",
        "redis://u:{}@h?password=b",
        "redis://:{}%FF@h",
        "redis://:{} @h",
        "redis://{}@h",
        "redis://[{}",
        "redis://:{}\u2100@h:x",
        "{}",
        "{}://h",
        "user:{}@h",
        "redis+cluster://:{}@h/1",
        "http://:{}@h",
        "embedded://:{}@h",
        "unix://:{}@",
        "unix://:{}%00@/%00",
        "rediss://h?ssl_cert_reqs={}",
        "rediss://h?ssl_check_hostname={}",
        "rediss://h?ssl_password={}&ssl_password=x",
        "redis+cluster://h,{}@h:x",
        "redis+cluster://:{},x/@h:x",
        "redis+sentinel://:{}@h",
        "redis+sentinel://h/{}/x",
        "redis+sentinel://h?sentinel_password={}",
    ],
)
@pytest.mark.parametrize("canary", [CANARY, ODD_ENCODED])
def test_refusals_never_show_a_password(url: str, canary: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        StoreAddress.parse(url.format(canary))
    # all of the chain, also what `raise ... from None` would only hide
    link: BaseException | None = caught.value
    texts = [repr(link)]
    while link is not None:
        texts += [str(link), repr(link.__cause__), repr(link.__context__)]
        link = link.__cause__ or link.__context__
    texts.append("".join(traceback.format_exception_only(caught.value)))
    assert "canary" not in " ".join(texts).lower()


@pytest.mark.parametrize("canary", [CANARY, ODD_ENCODED])
@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:{}@h:1/2",
        "rediss://:{}@h",
        "rediss://h?ssl_password={}",
        "unix://:{}@/run/s",
        "unix:///run/s?password={}",
        "redis+cluster://ann:{}@h,i",
        "redis+sentinel://ann:{}@h,i/s",
        "redis+sentinel://h/s?sentinel_username=ann&sentinel_password={}",
    ],
)
def test_shown_and_repr_hide_the_login(url: str, canary: str) -> None:
    address = StoreAddress.parse(url.format(canary))
    for text in (address.shown, repr(address), str(address), f"{address}"):
        assert "anary" not in text
        assert "ann" not in text
    assert "anary" in address.url
    assert all("anary" in secret for secret in address.secrets)
    assert address.secrets
