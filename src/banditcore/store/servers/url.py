"""Parses the address of a store. Nothing secret in an address is ever shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.store.servers.url_options import MOST, OPTIONS, whole

__all__ = ["StoreAddress", "data_home", "default_directory"]

_FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://... (TLS), "
    "redis+cluster://[user:password@]host[:port][,host[:port]...], rediss+cluster://..., "
    "redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db], "
    "rediss+sentinel://..., unix:///path/to/socket[?db=0], embedded:///path/to/directory, "
    "embedded://"
)
_DEFAULT_PORT = 6379
_SENTINEL_PORT = 26379
_MAX_HOST = 253
# A label of a name has at most 63 characters: a longer one would fail outside any error of ours.
_HOST_PORT = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]"
    r"|(?P<name>[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?))"
    r"(?::(?P<port>[0-9]*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, repr=False)
class StoreAddress:
    """Where a store is and how to log in to it. `repr` and `shown` hide every secret.

    Parameters
    ----------
    scheme : str
        How the store is reached: ``redis``, ``rediss``, either with ``+cluster`` or
        ``+sentinel``, ``unix`` or ``embedded``.
    nodes : tuple of (str, int)
        Host and port of the server; of some nodes of the cluster; of the sentinels.
    service : str or None
        What the sentinels call the server they watch.
    path : pathlib.Path or None
        Absolute: the socket of ``unix``, the data directory of ``embedded``.
    db : int
        Database number, >= 0.
    username, password : str or None
        Decoded.
    options : mapping
        What the query string sets besides, by redis-py's name, in redis-py's type.
    """

    scheme: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str | None = None
    path: Path | None = None
    db: int = 0
    username: str | None = None
    password: str | None = None
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, url: str) -> StoreAddress:
        """Read an address.

        Parameters
        ----------
        url : str
            ``redis://[user:password@]host[:port][/db]``, the same with ``rediss`` (TLS),
            ``redis+cluster://[user:password@]host[:port][,host[:port]...]``,
            ``redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db]``, both
            also with ``rediss``, ``unix:///path/to/socket[?db=0]``, or ``embedded://`` and a
            directory, absolute or relative; ``embedded://`` alone is `default_directory`. User,
            password, service, path and options are percent-decoded. A login is for the servers;
            sentinels take ``?sentinel_username=`` and ``sentinel_password=``.

        Raises
        ------
        InvalidValueError
            The address cannot be used. The message says why, without repeating any part that
            might hold a password.
        InvalidTypeError
            `url` is not a str.
        """
        if not isinstance(url, str):
            raise InvalidTypeError(describe("the type of url", type(url).__name__, "give a str"))
        scheme, rest = _scheme(url)
        rest, _, query = rest.partition("?")
        options = _options(scheme, query)
        if scheme == "embedded":
            if "@" in rest.partition("/")[0]:
                _refuse("an embedded store has no user and no password", scheme)
            directory = _path(scheme, rest, "the directory") if rest else default_directory()
            return cls(scheme, path=directory)
        tail = ""
        if scheme != "unix":
            rest, _, tail = rest.partition("/")
        before, _, place = rest.rpartition("@")
        username, password = _credentials(scheme, before, options)
        service = None
        if scheme.endswith("+sentinel"):
            name, _, tail = tail.partition("/")
            service = _service(scheme, name)
        db = _chosen_database(scheme, tail, options)
        if db and scheme.endswith("+cluster"):
            _refuse("a cluster has no database but 0", scheme)
        path: Path | None = None
        nodes: tuple[tuple[str, int], ...] = ()
        if scheme == "unix":
            path = _path(scheme, place, "the path of the socket")
        else:
            nodes = _nodes(scheme, place, logged_in=bool(before))
        held = MappingProxyType(options)
        return cls(scheme, nodes, service, path, db, username, password, held)

    @property
    def is_cluster(self) -> bool:
        """Whether `nodes` are nodes of a cluster."""
        return self.scheme.endswith("+cluster")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme.startswith("rediss")

    @property
    def url(self) -> str:
        """The whole address, secrets included, for another process to parse."""
        login = ""
        if self.password is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        query = "&".join(
            f"{name}={quote(str(value), safe='')}" for name, value in self.options.items()
        )
        place = self._place(login)
        joint = "&" if "?" in place else "?"
        return f"{place}{joint}{query}" if query else place

    @property
    def shown(self) -> str:
        """The address for people and logs: without user, password and options."""
        return self._place("" if self.password is None else "***@")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may hold: each password as it is, percent-encoded, in a repr."""
        options = [self.options.get(name) for name in ("ssl_password", "sentinel_password")]
        words = [str(word) for word in (self.password, *options) if word]
        spelled = {form for word in words for form in (word, quote(word, ""), repr(word)[1:-1])}
        return tuple(sorted(spelled, key=len, reverse=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shown!r})"

    def _place(self, login: str) -> str:
        if self.path is not None:
            database = f"?db={self.db}" if self.db else ""
            return f"{self.scheme}://{login}{quote(os.fsencode(self.path))}{database}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )
        tail = "" if self.is_cluster else f"/{self.db}"
        if self.service is not None:
            tail = f"/{quote(self.service, safe='')}{tail}"
        return f"{self.scheme}://{login}{hosts}{tail}"


