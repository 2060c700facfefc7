"""Where our calls may end: at public addresses, unless somebody wrote otherwise."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Iterable

import httpcore


class PrivateAddressError(httpcore.ConnectError):
    """A name that ought to be public leads into a private network."""


def is_public(address: str) -> bool:
    """Whether anybody on the internet would reach the same machine by this address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global and not found.is_multicast


def is_written(host: str) -> bool:
    """Whether this is no name: who writes an address, or localhost, means it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


class CarefulNetwork(httpcore.AsyncNetworkBackend):
    """Looks a name up once, looks at every answer, and calls what it looked at.

    A name is not ours: what stood for the CRM yesterday may lead to a database beside us today.
    """

    def __init__(self, private_hosts: Collection[str] = ()) -> None:
        self._private = frozenset(private_hosts)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await looked_up(host, port, self._private, timeout):
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("no CRM lives in a file")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def looked_up(
    host: str, port: int, private_hosts: Collection[str] = (), patience: float | None = None
) -> list[str]:
    """What to call to reach a host. Raises PrivateAddressError where a name leads into a private
    network and is none of ``private_hosts``.
    """
    if host in private_hosts or is_written(host):
        return [host]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(patience):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(f"{host} was not found in time") from error
    except OSError as error:
        raise httpcore.ConnectError(f"{host} was not found") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise PrivateAddressError(host)
    return addresses
