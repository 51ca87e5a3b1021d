"""Settings: flag before environment before default, each checked and each named when it is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge_compress.config import AgentSettings, ClientSettings, ServerSettings, default_device_name, load
from edge_compress.domain.spec import check_name
from edge_compress.errors import InvalidSpec


def test_a_flag_goes_before_the_environment_before_the_default() -> None:
    environ = {"EDGE_COMPRESS_LISTEN": "127.0.0.1:1", "EDGE_COMPRESS_WORKERS": "3", "EDGE_COMPRESS_MAX_MODEL": "64Mi"}
    settings = load(ServerSettings, {"listen": "127.0.0.1:2", "workers": None}, environ)
    assert (settings.listen, settings.workers, settings.max_model_bytes) == ("127.0.0.1:2", 3, 64 * 2**20)
    assert settings.metrics_listen == "127.0.0.1:9464"
    assert settings.max_data_bytes == 16 * 2**30


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EDGE_COMPRESS_WORKERS", "0"),
        ("EDGE_COMPRESS_WORKERS", "many"),
        ("EDGE_COMPRESS_INSECURE", "perhaps"),
        ("EDGE_COMPRESS_MAX_MODEL", "-1Gi"),
        ("EDGE_COMPRESS_LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidSpec, match=variable):
        load(ServerSettings, {}, {variable: value})


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(InvalidSpec, match="--self-test-rate"):
        load(AgentSettings, {"profile": "cam", "self_test_rate": "fast"}, {})
    with pytest.raises(InvalidSpec, match=r"--profile.*EDGE_COMPRESS_PROFILE"):
        load(AgentSettings, {}, {})
    with pytest.raises(InvalidSpec, match="--labels"):
        load(AgentSettings, {"profile": "cam", "labels": "site"}, {})


def test_an_agent_gets_a_name_and_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    named = load(AgentSettings, {"profile": "cam", "name": "cam-01", "labels": "site=plant-1, line=3"}, {})
    assert named.state == tmp_path / "edge-compress/agents/cam-01"
    assert named.labels == {"site": "plant-1", "line": "3"}
    assert load(AgentSettings, {"profile": "cam"}, {}).name.endswith("-cam")
    assert load(AgentSettings, {"profile": "cam", "state": tmp_path / "x"}, {}).state == tmp_path / "x"
    assert load(ServerSettings, {}, {}).state == tmp_path / "edge-compress/server"


@pytest.mark.parametrize("host", ["Bob's MacBook.local", "…", "a" * 200, "plain"])
def test_any_host_name_gives_a_valid_device_name(host: str) -> None:
    check_name(default_device_name(host, "p" * 40), "name")


@pytest.mark.parametrize("cls", [ServerSettings, AgentSettings, ClientSettings])
def test_every_setting_has_a_meaning_and_a_variable(cls: type) -> None:
    for item in dataclasses.fields(cls):
        assert item.metadata["doc"]
        assert item.metadata["env"].startswith("EDGE_COMPRESS_")
