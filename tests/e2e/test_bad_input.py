"""What a person may get wrong in a fleet file or in the files it names, through both doors: ``apply`` and ``compress``.

Each is one line that names file, line and field; nothing is stored, nothing is half-written, and the server goes on serving.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_compress import Client
from edge_compress.errors import InUse, InvalidSpec
from tests.e2e.tiny import half_written, inventory, refused

Spoil = Callable[[Path], None]
SOURCE, CALIBRATION, EVALUATION = "spec.source: digits.onnx: ", "spec.data.calibration: ", "spec.data.evaluation: "
DOORS = ("apply", "compress")


def through(door: str, stand: Any, fleet: Path, tmp_path: Path, code: int = 1) -> str:
    """What is said on going through a door that must stay shut; that nothing was left behind."""
    before = inventory(stand)
    out = tmp_path / "out"
    line = refused(stand, door, "-f", str(fleet), *(["--out", str(out)] if door == "compress" else []), code=code)
    assert inventory(stand) == before, "nothing is stored"
    assert half_written(stand.state) == []
    if out.exists():
        assert [path.name for path in out.iterdir()] == [".cache"], "no artifact and no report"
        assert half_written(out / ".cache") == []
    return line


def by_door(cases: Iterable[str], through_both: int) -> list[tuple[str, str]]:
    """(case, door): each case by ``apply``, the first ones by ``compress`` too. Behind both doors the same checks stand."""
    return [(case, door) for at, case in enumerate(cases) for door in DOORS if door == "apply" or at < through_both]


def line_of(fleet: Path, field: str) -> int:
    """Where the last part of a dotted field stands in the file."""
    last = re.sub(r"\[\d+\]", "", field).rpartition(".")[2]
    return next(number for number, line in enumerate(fleet.read_text().splitlines(), 1) if re.search(rf"\b{last}:", line))


def images(folder: Path) -> Any:
    return np.load(folder / "calib.npz")["x"]


def cut(folder: Path) -> None:
    whole = (folder / "digits.onnx").read_bytes()
    (folder / "digits.onnx").write_bytes(whole[: len(whole) // 2])


def scramble(folder: Path) -> None:
    (folder / "digits.onnx").write_bytes(np.random.default_rng(7).bytes(4096))


def empty_model(folder: Path) -> None:
    (folder / "digits.onnx").write_bytes(b"")


def external(location: str) -> Spoil:
    """The weights lie in another file, said to be at ``location``."""

    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "digits.onnx")
        weight = model.graph.initializer[0]
        (folder.parent / "secret.bin").write_bytes(weight.raw_data)
        (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
        (folder / "digits.onnx").write_bytes(model.SerializeToString())

    return spoil


def calibration(change: Callable[[Any], dict[str, Any]]) -> Spoil:
    return lambda folder: np.savez(folder / "calib.npz", **change(images(folder)))


def evaluation(change: Callable[[Any, Any], dict[str, Any]]) -> Spoil:
    def spoil(folder: Path) -> None:
        data = np.load(folder / "val.npz")
        np.savez(folder / "val.npz", **change(data["x"], data["y"]))

    return spoil


def with_nan(x: Any) -> dict[str, Any]:
    floats = x.astype(np.float32)
    floats[17, 3, 3] = np.nan
    return {"x": floats}


def with_label(label: int) -> Callable[[Any, Any], dict[str, Any]]:
    def change(x: Any, y: Any) -> dict[str, Any]:
        labels = y.copy()
        labels[5] = label
        return {"x": x, "y": labels}

    return change


def no_archive(folder: Path) -> None:
    (folder / "calib.npz").write_bytes(b"not a zip archive at all")


FILES: dict[str, tuple[Spoil, str, str]] = {
    "truncated model": (cut, SOURCE, "not an ONNX model, or only part of one"),
    "random model": (scramble, SOURCE, "not an ONNX model, or only part of one"),
    "external data above": (external("../secret.bin"), SOURCE, r"'weight': read external data at '\.\./secret\.bin'"),
    "external data linked": (external("link.bin"), SOURCE, "'weight': read external data at 'link.bin'"),
    "array of another name": (calibration(lambda x: {"pixels": x}), CALIBRATION, "read arrays pixels, expected one called 'x'"),
    "NaN": (calibration(with_nan), CALIBRATION, "array 'x': sample 17 holds NaN"),
    "no samples": (calibration(lambda x: {"x": x[:0]}), CALIBRATION, "array 'x': is empty"),
    "label beyond the classes": (evaluation(with_label(12)), EVALUATION, "array 'y': .*12"),
    "empty model": (empty_model, SOURCE, "empty file"),
    "external data absolute": (external("/etc/passwd"), SOURCE, "'weight': read external data at '/etc/passwd'"),
    "another shape": (calibration(lambda x: {"x": x[:, :, :7]}), CALIBRATION, r"array 'x': .*7"),
    "text for numbers": (calibration(lambda x: {"x": x.astype("U3")}), CALIBRATION, "array 'x': "),
    "pickled objects": (calibration(lambda x: {"x": x.astype(object)}), CALIBRATION, "array 'x': "),
    "no archive": (no_archive, CALIBRATION, r"not a readable \.npz file"),
    "fewer labels": (evaluation(lambda x, y: {"x": x, "y": y[:9]}), EVALUATION, "y: 9 samples, expected as many"),
    "no labels": (evaluation(lambda x, y: {"x": x}), EVALUATION, "label"),
    "label below zero": (evaluation(with_label(-1)), EVALUATION, "array 'y': .*-1"),
}


@pytest.mark.parametrize(("case", "door"), by_door(FILES, 8))
def test_files_that_cannot_be_used(case: str, door: str, served: Any, tiny: Path, tmp_path: Path) -> None:
    spoil, field, expected = FILES[case]
    spoil(tiny.parent)
    line = through(door, served, tiny, tmp_path)
    where = f"{tiny}:{line_of(tiny, field.split(':')[0])}: {field}"
    assert line.startswith(where), f"{line!r} does not begin with {where!r}"
    assert re.search(expected, line), f"{line!r} does not say {expected!r}"


FIELDS: dict[str, tuple[str, str, str, str]] = {
    "unknown field": ("  memory: 64Mi", "  memroy: 64Mi", "spec.memroy", "did you mean 'memory'"),
    "unknown strategy": ("graph.optimize", "graph.optimise", "spec.steps[0].strategy", "did you mean 'graph.optimize'"),
    "unknown parameter": (
        "{strategy: graph.optimize}",
        "{strategy: quantize.static, params: {per_chanel: true}}",
        "spec.steps[0].params.per_chanel",
        "did you mean 'per_channel'",
    ),
    "unknown metric": ("metric: top1", "metric: top11", "spec.quality.metric", "did you mean 'top1'"),
    "unknown runtime": ("  memory: 64Mi", "  runtime: onnxruntim", "spec.runtime", "did you mean 'onnxruntime'"),
    "unknown profile": ("profiles: [cam]", "profiles: [cma]", "spec.selector.profiles[0]", "'cma'"),
    "unknown recipe": ("recipe: tidy", "recipe: tydi", "spec.recipe", "'tydi'"),
    "unknown field inside": ("preprocess: {std: 16}", "preprocess: {sdt: 16}", "spec.data.preprocess.sdt", "did you mean 'std'"),
    "unknown kind": ("kind: Recipe", "kind: Recipie", "kind", "did you mean 'Recipe'"),
    "negative size": ("storage: 1Mi", "storage: -1Mi", "spec.storage", "zero or more"),
    "absurd size": ("memory: 64Mi", "memory: 999999Ti", "spec.memory", "at most"),
    "no unit": ("memory: 64Mi", "latency_p95: 200", "spec.latency_p95", "give a unit"),
    "absurd drop": ("max_drop: 0.05", "max_drop: -0.5", "spec.quality.max_drop", "at least 0"),
    "a file that is not there": ("evaluation: val.npz", "evaluation: vla.npz", "spec.data.evaluation", "does not exist"),
}


@pytest.mark.parametrize(("case", "door"), by_door(FIELDS, 7))
def test_declarations_that_make_no_sense(case: str, door: str, served: Any, tiny: Path, tmp_path: Path) -> None:
    old, new, field, expected = FIELDS[case]
    text = tiny.read_text()
    tiny.write_text(text.replace(old, new, 1))
    number = next(number for number, line in enumerate(tiny.read_text().splitlines(), 1) if line not in text.splitlines())
    line = through(door, served, tiny, tmp_path)
    assert line.startswith(f"{tiny}:{number}: {field}: "), line
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"), [("kind: [unclosed", "not YAML"), ("", "at least one resource"), ("- 1", "a mapping")]
)
def test_a_file_that_is_no_fleet(text: str, expected: str, served: Any, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(text)
    for door in DOORS:
        assert expected in through(door, served, tiny, tmp_path, code=2 if not text else 1)


def test_a_model_over_the_servers_limit(served: Any, tiny: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny.parent / "digits.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2**19, np.float32), "ballast"))
    (tiny.parent / "digits.onnx").write_bytes(model.SerializeToString())
    size = (tiny.parent / "digits.onnx").stat().st_size
    line = through("apply", served, tiny, tmp_path)
    assert line.startswith("spec.source: digits.onnx")
    assert str(size) in line
    assert str(2**20) in line


def test_what_is_in_use_is_not_deleted(served: Any, tiny: Path) -> None:
    served.cli("apply", "-f", str(tiny))
    for kind, name in (("profile", "cam"), ("model", "digits"), ("recipe", "tidy")):
        line = refused(served, "delete", kind, name)
        assert f"{name!r} is in use by deployment/digits" in line
    names = {(kind, name) for kind, name, _ in inventory(served)}
    assert {("DeviceProfile", "cam"), ("Model", "digits"), ("Recipe", "tidy"), ("Deployment", "digits")} <= names
    assert served.cli("delete", "-f", str(tiny)).stdout.count("deleted") == 4
    assert "does not exist" in refused(served, "delete", "profile", "cam")


def test_two_clients_at_once_lose_and_mix_nothing(served: Any) -> None:
    """Both write the same profiles with their own mark in two fields; each ends as one of the two wrote it, whole."""
    failures: list[BaseException] = []

    def write(mark: int) -> None:
        try:
            with Client(served.address) as client:
                for round_ in range(3):
                    for start in (0, 10):
                        client.apply([profile(f"both-{index}", mark, round_) for index in range(start, start + 10)])
                        client.apply([profile(f"own-{mark}-{index}", mark, round_) for index in range(start, start + 10)])
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(mark,)) for mark in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert failures == []
    with Client(served.address) as client:
        found = {item.name: item for item in client.list("DeviceProfile") if item.name.startswith(("both-", "own-"))}
        assert {name for name in found if name.startswith("both-")} == {f"both-{index}" for index in range(20)}
        assert len([name for name in found if name.startswith("own-")]) == 40
        for item in found.values():
            assert item.metadata.labels["mark"] == str(item.spec.threads), "the fields of one writer"
            assert item.spec.threads in (1, 2)
        assert all(found[f"own-{mark}-{index}"].spec.threads == mark for mark in (1, 2) for index in range(20))
        for name in found:
            client.delete("DeviceProfile", name)


def test_two_clients_with_the_same_files_at_once(served: Any, tiny: Path, tmp_path: Path) -> None:
    """One sends a blob while the other waits for it; both end well, and each model names the files that its client had."""
    ballast = np.random.default_rng(11).integers(0, 255, 16 * 2**20, dtype=np.uint8)
    np.savez(tiny.parent / "calib.npz", ballast=ballast, x=images(tiny.parent))
    text = tiny.read_text()
    outcomes: dict[str, Any] = {}

    def send(name: str) -> None:
        file = tiny.parent / f"{name}.yaml"
        file.write_text(text.split("---\n")[1].replace("name: digits", f"name: {name}"))
        with Client(served.address) as client:
            outcomes[name] = _failure(lambda: client.apply(file)) or client.get("Model", name)

    senders = [threading.Thread(target=send, args=(name,)) for name in ("left", "right")]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(90)
    left, right = outcomes["left"], outcomes["right"]
    assert left.spec.files == right.spec.files, outcomes
    assert half_written(served.state) == []
    with Client(served.address) as client:
        client.download(left.spec.file("calib.npz").sha256, tmp_path / "back.npz")
        assert (tmp_path / "back.npz").read_bytes() == (tiny.parent / "calib.npz").read_bytes()
        for name in outcomes:
            client.delete("Model", name)


def test_what_a_running_job_works_on_may_go_and_the_server_goes_on(served: Any, tiny: Path, wait_for: Callable[..., Any]) -> None:
    tiny.write_text(tiny.read_text().replace("memory: 64Mi", "memory: 63Mi"))
    with Client(served.address) as client:
        client.apply(tiny)

        def states() -> dict[str, str]:
            return {job.name: job.status.state for job in client.jobs()}

        wait_for("its job runs", lambda: "Running" in states().values())
        for kind, name in (("Deployment", "digits"), ("DeviceProfile", "cam"), ("Model", "digits"), ("Recipe", "tidy")):
            client.delete(kind, name)
        wait_for("the job ends or is forgotten", lambda: not {"Queued", "Running"} & set(states().values()), 90)
        assert "Failed" not in states().values()
        client.apply(tiny, validate_only=True)


def profile(name: str, mark: int, round_: int) -> dict[str, Any]:
    spec = {"threads": mark, "memory": f"{mark * 16 + round_}Mi"}
    return {"kind": "DeviceProfile", "metadata": {"name": name, "labels": {"mark": str(mark)}}, "spec": spec}


def test_a_rival_delete_and_apply_leave_no_deployment_without_its_profile(served: Any, tiny: Path) -> None:
    """However the two interleave: a deployment that is there has its profile."""
    with Client(served.address) as client, Client(served.address) as rival:
        client.apply(tiny)
        for _ in range(5):
            client.delete("Deployment", "digits")
            refusals: list[Exception | None] = []
            deleting = threading.Thread(target=_try_to_delete, args=(rival, refusals))
            deleting.start()
            refusals.append(_failure(lambda: client.apply(tiny)))
            deleting.join(30)
            assert all(error is None or isinstance(error, (InUse, InvalidSpec)) for error in refusals), refusals
            names = {(kind, name) for kind, name, _ in inventory(served)}
            assert (("Deployment", "digits") in names) <= (("DeviceProfile", "cam") in names)
            client.apply(tiny)


def _try_to_delete(client: Client, refusals: list[Exception | None]) -> None:
    refusals.append(_failure(lambda: client.delete("DeviceProfile", "cam")))


def _failure(act: Callable[[], Any]) -> Exception | None:
    try:
        act()
    except Exception as error:
        return error
    return None
