"""The report page as a reader gets it: valid, escaped, standalone, complete, and robust to missing figures."""

import html.parser
import re

import pytest

from edge_compress.domain.artifact import (
    AppliedStep,
    CandidateResult,
    Energy,
    Facts,
    Latency,
    Limits,
    Measurement,
    Outcome,
    Quality,
)
from edge_compress.domain.layers import LayerReport
from edge_compress.domain.report import report_entry
from edge_compress.report_page import write_report

FLOAT = Measurement("0" * 64, 910_173, 850_000, None, Latency(0.0006, 0.0007), 6_000_000, Energy(0.0034, "estimate"))


def measured(size, quality, p95, joules=0.002):
    scored = Quality("top1", 0.994, quality, 0.994 - quality, 1000, (quality - 0.005, quality + 0.005))
    return Measurement("1" * 64, size, size - 1000, scored, Latency(p95, p95), 3 * size, Energy(joules, "estimate"))


LAYERS = (
    LayerReport("stem", "Conv", 169_344, 960, 320, 0.000009, 0.000007, 0.009),
    LayerReport("block/conv", "Conv", 4_064_256, 20_832, 2_821, 0.000127, 0.000064, 0.031, "now 2 Conv"),
    LayerReport("head", "Gemm", 960, 3_880),
    LayerReport("everything else", "", seconds=0.00001),
)


def outcome(profile="cam", verdict="FEASIBLE", **more):
    static = (AppliedStep("graph.optimize"), AppliedStep("quantize.static", "1", {"bits": 8, "per_channel": True}))
    predicted = {"bytes": 250_000, "latency_seconds": 0.0003}
    log = ("stem: its range is clipped", "repaired by keeping the stem in float")
    chosen = CandidateResult(static, "chosen", "", measured(245_000, 0.9935, 0.0004), predicted, log)
    others = (
        CandidateResult(static[:1], "lost", "uses 1.4 mJ more than the best", measured(905_000, 0.994, 0.0006)),
        CandidateResult((AppliedStep("prune.magnitude"),), "lost", "drops 60 points", measured(905_000, 0.39, 0.0006)),
        CandidateResult((AppliedStep("quantize.float16"),), "refused", "no fp16 on this profile", predicted={"bytes": 455_000}),
        CandidateResult((AppliedStep("acme.slow"),), "failed", "ran for 60 s, the limit"),
    )
    told = ("quantize.static: stem: its range is clipped", "quantize.static: repaired by keeping the stem in float")
    facts = {"binding_constraint": None, "gap": None, "diagnosis": (*told, "the power budget was not checked"), **more}
    facts.setdefault("layers", LAYERS)
    facts.setdefault("limits", Limits(storage=512 * 1024, latency_p95=0.2, max_drop=0.01))
    facts.setdefault("facts", Facts(macs=21_000_000, parameters=230_000, peak_activation_bytes=98_304))
    return Outcome("digits", profile, verdict, chosen=chosen, candidates=(chosen, *others), float_baseline=FLOAT, **facts)


def report(*outcomes, name="digits"):
    return {"models": {name: report_entry(outcomes)}}


