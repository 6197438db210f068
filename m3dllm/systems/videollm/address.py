"""The address of a server and its secrets, which are never written to a file or shown in a message."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from m3dllm.errors import UserError

EXPECTED = "expected an address such as http://127.0.0.1:8000/v1"
SHORTEST_SECRET = 6
"""Shorter values are not treated as secrets: they would match everywhere."""
SHORTEST_TOKEN = 8
"""The minimum length of a secret that is removed from answers, too."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address. `shown` has no user name, password or query: the only form that may be written anywhere."""

    shown: str
    host: str
    port: int | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, *, option: str = "--base-url") -> Address:
        """Parse an address. Raises UserError, without printing secrets."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise UserError(f"{option} {without_secrets(text)}: {error}; {EXPECTED}") from None
        if port == 0:
            raise UserError(f"{option} {without_secrets(text)}: port 0 is not valid; {EXPECTED}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{option} {without_secrets(text)}: {EXPECTED}")
        name = parts.hostname.replace("%25", "%") if ":" in parts.hostname else parts.hostname  # the zone of an IPv6
        host = f"[{name}]" if ":" in name else name
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        return cls(
            shown=f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}",
            host=name,
            port=port,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def has_no_proxy(self) -> bool:
        """Whether it is reached without a proxy: this machine, and the hosts, domains and networks in NO_PROXY,
        such as 10.0.0.0/8."""
        if self.is_local or proxy_bypass(self.host) or (self.port and proxy_bypass(f"{self.host}:{self.port}")):
            return True
        with suppress(ValueError):
            address = ip_address(self.host)
            return any(address in network for network in _networks(getproxies().get("no", "")))
        return False


def _networks(names: str) -> Iterator[IPv4Network | IPv6Network]:
    for name in names.split(","):
        with suppress(ValueError):
            if "/" in name:
                yield ip_network(name.strip(), strict=False)


def without_secrets(text: str) -> str:
    """An address, or any text, without secrets."""
    bare = re.split(r"[?#]", text.strip(), maxsplit=1)[0]
    return re.sub(r"^((?:[a-z][a-z0-9+.-]*:)?//)?.*@", lambda match: match[1] or "", bare, flags=re.IGNORECASE)


def read_key(variable: str) -> str:
    """The key in an environment variable; "" if it is not set.

    Raises UserError, without printing it, for one that is invalid in a header, as when copied with extra characters.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise UserError("--api-key-env: expected the name of an environment variable, not the key itself")
    key = os.environ.get(variable, "")
    if not key.strip():
        return ""
    odd = {'"': "a quotation mark", "'": "a quotation mark", "\n": "a line break", "\r": "a line break"}
    found = next((what for mark, what in odd.items() if mark in key), "")
    if not found and not re.fullmatch(r"[!-~]+", key):
        found = "a space" if key.isprintable() and key.isascii() else "a character that keys cannot have"
    if found:
        raise UserError(f"the key in ${variable} contains {found}: set it to the key alone")
    return key


def read_pairs(words: Iterable[str], *, option: str, mark: str) -> dict[str, str]:
    """`name` and value of options such as `--header 'Name: value'`; `$NAME` in a value is an environment variable.

    Words were split at commas by the command line: one without `mark` continues the one before. Raises
    UserError without printing a value.
    """
    joined: list[str] = []
    for word in words:
        if re.match(rf"[\w.-]+\s*{mark}", word):
            joined.append(word)
        elif joined:
            joined[-1] += f",{word}"
        else:
            raise UserError(f"{option}: expected 'name{mark} value'")
    found = {}
    for word in joined:
        name, _, value = word.partition(mark)
        name, value = name.strip(), re.sub(r"\$(\w+)|\$\{(\w+)\}", _from_environment(option), value.strip())
        if re.search(r"[\r\n\x00]", value):
            raise UserError(f"{option} {name}: its value contains a line break")
        found[name] = value
    return found


def _from_environment(option: str) -> Any:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise UserError(f"{option}: there is no environment variable {name}")
        return os.environ[name]

    return value


@dataclass(frozen=True)
class Secrets:
    """Secrets, which are removed from a server's replies."""

    values: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, values: Iterable[str]) -> Secrets:
        words = {part for value in values for part in (value, *value.split())}
        return cls(tuple(sorted((w for w in words if len(w) >= SHORTEST_SECRET), key=len, reverse=True)))

    @property
    def tokens(self) -> Secrets:
        """Those that no document contains by chance: long, with letters and digits, unlike the words of a header."""
        return Secrets(tuple(filter(_is_token, self.values)))

    def strike(self, value: Any) -> Any:
        """`value`, a text or a JSON value, without any of the secrets."""
        if isinstance(value, str):
            for secret in self.values:
                value = value.replace(secret, "***")
            return value
        if isinstance(value, dict):
            return {self.strike(name): self.strike(item) for name, item in value.items()}
        return [self.strike(item) for item in value] if isinstance(value, list) else value


def _is_token(value: str) -> bool:
    kinds = any(c.isalpha() for c in value), any(c.isdigit() for c in value)
    return len(value) >= SHORTEST_TOKEN and all(kinds) and not re.search(r"\s", value)