def default_directory() -> Path:
    """Return where an embedded store lives when nothing else is said: `data_home`, ``/default``.

    Not `data_home` itself: other stores of ours live beside it.
    """
    return data_home() / "default"


def data_home() -> Path:
    """Return ``$XDG_DATA_HOME/banditcore``, else ``~/.local/share/banditcore``."""
    given = os.environ.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: a relative path is invalid, to be ignored.
    base = Path(given) if given.startswith("/") else _home() / ".local" / "share"
    return base / "banditcore"


def _refuse(reason: str, scheme: str | None = None) -> NoReturn:
    # Never the URL itself: even a wrong place in it may hold a password.
    known = "store url" if scheme is None else f"store url ({scheme}://...)"
    raise InvalidValueError(f"{known} cannot be used: {reason}. Accepted: {_FORMS}")


def _scheme(url: str) -> tuple[str, str]:
    """Return the scheme and what follows it."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        _refuse("it holds a space or a control character; percent-encode it")
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found:
        _refuse('it has no scheme ("redis://" or another)')
    if scheme not in OPTIONS:
        _refuse("its scheme is not one of " + ", ".join(OPTIONS))
    if "#" in rest:
        _refuse('it holds "#"; in a password write %23', scheme)
    return scheme, rest


def _options(scheme: str, query: str) -> dict[str, object]:
    readers = OPTIONS[scheme]
    found: dict[str, object] = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if not equals or name not in readers:
            # The name is not shown: it may be the end of a password with an unescaped "?".
            accepted = ", ".join(readers) or "(none)"
            _refuse(f"an option after ? is not one of: {accepted}", scheme)
        if name in found:
            _refuse(f"option {name} is given twice", scheme)
        found[name] = _option(scheme, name, _decode(scheme, value, f"option {name}"))
    if "sentinel_username" in found and "sentinel_password" not in found:
        _refuse("it names a user of the sentinels without sentinel_password", scheme)
    return found


def _option(scheme: str, name: str, value: str) -> object:
    try:
        return OPTIONS[scheme][name](value)
    except (ValueError, KeyError):
        pass
    # Outside the handler: the text of the handled error holds the value.
    _refuse(f"option {name} has a value that cannot be used", scheme)


def _credentials(
    scheme: str, before: str, options: dict[str, object]
) -> tuple[str | None, str | None]:
    """Return user name and password; takes them out of `options`."""
    login = {name: str(options.pop(name)) for name in ("username", "password") if name in options}
    if before and login:
        _refuse("the login is given twice, before @ and as an option", scheme)
    if login:
        username, password = login.get("username", ""), login.get("password", "")
    else:
        user, _, word = before.partition(":")
        username = _decode(scheme, user, "the user name")
        password = _decode(scheme, word, "the password")
    if username and not password:
        _refuse("it names a user without a password; for a password alone write :password@", scheme)
    return username or None, password or None


def _chosen_database(scheme: str, tail: str, options: dict[str, object]) -> int:
    """Return the database of the path or of ``?db=``; takes it out of `options`."""
    if tail and "db" in options:
        _refuse("the database is given twice, after the host and as ?db=", scheme)
    chosen = _number(tail, most=MOST) if tail else options.pop("db", 0)
    if not isinstance(chosen, int):
        _refuse("the database is not a number >= 0", scheme)
    return chosen


def _nodes(scheme: str, place: str, *, logged_in: bool) -> tuple[tuple[str, int], ...]:
    if scheme in {"redis", "rediss"}:
        if not place and not logged_in:
            return (("localhost", _DEFAULT_PORT),)
        return (_host_port(scheme, place, _DEFAULT_PORT),)
    default = _SENTINEL_PORT if scheme.endswith("+sentinel") else _DEFAULT_PORT
    return tuple(_host_port(scheme, one, default) for one in place.split(","))


def _host_port(scheme: str, place: str, default: int) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(place)
    if match is None or len(place) > _MAX_HOST:
        _refuse(
            "after the login must come host or host:port ([] around an IPv6 address); in a "
            'password write "@" as %40, "/" as %2F, ":" as %3A, "?" as %3F',
            scheme,
        )
    port = _number(match["port"], most=65535) if match["port"] else default
    if not port:
        _refuse("the port is not a number from 1 to 65535", scheme)
    return match["address"] or match["name"], port


def _service(scheme: str, name: str) -> str:
    service = _decode(scheme, name, "the name of the service")
    if not service:
        _refuse("after the sentinels must come /service, the name they watch it under", scheme)
    return service


def _number(text: str, *, most: int) -> int | None:
    try:
        return whole(text, most=most)
    except ValueError:
        return None


def _path(scheme: str, text: str, what: str) -> Path:
    raw = unquote_to_bytes(text)
    if not raw or b"\0" in raw:
        _refuse(f"{what} is missing or holds a NUL character", scheme)
    text = os.fsdecode(raw)
    if text == "~" or text.startswith("~/"):
        text = f"{_home()}{text[1:]}"
    return Path(os.path.abspath(text))  # noqa: PTH100  # also drops ".."


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise InvalidValueError(
            "this user has no home directory: write embedded:///path/to/directory, or set "
            "XDG_DATA_HOME"
        ) from error


def _decode(scheme: str, text: str, what: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        pass
    # Outside the handler: the handled error holds the bytes.
    _refuse(f"{what} is not UTF-8 text", scheme)