class Reader(html.parser.HTMLParser):
    """Checks that elements close in order; keeps texts, attributes and the cells of each table row."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows = [], [], [], []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag == "tr":
            self.rows.append("")
        if tag not in ("meta", "br", "wbr", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "tr" in self.open:
            self.rows[-1] += f"{data} "


@pytest.fixture
def read(tmp_path):
    def written(content):
        path = tmp_path / "report.html"
        write_report(content, path)
        reader = Reader()
        reader.feed(path.read_text(encoding="utf-8"))
        reader.close()
        assert reader.open == []
        reader.size = path.stat().st_size
        return reader

    return written


def test_says_what_each_profile_got_and_what_binds_the_one_that_cannot(read):
    gap = "239 KiB against 4 KiB"
    page = read(report(outcome(), outcome("pendant", "INFEASIBLE", binding_constraint="storage", gap=gap)))
    cam = next(row for row in page.rows if row.startswith("cam"))
    pendant = next(row for row in page.rows if row.startswith("pendant"))
    for said in (
        "FEASIBLE",
        "239 KiB",
        "238 KiB",
        "99.35 %",
        "−0.05 points",
        "0.4 · 0.4 ms",
        "2 mJ",
        "estimate",
        "quantize.static",
    ):
        assert said in cam
    assert "Every goal of this profile is met." in page.text
    assert f"No candidate meets every goal; what binds is storage: {gap}. The artifact that comes nearest is kept." in page.text
    assert "INFEASIBLE" in pendant
    assert f"storage: {gap}" in pendant
    assert "1 of 2 device profiles have an artifact that meets every goal." in page.text


def test_lists_every_candidate_with_why_it_lost(read):
    page = read(report(outcome()))
    for state, said in (
        ("lost", "uses 1.4 mJ more than the best"),
        ("failed", "ran for 60 s, the limit"),
    ):
        row = next(row for row in page.rows if said in row)
        assert state in row
    refused = next(row for row in page.rows if "float16" in row)
    assert "no fp16 on this profile" in refused
    assert "predicted" in refused
    assert "1 refused without running" in page.text
    assert "bits=8 per_channel=true" in page.text
    assert "5 considered: 1 chosen, 2 lost, 1 failed, 1 refused." in page.text


def test_tells_each_finding_once_with_its_repair(read):
    page = read(report(outcome()))
    assert page.text.count("its range is clipped") == 1
    assert page.text.count("the power budget was not checked") == 1
    assert page.text.count("repaired by keeping the stem in float") == 1
    assert [value for tag, key, value in page.attributes if tag == "li" and key == "class"] == ["remedy"]


def test_figures_stand_beside_what_was_asked_for(read):
    page = read(report(outcome()))
    for said in ("limit 512 KiB", "limit for p95 200 ms", "may lose 1.00 points", "27 % of 889 KiB"):
        assert said in page.text
    for said in ("21 M", "230 k", "96 KiB"):
        assert said in page.text, "the original's arithmetic, parameters and activations"


def test_predictions_stand_beside_what_was_measured(read):
    page = read(report(outcome()))
    (latency,) = [row for row in page.rows if row.startswith("Latency p50")]
    assert latency.split() == ["Latency", "p50", "0.3", "ms", "0.4", "ms", "−25", "%", "–"]
    assert "+2 %" in next(row for row in page.rows if row.startswith("Installed"))


def test_layers_are_rows_with_bars_that_can_be_put_in_order(read):
    page = read(report(outcome()))
    assert [value for tag, key, value in page.attributes if tag == "input" and key == "value"] == [
        "model",
        "bytes",
        "time",
        "sensitivity",
    ]
    orders = [value for _, key, value in page.attributes if key == "style" and value.startswith("--bytes")]
    assert orders == [
        "--bytes:2;--time:1;--sensitivity:1",
        "--bytes:0;--time:0;--sensitivity:0",
        "--bytes:1;--time:2;--sensitivity:2",
        "--bytes:3;--time:3;--sensitivity:3",
    ]
    for said in ("20.3 KiB → 2.75 KiB", "0.127 ms → 64 µs", "3.1 %", "Conv · 4.06 M MACs · now 2 Conv"):
        assert said in page.text
    assert "head" in page.text


def test_a_report_without_layers_has_no_figure_of_them(read):
    assert "Layer by layer" not in read(report(outcome(layers=()))).text


def test_charts_are_named_and_hold_a_mark_for_each_measured_candidate(read):
    page = read(report(outcome()))
    assert page.tags.count("svg") == 4
    assert [value for tag, key, value in page.attributes if tag == "svg" and key == "role"] == ["img"] * 4
    for name in ("cam: size against top1", "cam: download against", "cam: latency against", "cam: energy against top1"):
        assert name in page.text
    assert sum(key == "class" and value == "tried" for _, key, value in page.attributes) >= 4
    assert sum(key == "class" and value == "chosen" for _, key, value in page.attributes) == 4
    assert any(key == "class" and value == "off tried" for _, key, value in page.attributes), "the far outlier is an arrow"


def test_names_from_users_never_become_markup(read):
    evil = '<script>alert("x")</script>&"\''
    entry = report_entry([outcome(evil, diagnosis=(evil,), gap=evil, binding_constraint=evil)])
    page = read({"models": {evil: entry}})
    assert "evil" not in page.tags
    assert "script" not in page.tags
    assert page.text.count(evil) >= 5
    assert not [pair for pair in page.attributes if pair[1].startswith("on")]


def test_needs_nothing_from_outside(read):
    page = read(report(outcome()))
    assert {"script", "link", "img", "iframe", "image", "use"} & set(page.tags) == set()
    assert not [value for _, key, value in page.attributes if key in ("src", "href") and not value.startswith("#")]
    assert "default-src 'none'" in [value for tag, key, value in page.attributes if key == "content"][-1]
    assert "url(" not in page.text
    assert "@import" not in page.text


def nulled(value, depth):
    """``value`` with everything below ``depth`` levels null."""
    if isinstance(value, dict):
        return {key: nulled(item, depth - 1) if depth else None for key, item in value.items()}
    if isinstance(value, list):
        return [nulled(item, depth) for item in value]
    return value if depth > 0 else None


@pytest.mark.parametrize("depth", range(8))
def test_any_figure_may_be_null(read, depth):
    page = read(nulled(report(outcome(), outcome("hub")), depth))
    assert "Compression report" in page.text
    assert "None" not in page.text


def test_an_outcome_without_any_artifact_shows_dashes(read):
    nothing = Outcome("digits", "cam", "INFEASIBLE", "runtime", "the runtime cannot load it", None, (), Measurement())
    page = read(report(nothing, outcome("hub")))
    row = next(row for row in page.rows if row.startswith("cam"))
    assert row.count("–") == 7
    assert "runtime: the runtime cannot load it" in row
    assert "There is no artifact." in page.text


def test_no_models_at_all(read):
    assert "This report holds no models." in read({"models": {}}).text


def large(index):
    """An outcome with 30 candidates of long recipes and 60 layers, each with a line of diagnosis."""
    params = {f"parameter_{at}": f"value {at} of {index}" for at in range(12)}
    steps = (
        AppliedStep("graph.optimize"),
        AppliedStep("prune.structured", "1", params),
        AppliedStep("quantize.static", "1", params),
    )
    log = tuple(f"layer.{at}.conv: its range is clipped, so it stays in float" for at in range(8))
    best = measured(245_000, 0.9935, 0.0004)
    rest = [
        CandidateResult(
            steps,
            "lost",
            f"latency is {at} times the chosen one's",
            measured(245_000 + at, 0.99 - at / 900, 0.0004 + at / 1e5),
            {},
            log,
        )
        for at in range(29)
    ]
    layers = tuple(
        LayerReport(f"stage/{at}/conv", "Conv", at * 1000, at * 99, at * 33, at / 1e6, at / 2e6, at / 99) for at in range(60)
    )
    chosen = CandidateResult(steps, "chosen", "best", best, {}, log)
    return Outcome(
        "digits", f"profile-{index}", "FEASIBLE", None, None, chosen, (chosen, *rest), FLOAT, diagnosis=log, layers=layers
    )


@pytest.mark.parametrize(("profiles", "layers"), [(20, True), (100, False)])
def test_a_large_fleet_stays_under_two_megabytes_and_folds(read, profiles, layers):
    page = read(report(*[large(index) for index in range(profiles)]))
    assert page.size < 2_000_000
    assert ("Layer by layer" in page.text) == layers, "20 profiles keep their layers; of many more each tells less"
    assert not [pair for pair in page.attributes if pair[:2] == ("details", "open")]
    assert sum(row.startswith("profile-") for row in page.rows) == profiles


def test_links_lead_to_sections(read):
    page = read({"models": {"a": report_entry([outcome(), outcome("hub")]), "b": report_entry([outcome()])}})
    ids = {value for _, key, value in page.attributes if key == "id"}
    links = [value.removeprefix("#") for _, key, value in page.attributes if key == "href"]
    assert set(links) == {"m0", "m0p0", "m0p1", "m1", "m1p0"}
    assert set(links) <= ids
    groups = {value for tag, key, value in page.attributes if tag == "input" and key == "name"}
    assert len(groups) == 3, "the radio buttons of one figure do not touch another's"


def test_tables_name_their_columns_and_rows(read):
    page = read(report(outcome()))
    scopes = [value for tag, key, value in page.attributes if tag == "th" and key == "scope"]
    assert scopes.count("col") == page.tags.count("th") - scopes.count("row")
    assert page.tags.count("caption") == page.tags.count("table") == 3
    assert ("html", "lang", "en") in page.attributes


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match="report"):
        write_report(report(outcome()), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def luminance(colour):
    def linear(part):
        value = int(part, 16) / 255
        return value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(colour[index : index + 2]) for index in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_contrast_in_light_and_dark(read, scheme):
    """WCAG 2.1 AA: 4.5 to 1 for every text colour on every ground it stands on."""
    blocks = re.findall(r":root \{(.*?)\}", read(report(outcome())).text, re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme]))
    pairs = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("accent", "paper"), ("ink", "accent-wash")]
    pairs += [("soft", "accent-wash"), ("good", "good-wash"), ("bad", "bad-wash"), ("bad", "card"), ("ink", "faint")]
    pairs += [("good", "paper"), ("bad", "paper"), ("good", "card")]
    for text, ground in pairs:
        lighter, darker = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
