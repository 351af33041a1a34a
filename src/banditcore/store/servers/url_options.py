"""What the query string of a store's address may set, by scheme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["MOST", "OPTIONS", "whole"]

MOST = 2**31 - 1


def whole(text: str, *, least: int = 0, most: int) -> int:
    """Return a decimal number; ValueError if it is none, or is out of range."""
    # int() alone would take "+1", "1_0" and other alphabets' digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError
    if not least <= int(text) <= most:
        raise ValueError
    return int(text)


def _text(value: str) -> object:
    return value


def _file(value: str) -> object:
    # Absolute, so that a worker in another directory opens the same file.
    return str(Path(value).absolute())


def _verification(value: str) -> object:
    if value not in {"required", "optional", "none"}:
        raise ValueError
    return value


def _yes_no(value: str) -> object:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
        value.lower()
    ]


def _count(value: str) -> object:
    return whole(value, most=MOST)


def _positive(value: str) -> object:
    return whole(value, least=1, most=MOST)


# Options by redis-py's names. A timeout is an argument of connect, and retries would apply a
# write twice, so neither can be set from a URL.
_COMMON: dict[str, Callable[[str], object]] = {
    "db": _count,
    "username": _text,
    "password": _text,
    "client_name": _text,
    "max_connections": _positive,
}
_TLS: dict[str, Callable[[str], object]] = {
    "ssl_ca_certs": _file,
    "ssl_ca_path": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": _yes_no,
    "ssl_ciphers": _text,
}
# redis-py's cluster client drops what it does not know without a word, ciphers among it.
_CLUSTER_TLS = {name: read for name, read in (_COMMON | _TLS).items() if name != "ssl_ciphers"}
_SENTINEL: dict[str, Callable[[str], object]] = {
    "sentinel_username": _text,
    "sentinel_password": _text,
}
OPTIONS = {
    "redis": _COMMON,
    "rediss": _COMMON | _TLS,
    "redis+cluster": _COMMON,
    "rediss+cluster": _CLUSTER_TLS,
    "redis+sentinel": _COMMON | _SENTINEL,
    "rediss+sentinel": _COMMON | _TLS | _SENTINEL,
    "unix": _COMMON,
    "embedded": {},
}
"""Scheme -> option -> what reads its value; that raises ValueError or KeyError."""
