"""What the demo prints where there is no terminal."""

import io

from rich.console import Console

from edge_compress.demo import view
from edge_compress.domain.fleet import DeviceStatus


def entry(verdict, **more):
    return {
        "verdict": verdict,
        "bytes": 237_544,
        "download_bytes": 216_621,
        "quality": {"metric": "top1", "value": 0.993, "drop": 0.001},
        "latency_ms": {"p50": 0.3, "p95": 0.445},
        "peak_memory_bytes": 2_646_016,
        "energy_mj": {"value": 0.378, "source": "estimate"},
        "recipe": [{"strategy": "quantize.static", "params": {}}],
        **more,
    }


def printed(what):
    screen = Console(file=io.StringIO(), width=view.PLAIN_WIDTH, highlight=False)
    screen.print(what)
    return screen.file.getvalue()


def test_the_table_has_a_row_per_profile_with_every_figure():
    report = {"models": {"digits": {"profiles": {"cam": entry("FEASIBLE"), "pendant[/]": entry("INFEASIBLE", energy_mj=None)}}}}
    lines = printed(view.results(report)).splitlines()
    head, cam, pendant = (line for line in lines if line.strip())
    for column in view.COLUMNS:
        assert column in head
    said = ("cam", "FEASIBLE", "232 KiB", "212 KiB", "99.30 %", "−0.10 points", "0.445 ms", "2.52 MiB", "0.378 mJ (estimate)")
    for figure in (*said, "quantize.static"):
        assert figure in cam
    assert "pendant[/]" in pendant
    assert "–" in pendant


def test_shortfalls_name_the_constraint_and_the_gap():
    gone = entry("INFEASIBLE", binding_constraint="storage", gap="232 KiB against 4 KiB")
    report = {"models": {"digits": {"profiles": {"cam": entry("FEASIBLE"), "pendant": gone}}}}
    assert list(view.shortfalls(report)) == [
        "pendant is INFEASIBLE by storage: 232 KiB against 4 KiB; the nearest artifact is kept"
    ]


def test_a_device_line_says_what_an_inference_costs_and_how_that_is_known():
    status = DeviceStatus(model="digits", version="abc", inferences=3, p95_seconds=0.00051, energy_source="estimate")
    said = view.device_line("cam-01", status, 64.0, 64 * 0.00043)
    assert said == "cam-01: 64 inferences of digits abc, p95 0.51 ms, 0.43 mJ each (estimate)"
