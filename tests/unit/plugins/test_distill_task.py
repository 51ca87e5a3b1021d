"""What students must take and give, read from shapes; the refusals complete "does not apply, because"."""

from __future__ import annotations

import pytest
from edge_compress_distill.task import Interface, read_interface

from edge_compress.plugin import ImageTask, TensorFacts

SCORES = TensorFacts("y", "float32", ("N", 10))


def read(*shape: object, dtype: str = "float32", output: TensorFacts = SCORES) -> Interface | str:
    return read_interface([TensorFacts("x", dtype, tuple(shape))], [output])


@pytest.mark.parametrize(
    ("shape", "task", "last"),
    [
        (("N", 3, 32, 32), ImageTask(3, 32, 32, 10), False),
        ((1, 224, 224, 3), ImageTask(3, 224, 224, 10), True),
        (("", 1, 49, 10), ImageTask(1, 49, 10, 10), False),
        (("N", 49, 10, 1), ImageTask(1, 49, 10, 10), True),
        (("N", 8, 8, 8), ImageTask(8, 8, 8, 10), False),
    ],
)
def test_images_and_spectrograms_in_either_order(shape: tuple[object, ...], task: ImageTask, last: bool) -> None:
    assert read(*shape) == Interface(task, last)


@pytest.mark.parametrize(
    ("shape", "settings", "why"),
    [
        (("N", 16), {}, "its input 'x' has 2 axes"),
        (("N", 3, "H", "W"), {}, "the size of its input 'x' is free"),
        (("N", 64, 32, 32), {}, "has 32 channels; students take 1 to 16"),
        (("N", 3, 3, 3), {}, "too small for convolutions"),
        (("N", 3, 32, 32), {"dtype": "uint8"}, "it turns uint8 into float32"),
        (("N", 3, 32, 32), {"output": TensorFacts("y", "float32", ("N", 10, 7))}, "has the shape (N, 10, 7)"),
        (("N", 3, 32, 32), {"output": TensorFacts("y", "float32", ("", "classes"))}, "has the shape (N, classes)"),
    ],
)
def test_what_is_no_image_is_refused_in_words(shape: tuple[object, ...], settings: dict[str, TensorFacts], why: str) -> None:
    said = read(*shape, **settings)  # type: ignore[arg-type]  # one of its keywords each
    assert isinstance(said, str)
    assert why in said


def test_several_inputs_are_refused() -> None:
    image = TensorFacts("x", "float32", ("N", 3, 32, 32))
    assert "2 inputs and 1 outputs" in str(read_interface([image, image], [SCORES]))
