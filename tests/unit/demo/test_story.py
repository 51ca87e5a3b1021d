"""What the demo insists on: verdicts, series on /metrics, devices that have really reported."""

import pytest

from edge_compress.demo import story
from edge_compress.domain.fleet import DeviceSpec, DeviceStatus
from edge_compress.domain.job import JobStatus
from edge_compress.domain.resource import ObjectMeta, Stored
from edge_compress.errors import StartupError

EXPOSITION = """\
# HELP edge_compress_inferences Inferences on devices.
# TYPE edge_compress_inferences counter
edge_compress_inferences_total{profile="cam",model="digits",version="1",cohort="",outcome="ok"} 40.0
edge_compress_inferences_total{profile="hub",model="digits",version="2",cohort="",outcome="ok"} 0.0
edge_compress_energy_joules_total{profile="cam",model="digits",source="estimate",scope="process"} 0.02
edge_compress_inference_duration_seconds_bucket{profile="cam",le="+Inf"} 40
edge_compress_inference_duration_seconds_count{profile="cam"} 40
edge_compress_inference_duration_seconds_sum{profile="cam"} 0.2
edge_compress_devices{state="Committed"} 1
edge_compress_transfer_bytes_total{kind="full"} 237544.0
edge_compress_rollout_devices{rollout="digits-1",step="0",state="Committed"} 1
edge_compress_jobs{state="Succeeded"} 3
edge_compress_job_duration_seconds_count{strategy="quantize.static",outcome="ok"} 4
python_info{version="3"} 1
"""


def device(state="Committed", **status):
    known = {"inferences": 50, "p95_seconds": 0.001, "joules_per_inference": 0.002, **status}
    return Stored("Device", ObjectMeta("cam-01"), DeviceSpec("cam"), DeviceStatus(state=state, **known))


def test_metrics_are_read_per_series_and_profile():
    seen = story.read_metrics(EXPOSITION)
    assert seen.samples["inference_duration_seconds"] == 3
    assert seen.samples["inferences_total"] == 2
    assert "python_info" not in seen.samples
    assert seen.inferences == {"cam": 40.0, "hub": 0.0}
    assert seen.joules == {"cam": 0.02}
    assert seen.missing(["cam"]) == []


def test_missing_series_and_silent_profiles_are_named():
    assert story.read_metrics(EXPOSITION).missing(["cam", "hub"]) == ["hub"]
    assert story.read_metrics("edge_compress_jobs 1\n").missing([]) == [name for name in story.SHOWN_SERIES if name != "jobs"]


@pytest.mark.parametrize(
    "lacking",
    [{"state": "Trial"}, {"inferences": 0}, {"p95_seconds": None}, {"joules_per_inference": None}],
    ids=lambda lacking: next(iter(lacking)),
)
def test_a_device_counts_once_it_committed_and_reported_everything(lacking):
    assert story.has_reported(device())
    assert not story.has_reported(device(**lacking))
    assert story.journey(device(**lacking)) < story.journey(device()) == 1.0


def test_verdicts_that_are_not_as_expected_are_refused():
    profiles = {name: {"verdict": verdict, "gap": None} for name, verdict in story.EXPECTED.items()}
    report = {"models": {"digits": {"profiles": profiles}}}
    story.check_verdicts(report)
    profiles["pendant"] = {"verdict": "FEASIBLE", "gap": None}
    with pytest.raises(StartupError, match="pendant should be INFEASIBLE and is FEASIBLE"):
        story.check_verdicts(report)
    del profiles["cam"]
    with pytest.raises(StartupError, match="cam should be FEASIBLE and is None"):
        story.check_verdicts(report)


def test_a_failed_job_ends_the_story_with_its_message():
    job = Stored("Job", ObjectMeta("digits-cam-1"), None, JobStatus(state="Failed", message="disk full"))
    with pytest.raises(StartupError, match="job digits-cam-1 failed: disk full"):
        story._refuse_failed([job])


def test_a_device_that_rolls_back_ends_the_story_with_its_message():
    with pytest.raises(StartupError, match="cam-01 rolled back: golden vectors differ"):
        story._refuse_rolled_back([device("RolledBack", message="golden vectors differ")])
