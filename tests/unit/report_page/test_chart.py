import itertools
import re

import pytest

from edge_compress.report_page.chart import Axis, Point, pareto_front, scatter, ticks


def points(*places):
    return [Point(x, y, "tried", f"{x},{y}") for x, y in places]


def places(front):
    return [(point.x, point.y) for point in front]


def test_front_keeps_what_nothing_beats_in_both():
    cloud = points((1, 5), (2, 7), (3, 6), (4, 9), (2, 3), (1, 4))
    assert places(pareto_front(cloud, higher_is_better=True)) == [(1, 5), (2, 7), (4, 9)]
    assert places(pareto_front(cloud, higher_is_better=False)) == [(1, 4), (2, 3)]


def test_front_of_equal_points_is_one_point():
    assert places(pareto_front(points((1, 1), (1, 1)), higher_is_better=True)) == [(1, 1)]


@pytest.mark.parametrize(
    ("low", "high", "base", "wanted"),
    [
        (0, 10, 1, [0, 2, 4, 6, 8, 10]),
        (0.93, 1.0, 1, [0.94, 0.96, 0.98, 1.0]),
        (0, 900 * 1024, 1024, [0, 200 * 1024, 400 * 1024, 600 * 1024, 800 * 1024]),
    ],
)
def test_ticks_are_round(low, high, base, wanted):
    assert ticks(low, high, 5, base) == pytest.approx(wanted)


def test_every_mark_lies_within_the_chart_and_outliers_become_arrows():
    cloud = [*points((100, 0.99), (900, 0.98)), Point(900, 0.1, "tried", "far")]
    drawn = scatter(cloud, Axis("size", str), Axis("top1", str, higher_is_better=True, floor=0.94, from_zero=False), name="n")
    assert drawn.count('class="tried"') == 2
    assert drawn.count('class="off tried"') == 1
    for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn):
        assert 0 <= float(x) <= 400
        assert 0 <= float(y) <= 290


@pytest.mark.parametrize("place", [(0.0, 0.0), (5.0, 0.0), (1e12, 1e-9)])
def test_a_single_point_of_any_size_can_be_drawn(place):
    assert 'class="tried"' in scatter(points(place), Axis("size", str), Axis("y", str), name="n")


def test_no_points_is_a_sentence():
    assert scatter([], Axis("size", str), Axis("y", str), name="cam: energy") == (
        '<p class="empty">cam: energy: nothing was measured.</p>'
    )


def test_labels_on_one_side_never_touch():
    cloud = [Point(10, 0.5 + index / 1000, "chosen", "t", f"p{index}") for index in range(4)] + points((100, 0.9))
    drawn = scatter(cloud, Axis("size", str), Axis("y", str), name="n")
    rows = [float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="start" class="label"', drawn)]
    assert len(rows) == 4
    assert all(low - high >= 14.9 for high, low in itertools.pairwise(rows))
