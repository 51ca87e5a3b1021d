from __future__ import annotations

import pytest

from edge_compress.agent.setup import Setup, check_address, from_line, to_line
from edge_compress.errors import StartupError


def test_a_setup_survives_the_hand_over() -> None:
    setup = Setup("127.0.0.1:1", "cam", "cam-01", "/tmp/ä b", {"site": "plant 1"}, True, 0.0, 1.5, None, "json")
    assert from_line(to_line(setup)) == setup


@pytest.mark.parametrize("address", ["127.0.0.1:50551", "127.8.8.8:1", "localhost:1", "[::1]:50551", "unix:/run/x.sock"])
def test_addresses_on_this_machine_are_safe(address: str) -> None:
    assert check_address(address, insecure=False) is False


@pytest.mark.parametrize("address", ["10.0.0.1:50551", "example.org:1", "0.0.0.0:1", "[::]:1", "127.0.0.1.example.org:1"])
def test_addresses_elsewhere_need_to_be_accepted(address: str) -> None:
    with pytest.raises(StartupError, match="--insecure"):
        check_address(address, insecure=False)
    assert check_address(address, insecure=True) is True
