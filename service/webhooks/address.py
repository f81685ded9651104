"""Which addresses a webhook may lead to. Whoever may submit an experiment must not reach into our network with it.

A name is judged by what it resolves to, at the moment of the call, and the call goes to that very address: a name that
resolves otherwise a moment later leads nowhere else.
"""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

LONGEST_URL = 2000
ANY_PUBLIC = "*"

# Embed IPv4 addresses, so that a private one would look public.
_TRANSLATED = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


class AddressRefusedError(Exception):
    """The address is none that this deployment calls; says why, and nothing of what it resolved to."""


@dataclass(frozen=True)
class Destination:
    """An address that may be called, as far as its text tells."""

    scheme: str
    host: str
    port: int
    target: str
    is_named: bool
    """Whether the deployment's list names this very host; then it may be private."""


def destination_of(url: str, allow: str) -> Destination:
    """Read an address and hold it against the list ``allow`` (``BFC_WEBHOOK_ALLOW``).

    Raises:
        AddressRefusedError: it is not one of these.
    """
    if len(url) > LONGEST_URL or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise AddressRefusedError(f"an address is at most {LONGEST_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefusedError("this is not an address") from error
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in {"https", "http"} or not host:
        raise AddressRefusedError("an address begins with https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise AddressRefusedError("an address holds no user name or password")
    port = port or (443 if parts.scheme == "https" else 80)
    allowed = {entry.strip().lower() for entry in allow.split(",") if entry.strip()}
    bracketed = f"[{host}]" if ":" in host else host
    is_named = bool({bracketed, f"{bracketed}:{port}"} & allowed)
    if not is_named and ANY_PUBLIC not in allowed:
        raise AddressRefusedError(f"this deployment calls no webhook at {bracketed}:{port}")
    if not is_named and parts.scheme != "https":
        raise AddressRefusedError("an address begins with https://")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    destination = Destination(parts.scheme, host, port, target, is_named)
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return destination
    if not is_named and not is_public(str(literal)):
        raise AddressRefusedError("the address is not public")
    return destination


def resolved(destination: Destination) -> list[str]:
    """The IP addresses to call; all of them may be.

    Raises:
        AddressRefusedError: one of them is not public.
        OSError: the name does not resolve.
    """
    found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    # One private address among public ones is how a name is made to pass a check and lead elsewhere.
    if not destination.is_named and not all(is_public(address) for address in addresses):
        raise AddressRefusedError("the address is not public")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is anybody's on the internet: no loopback, private, link-local, metadata or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
