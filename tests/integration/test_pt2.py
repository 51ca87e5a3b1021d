"""A .pt2 archive through a real server by the command line: refused where it is not allowed, taken where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_compress.cli.app import run
from edge_compress.client import Client
from tests.unit.cli.server_process import ServerProcess
from tests.unit.graph.archives import save_linear

FLEET = """kind: Model
metadata: {name: linear}
spec:
  source: linear.pt2
  data: {evaluation: e.npz}
---
kind: DeviceProfile
metadata: {name: cam}
"""


def test_apply_takes_an_archive_where_the_server_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_linear(tmp_path / "linear.pt2")
    np.savez(tmp_path / "e.npz", input=np.ones((4, 4), np.float32))
    (tmp_path / "fleet.yaml").write_text(FLEET)
    server = ServerProcess(tmp_path / "server")
    server.start()
    try:
        at = ("--server", server.address, "--timeout", "120s")  # a machine that runs other tests is slow
        code, _, said = _called(capsys, "apply", "-f", str(tmp_path / "fleet.yaml"), *at)
        assert code == 1
        assert "fleet.yaml:4: spec.source: linear.pt2: read a .pt2 archive" in said
        assert "--allow-pt2" in said
        assert len(said.strip().splitlines()[-1]) == len(max(said.splitlines(), key=len)), "one line"
        server.stop()
        monkeypatch.setenv("EDGE_COMPRESS_ALLOW_PT2", "true")
        server.start()
        code, out, said = _called(capsys, "plan", "-f", str(tmp_path / "fleet.yaml"), *at, "-o", "json")
        assert code == 0, said
        assert _candidates(json.loads(out)), "planned from facts that the client found by a lift of its own"
        code, _, said = _called(capsys, "apply", "-f", str(tmp_path / "fleet.yaml"), *at)
        assert code == 0, said
        with Client(server.address) as client:
            assert client.get("Model", "linear").status.conditions[0].type == "Accepted"
    finally:
        server.stop()


def _candidates(preview: Any) -> list[Any]:
    return [item for pair in preview["pairs"] for item in pair["candidates"] if not item.get("refused")]


def _called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err
