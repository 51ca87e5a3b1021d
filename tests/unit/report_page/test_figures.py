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


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "–"), (0, "0 %"), (0.00001, "under 0.01 %"), (0.0034, "0.34 %"), (0.123, "12 %"), (1.5, "150 %")],
)
def test_percent(value, written):
    assert figures.percent(value) == written


@pytest.mark.parametrize(("amount", "written"), [(None, "–"), (0, "0"), (999, "999"), (2_360_000, "2.36 M"), (5e12, "5 T")])
def test_count(amount, written):
    assert figures.count(amount) == written


@pytest.mark.parametrize(
    ("predicted", "measured", "written"),
    [(110, 100, "+10 %"), (92, 100, "−8 %"), (100.2, 100, "±0 %"), (None, 100, "–"), (5, None, "–"), (5, 0, "–")],
)
def test_off_by_is_positive_where_too_much_was_foretold(predicted, measured, written):
    assert figures.off_by(predicted, measured) == written


@pytest.mark.parametrize(
    ("latency", "written"),
    [
        ({"p50": 0.84, "p95": 1.2}, "0.84 · 1.2 ms"),
        ({"p50": 0.05, "p95": 1.2}, "50 µs · 1.2 ms"),
        ({"p50": 0.84}, "0.84 ms"),
        ({}, "–"),
        (None, "–"),
    ],
)
def test_median_and_percentile_share_their_unit(latency, written):
    assert figures.both_milliseconds(latency) == written


@pytest.mark.parametrize(("seconds", "written"), [(0.632, "0.632 s"), (119, "119 s"), (185.4, "3 min 5 s")])
def test_duration(seconds, written):
    assert figures.duration(seconds) == written
