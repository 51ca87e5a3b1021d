"""Where the server may listen: reads ``host:port``, refuses what is not safe or not free, in one line.

Mutual TLS and the enrolment of devices do not exist yet, so only this machine may connect unless a person says otherwise.
When they do, ``check_reachable`` is the place that lets other addresses through.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from dataclasses import dataclass

from edge_compress.errors import InvalidSpec, StartupError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Host and port; port 0 asks the system for a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, field: str) -> Address:
        """Read ``127.0.0.1:50551`` or ``[::1]:50551``. Raises InvalidSpec naming ``field``."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535 or (":" in host and host[0] != "["):
            raise InvalidSpec.at(field, text, "HOST:PORT, such as 127.0.0.1:50551")
        return cls(host.strip("[]"), int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> Address:
        """The same host with the port that was really taken."""
        return Address(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_reachable(address: Address, field: str, *, insecure: bool) -> None:
    """Refuse an address that other machines can reach, unless ``insecure``, which is warned of. Raises StartupError."""
    if address.loopback:
        return
    if not insecure:
        raise StartupError(
            f"{field}: {address} can be reached from other machines and there is no mutual TLS yet; "
            "listen on 127.0.0.1, or give --insecure on a network you trust"
        )
    _log.warning("listening on %s without encryption or authentication: anyone who can reach it can change models", address)


def check_free(address: Address, field: str) -> None:
    """Raise StartupError when the address cannot be bound. Asked before gRPC, whose own failure is several lines of C++ log."""
    if address.port == 0:
        return
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except OSError as error:
        why = error.strerror or str(error)
        raise StartupError(f"{field}: cannot listen on {address} ({why}); stop what uses it or choose another port") from error
