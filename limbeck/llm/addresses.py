"""Which servers are one's own, as far as their address tells: asking them costs nothing."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_own"]


def is_own(url: str) -> bool:
    """Return whether a URL leads to this machine or to a private network."""
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_private or address.is_loopback or address.is_link_local
