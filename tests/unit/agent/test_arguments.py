from __future__ import annotations

from pathlib import Path

import pytest

from edge_compress.agent.arguments import read
from edge_compress.errors import InvalidSpec

PLAIN = ["--profile", "cam", "--name=cam-01", "--state", "/tmp/x", "--labels", "site=plant-1,line=3"]


def test_plain_flags_are_read_with_their_units() -> None:
    setup = read([*PLAIN, "--self-test-rate", "5/s", "--report", "500ms", "--insecure", "--log-format=json"])
    assert setup is not None
    assert (setup.profile, setup.name, setup.state) == ("cam", "cam-01", "/tmp/x")
    assert setup.labels == {"site": "plant-1", "line": "3"}
    assert (setup.self_test_rate, setup.report, setup.heartbeat) == (5.0, 0.5, None)
    assert (setup.insecure, setup.log_format) == (True, "json")


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_COMPRESS_PROFILE", "hub")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    setup = read(["--name", "hub-01"])
    assert setup is not None
    assert (setup.profile, setup.state) == ("hub", str(tmp_path / "edge-compress" / "agents" / "hub-01"))


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--profil", "cam"], ["cam"], ["--profile"], ["--profile", "--name"], [*PLAIN, "--name", "b"], ["--insecure=1"]],
)
def test_anything_else_is_left_to_the_full_command_line(words: list[str]) -> None:
    assert read(words) is None


def test_a_wrong_value_is_told_by_its_flag() -> None:
    with pytest.raises(InvalidSpec, match="--self-test-rate"):
        read([*PLAIN, "--self-test-rate", "fast"])
