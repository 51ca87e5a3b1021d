"""Where the server may listen."""

import logging
import socket

import pytest

from edge_compress.errors import InvalidSpec, StartupError
from edge_compress.server.address import Address, check_free, check_reachable


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:50551", "127.0.0.1", 50551),
        ("[::1]:1", "::1", 1),
        ("localhost:0", "localhost", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
    ],
)
def test_reads_and_writes_addresses(text, host, port):
    address = Address.parse(text, "--listen")
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "50551", "localhost", "host:port", "host:70000", "::1:80", ":80", "host:-1"])
def test_refuses_what_is_no_address(text):
    with pytest.raises(InvalidSpec, match="--listen"):
        Address.parse(text, "--listen")


@pytest.mark.parametrize("text", ["0.0.0.0:1", "192.168.1.4:1", "[::]:1", "example.org:1"])
def test_reachable_addresses_need_insecure_and_are_warned_of(text, caplog):
    address = Address.parse(text, "--listen")
    with pytest.raises(StartupError, match="--insecure"):
        check_reachable(address, "--listen", insecure=False)
    with caplog.at_level(logging.WARNING):
        check_reachable(address, "--listen", insecure=True)
    assert "without encryption" in caplog.text


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_loopback_is_let_through_in_silence(text, caplog):
    check_reachable(Address.parse(text, "--listen"), "--listen", insecure=False)
    assert caplog.text == ""


def test_a_port_in_use_is_one_line_that_names_flag_and_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartupError) as caught:
            check_free(address, "--listen")
    assert str(caught.value).startswith(f"--listen: cannot listen on {address}")
    check_free(address, "--listen")
