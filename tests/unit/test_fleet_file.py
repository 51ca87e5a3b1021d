"""Fleet files: what is right becomes resources, what is wrong is named with file, line, field and what to do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from edge_compress.domain.spec import Deployment, DeviceProfile, Model, dump_resource
from edge_compress.errors import InvalidSpec, NotFound, TooLarge
from edge_compress.fleet_file import MAX_BYTES, load_path, load_text

FLEET = """\
# four kinds in one file
apiVersion: edge-compress/v1
kind: DeviceProfile
metadata: {name: cam, labels: {site: plant-1}}
spec:
  memory: 64Mi
  latency_p95: 200ms
---
kind: Model
metadata:
  name: vision
spec:
  source: models/vision.onnx
  data: {calibration: calib.npz}
---
kind: Deployment
metadata: {name: vision}
spec:
  model: vision
  rollout:
    steps: [10%, 100%]
"""


def fleet(folder: Path, text: str = FLEET) -> Path:
    (folder / "models").mkdir()
    (folder / "models/vision.onnx").write_bytes(b"model")
    (folder / "calib.npz").write_bytes(b"data")
    (folder / "fleet.yaml").write_text(text)
    return folder / "fleet.yaml"


def refused(text: str) -> str:
    with pytest.raises(InvalidSpec) as caught:
        load_text(text, file="fleet.yaml")
    return str(caught.value)


def test_a_fleet_becomes_resources_with_their_lines_and_folder(tmp_path: Path) -> None:
    declared = load_path(fleet(tmp_path))
    assert [type(item.resource) for item in declared] == [DeviceProfile, Model, Deployment]
    assert [item.line for item in declared] == [2, 9, 16]
    assert declared[0].lines["spec.latency_p95"] == 7
    assert declared[2].lines["spec.rollout.steps[1]"] == 21
    assert {item.folder for item in declared} == {tmp_path}


def test_a_folder_is_read_file_by_file_and_duplicates_across_files_are_refused(tmp_path: Path) -> None:
    fleet(tmp_path)
    (tmp_path / "more.json").write_text('{"kind": "DeviceProfile", "metadata": {"name": "hub"}}')
    assert [item.resource.name for item in load_path(tmp_path)] == ["cam", "vision", "vision", "hub"]
    (tmp_path / "again.yml").write_text("kind: DeviceProfile\nmetadata: {name: cam}\n")
    with pytest.raises(InvalidSpec, match=r"fleet\.yaml:2.*'cam' is declared again.*again\.yml:1"):
        load_path(tmp_path)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (("memory: 64Mi", "memroy: 64Mi"), ("fleet.yaml:6: spec.memroy", "did you mean 'memory'?")),
        (("memory: 64Mi", "memory: -64Mi"), ("fleet.yaml:6: spec.memory", "zero or more")),
        (("200ms", "200 parsecs"), ("fleet.yaml:7: spec.latency_p95", "a duration like 200ms")),
        (("kind: Model", "kind: Modle"), ("fleet.yaml:9: kind", "did you mean 'Model'?")),
        (("  name: vision\n", "  name: ../vision\n"), ("fleet.yaml:11: metadata.name",)),
        (("[10%, 100%]", "[10%, 120%]"), ("fleet.yaml:21: spec.rollout.steps[1]", "at most")),
        (("  model: vision\n", ""), ("fleet.yaml:18: spec.model", "required")),
        (("plant-1", "a b"), ("fleet.yaml:4: metadata.labels.site",)),
        (("memory: 64Mi", "memory: 64Mi\n  memory: 32Mi"), ("fleet.yaml:7: spec.memory", "the first is on line 6")),
        (("edge-compress/v1", "v2"), ("fleet.yaml:2: apiVersion", "edge-compress/v1")),
        (("memory: 64Mi", "memory: !!python/name:os.system x"), ("fleet.yaml:6", "python/name")),
        (("memory: 64Mi", "memory: [64Mi"), ("fleet.yaml:7: not YAML",)),
        (("memory: 64Mi", "? [a, b]\n  : 1"), ("fleet.yaml:6", "as a key")),
        (("memory: 64Mi", "memory: .nan"), ("fleet.yaml:6: spec.memory", "finite")),
        (("memory: 64Mi", "memory: " + "9" * 5000), ("fleet.yaml:6", "spec.memory")),
        (("memory: 64Mi", "threads: 2026-11-01"), ("fleet.yaml:6: spec.threads", "2026-11-01")),
    ],
)
def test_errors_name_line_field_and_what_to_do(broken: tuple[str, str], says: tuple[str, ...]) -> None:
    message = refused(FLEET.replace(*broken))
    assert "\n" not in message
    assert message.startswith(says[0])
    assert all(part in message for part in says)


def test_a_document_that_is_no_mapping_is_refused() -> None:
    assert refused("- a\n- b\n").startswith("fleet.yaml:1: document")
    assert refused("just text\n").startswith("fleet.yaml:1: document")
    assert load_text("---\n---\n# nothing\n") == []


@pytest.mark.parametrize("field", ["source", "data.calibration"])
def test_a_missing_file_is_named_with_its_field(tmp_path: Path, field: str) -> None:
    path = fleet(tmp_path)
    (tmp_path / {"source": "models/vision.onnx", "data.calibration": "calib.npz"}[field]).unlink()
    with pytest.raises(InvalidSpec, match=rf"fleet\.yaml:\d+: spec\.{field}: .*does not exist") as caught:
        load_path(path)
    assert caught.value.violations[0].field == f"spec.{field}"


def test_a_missing_fleet_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        load_path(tmp_path / "absent.yaml")
    with pytest.raises(InvalidSpec, match="no YAML file"):
        load_path(tmp_path)


def test_bombs_are_refused_in_no_time(tmp_path: Path) -> None:
    began = time.process_time()
    laughs = "a: &a [x,x]\n" + "".join(f"b{n}: &b{n} [*{'b' + str(n - 1) if n else 'a'},*a]\n" for n in range(30))
    assert "no aliases" in refused(laughs)
    assert "nesting" in refused("spec: " + "[" * 5000 + "]" * 5000)
    assert "nesting" in refused("".join(" " * n + "a:\n" for n in range(200)))
    with pytest.raises(TooLarge):
        load_text("[" + "x," * 200_000 + "]")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(TooLarge, match=r"big\.yaml"):
        load_path(tmp_path / "big.yaml")
    assert time.process_time() - began < 5


def test_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(b"\x08\x07\xff\xfe")
    with pytest.raises(InvalidSpec, match=r"model\.yaml: byte 2 is not UTF-8"):
        load_path(tmp_path / "model.yaml")
    (tmp_path / "nul.yaml").write_bytes(b"kind: \x00")
    with pytest.raises(InvalidSpec, match=r"nul\.yaml"):
        load_path(tmp_path / "nul.yaml")


def test_what_get_prints_can_be_applied_again() -> None:
    first = load_text(FLEET)[0].resource
    shown = dump_resource(first)
    shown["metadata"] |= {"uid": "u", "generation": 2, "revision": 7, "createdAt": "2026-11-01T00:00:00Z"}
    shown["status"] = {"observedGeneration": 2}
    assert load_text(yaml.safe_dump(shown))[0].resource == first
