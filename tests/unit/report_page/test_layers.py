import html
import re

import pytest

from edge_compress.report_page.layers import LONGEST_NAME, OTHERS, layer_bars, short_name


def layer(name, size, time=None, after=None, sensitivity=None):
    return {"name": name, "op": "Conv", "bytes": size, "bytes_after": after, "time_ms": time, "sensitivity": sensitivity}


def test_bars_are_as_long_as_their_share_of_the_largest():
    drawn = layer_bars("cam", [layer("a", 400, after=100), layer("b", 100, after=50)], 10, "g")
    widths = re.findall(r'class="(was|now)" style="width:([\d.]+)%"', drawn)
    assert widths == [("was", "100"), ("now", "25"), ("was", "25"), ("now", "12.5")]


def test_columns_of_which_nothing_is_known_are_left_out():
    drawn = layer_bars("cam", [layer("a", 400, sensitivity=0.5)], 10, "g")
    assert "Sensitivity" in drawn
    assert "Time" not in drawn
    assert '--columns:2"' in drawn
    assert 'value="time"' not in drawn


def test_no_layers_no_figure():
    assert layer_bars("cam", [], 10, "g") is None
    assert layer_bars("cam", [layer("a", 1)], 0, "g") is None


def test_the_lighter_layers_share_a_row_and_what_is_no_layer_stays_last():
    many = [layer(f"l{at}", 100 + at, time=0.01) for at in range(20)] + [layer("hot", 1, time=9), layer(OTHERS, 0, time=0.5)]
    drawn = layer_bars("cam", many, 3, "g")
    names = re.findall(r'role="rowheader"[^>]*>([^<]+)<', drawn)
    assert names == ["l18", "l19", "hot", "18 lighter layers", OTHERS]
    assert "1.91 KiB" in drawn, "the bytes of the eighteen are summed"


def test_ranks_put_the_largest_first():
    drawn = layer_bars("cam", [layer("a", 1, time=3), layer("b", 2, time=2), layer("c", 3), layer(OTHERS, 0, time=9)], 10, "g")
    assert re.findall(r"--bytes:(\d);--time:(\d)", drawn) == [("2", "0"), ("1", "1"), ("0", "2"), ("3", "3")]


def test_a_summary_says_what_stands_out():
    layers = [layer("big", 900, time=0.1), layer("slow", 100, time=0.7, sensitivity=0.25), layer(OTHERS, 0, time=0.2)]
    drawn = layer_bars("cam", layers, 10, "g")
    said = html.unescape(re.sub("<[^>]+>", "", drawn))
    assert "big holds 90 % of the original's weights." in said
    assert "slow takes 70 % of the original's time, nodes that are no layer 20 %." in said
    assert "Most sensitive: slow, 25 % error." in said


@pytest.mark.parametrize(
    ("name", "short"),
    [("conv1", "conv1"), ("a/Relu;b/FusedBatchNorm;model/conv2d", "model/conv2d"), ("x" * 50, "…" + "x" * (LONGEST_NAME - 1))],
)
def test_long_names_keep_their_telling_end(name, short):
    assert short_name(name) == short
