import pytest

from edge_compress.report_page import figures


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (910_173, "889 KiB"),
        (18_614_599, "17.8 MiB"),
        (2**44, "16 TiB"),
    ],
)
def test_size(amount, written):
    assert figures.size(amount) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [(None, "–"), (0, "0 ms"), (0.0425, "42.5 µs"), (12.345, "12.3 ms"), (2500, "2500 ms")],
)
def test_milliseconds(amount, written):
    assert figures.milliseconds(amount) == written


def test_millijoules_are_never_zero_when_unknown():
    assert figures.millijoules(None) == "–"
    assert figures.millijoules(0.012) == "12 µJ"


def test_quality_reads_as_percent_only_where_it_is_a_share():
    assert figures.quality("top1", 0.9935) == "99.35 %"
    assert figures.quality("mse", 0.00123) == "0.00123"


@pytest.mark.parametrize(
    ("metric", "value", "written"),
    [
        ("top1", 0.0054, "−0.54 points"),
        ("top1", -0.001, "+0.10 points"),
        ("top1", 0.0, "±0"),
        ("mse", 0.25, "−0.25"),
        ("top1", None, "–"),
    ],
)
def test_drop_says_which_way(metric, value, written):
    assert figures.drop(metric, value) == written


def test_recipe_and_parameters():
    steps = [
        {"strategy": "a", "params": {"bits": 8, "on": True, "left": None, "pattern": "", "axes": [1, 2]}},
        {"strategy": "b", "params": None},
    ]
    assert figures.recipe(steps) == "a → b"
    assert figures.parameters(steps) == "bits=8 on=true axes=1,2"
    assert figures.recipe([]) == "as it is"
