import re

from edge_compress.report_page.fronts import overview_chart, profile_charts


def entry(size, quality, ratio=None, joules=None, download=None, **more):
    return {
        "bytes": size,
        "download_bytes": download,
        "quality": {
            "metric": "top1",
            "float": 0.9,
            "value": quality,
            "drop": 0.9 - quality,
            "confidence95": [quality - 0.01, quality + 0.01],
        },
        "latency_ms": {"p50": 1.0, "p95": 2.0, "ratio_to_float": ratio} if ratio else {},
        "energy_mj": {"value": joules},
        "recipe": [{"strategy": "quantize.static"}],
        **more,
    }


ORIGINAL = {"bytes": 4000, "quality": {"metric": "top1", "value": 0.9}, "latency_ms": {"p50": 2.0, "p95": 3.0}}


def captions(charts):
    return [re.search("<figcaption>(.*?)</figcaption>", chart)[1] for chart in charts]


def test_every_cost_is_set_against_quality_and_what_nobody_knows_is_left_out():
    result = entry(
        1000, 0.89, 0.5, download=800, verdict="FEASIBLE", candidates=[entry(2000, 0.9, 0.7, download=1500, state="lost")]
    )
    assert captions(profile_charts("cam", result, ORIGINAL)) == [
        "Size against top1",
        "Download against top1",
        "Latency against top1",
    ]
    known = entry(1000, 0.89, 0.5, 3.0, 800, verdict="FEASIBLE")
    assert captions(profile_charts("cam", known, ORIGINAL))[-1] == "Energy against top1"


def test_charts_of_a_profile_share_their_quality_axis():
    result = entry(1000, 0.6, 0.5, download=800, verdict="INFEASIBLE", candidates=[])
    charts = profile_charts("cam", result, ORIGINAL)  # nobody knows the original's download: its quality is shown all the same
    ticks = [re.findall(r'<text x="56"[^>]*>([^<]+)</text>', chart) for chart in charts]
    assert ticks[0] == ticks[1] == ticks[2]
    assert "90 %" in ticks[0]


def test_the_chosen_one_shows_its_interval_and_the_original_stands_at_one():
    result = entry(1000, 0.89, 0.5, verdict="FEASIBLE", candidates=[])
    latency = profile_charts("cam", result, ORIGINAL)[-1]
    assert latency.count('class="spread"') == 1
    assert "chosen for cam: quantize.static" in latency
    across = {kind: float(x) for x, kind in re.findall(r'd="M([\d.]+) [\d.]+l7[^"]*" class="(float)"', latency)}
    ticks = {said: float(x) for x, said in re.findall(r'<text x="([\d.]+)" y="236" text-anchor="middle">([^<]+)</text>', latency)}
    assert across["float"] == ticks["1×"]


def test_without_candidates_a_chart_says_so():
    charts = profile_charts("cam", {"candidates": []}, ORIGINAL)
    assert "No candidate was made." in charts[0]
    assert "No candidate was timed." in charts[1]


def test_profiles_with_equal_artifacts_share_one_mark():
    same = entry(1000, 0.89, verdict="FEASIBLE")
    profiles = {"one": same, "two": same, "three": same, "other": entry(2000, 0.9, verdict="FEASIBLE")}
    drawn = overview_chart("m", {"float": ORIGINAL, "profiles": profiles})
    assert drawn.count('class="chosen"') == 2
    assert ">one and 2 more</text>" in drawn
    assert "one, two, three: 1000 B" in drawn


def test_limits_are_lines_where_they_lie_in_the_picture():
    asked = {"storage_bytes": 3000, "max_drop": 0.01}
    size, latency = profile_charts("cam", entry(1000, 0.89, 0.5, verdict="FEASIBLE", limits=asked), ORIGINAL)
    assert "limit: 2.93 KiB" in size
    assert "limit: 89 %" in size
    assert latency.count('class="limit"') == 1
    assert "KiB" not in latency.split('class="limit"')[1].split("</g>")[0]
    far = profile_charts("cam", entry(1000, 0.89, verdict="FEASIBLE", limits={"storage_bytes": 10**9}), ORIGINAL)[0]
    assert 'class="limit"' not in far, "a limit far off does not squeeze the chart"
