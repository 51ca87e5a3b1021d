import re

from edge_compress.report_page.tiles import tiles

ORIGINAL = {"bytes": 4000, "peak_memory_bytes": 10_000, "latency_ms": {"p50": 2.0}, "energy_mj": {"value": 4.0}}
RESULT = {
    "bytes": 1000,
    "download_bytes": 800,
    "peak_memory_bytes": 15_000,
    "latency_ms": {"p50": 1.0, "p95": 1.5, "ratio_to_float": 0.5},
    "quality": {"metric": "top1", "float": 0.9, "value": 0.88, "drop": 0.02, "samples": 100, "confidence95": [0.87, 0.89]},
    "energy_mj": {"value": 1.0, "source": "estimate"},
}


def words(markup):
    return re.sub("<[^>]+>", " ", markup)


def test_every_figure_stands_beside_the_originals():
    drawn = tiles(RESULT, ORIGINAL)
    assert drawn.count("<dt>") == 6
    said = words(drawn)
    for part in (
        "25 % of 3.91 KiB",
        "20 % of the original",
        "0.50× the original&#x27;s 2 ms, p95 1.5 ms",
        "25 % of 4 mJ",
        "150 % of",
    ):
        assert part in said
    assert "−2.00 points against 90.00 %, 95 % between 87.00 % and 89.00 % on 100 samples" in said
    assert drawn.count('class="over"') == 1, "more memory than the original: the bar has another colour"


def test_a_limit_that_is_missed_is_marked_as_such():
    limits = {"storage_bytes": 900, "memory_bytes": 20_000, "latency_p95_ms": 1.0, "max_drop": 0.01}
    drawn = tiles({**RESULT, "limits": limits}, ORIGINAL)
    missed = re.findall(r'<small class="bad">([^<]+)</small>', drawn)
    assert missed == ["✕ limit 900 B", "✕ limit for p95 1 ms", "✕ may lose 1.00 points"]
    assert "<small>limit 19.5 KiB</small>" in drawn


def test_what_is_not_known_is_a_dash_or_left_out():
    drawn = tiles({"bytes": 1000}, {})
    assert "Energy" not in drawn
    assert "not measured" in drawn
    assert drawn.count("–") == 4
