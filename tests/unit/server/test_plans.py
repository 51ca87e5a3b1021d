"""Previews: which pairs the documents have a part in, for how many devices, and what is still to be sent."""

import pytest

from edge_compress.cli.fleet import plan_lines
from edge_compress.domain.artifact import AppliedStep, CandidateResult, Measurement, Outcome
from edge_compress.domain.job import JobSpec, JobStatus
from edge_compress.domain.resource import PlanPreview
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import parse_resource
from edge_compress.plugin.registry import Registry
from edge_compress.server.declarations import Declarations
from edge_compress.server.history import Yield, keep
from edge_compress.server.plans import Planner
from edge_compress.server.refusals import MissingReference
from edge_compress.server.requests import request_of
from tests.unit.server.quick_engine import yields


def resource(kind, name, **body):
    return parse_resource({"kind": kind, "metadata": {"name": name}, "spec": body})


@pytest.fixture
def planner(store, engine):
    return Planner(store, engine, Declarations(store, Registry.load()))


@pytest.fixture
def put(store):
    """Stores a declared resource."""

    def put_one(kind, name, **body):
        made = resource(kind, name, **body)
        store.apply(kind, name, labels={}, spec=encode(made.spec))
        return made

    return put_one


@pytest.fixture
def model(store, put):
    return put("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": store.blobs.put_bytes(b"model")}])


def pairs(preview):
    return [(pair.model, pair.profile, pair.deployment) for pair in preview.pairs]


def device(store, name, profile, labels=None, artifact="", **status):
    store.apply("Device", name, labels=labels or {}, spec={"profile": profile}, status={"artifact": artifact, **status})


def test_a_changed_profile_shows_every_stored_deployment_that_selects_it(planner, put, model):
    put("DeviceProfile", "cam")
    put("DeviceProfile", "hub")
    put("Deployment", "all", model="vision")
    put("Deployment", "hubs", model="vision", selector={"profiles": ["hub"]})
    changed = resource("DeviceProfile", "cam", threads=2)
    assert pairs(planner.preview([changed], {})) == [("vision", "cam", "all")]
    changed = resource("DeviceProfile", "hub", threads=2)
    assert pairs(planner.preview([changed], {})) == [("vision", "hub", "all"), ("vision", "hub", "hubs")]


def test_without_deployments_each_model_is_planned_for_each_profile_of_the_documents(planner, store, put, model):
    put("DeviceProfile", "stored")
    documents = [model, resource("DeviceProfile", "cam"), resource("DeviceProfile", "hub")]
    assert pairs(planner.preview(documents, {})) == [("vision", "cam", ""), ("vision", "hub", "")]


def test_devices_are_those_the_deployment_selects(planner, store, put, model):
    put("DeviceProfile", "cam")
    for number, site in enumerate(["north", "north", "south"]):
        device(store, f"cam-{number}", "cam", {"site": site})
    device(store, "hub-1", "hub", {"site": "north"})
    selector = {"profiles": ["cam"], "labels": {"site": "north"}}
    (pair,) = planner.preview([resource("Deployment", "d", model="vision", selector=selector)], {}).pairs
    assert (pair.devices, pair.bytes_to_send, pair.cached) == (2, 2 * 50, False)


def test_what_a_rollout_meets_is_told_before_it_begins(planner, store, put, model):
    put("DeviceProfile", "cam", link={"bandwidth": "100bit", "metered": True})
    for number, p95 in enumerate([0.01, 0.02, 0.05]):
        device(store, f"cam-{number}", "cam", connected=number > 0, p95_seconds=p95)
    rollout = {"steps": ["50%", "100%"], "soak": "60s"}
    (pair,) = planner.preview([resource("Deployment", "d", model="vision", rollout=rollout)], {}).pairs
    assert (pair.devices, pair.away, pair.unfit) == (3, 1, 0)
    assert (pair.bytes_to_send, pair.metered_bytes) == (150, 150)
    assert pair.expected_seconds == 2 * (8 * 50 / 100 + 20 + 60)
    assert (pair.now_p95_seconds, pair.now_joules) == (0.02, None)
    said = plan_lines(PlanPreview(pairs=(pair,)))[2]
    assert said == (
        "  1 of them away; at most 150 B over metered links; about 2m48s until all have it; "
        "now p95 and energy of an inference: 20 ms"
    )


def test_what_exists_is_not_computed_and_goes_only_to_those_without_it(planner, store, engine, put, model):
    put("DeviceProfile", "cam")
    request = request_of(store, JobSpec("", "vision", "cam"))
    key = engine.key(request)
    result = engine.run(request)
    name = f"vision-cam-{key[:10]}"
    done = JobStatus("Succeeded", 1.0, artifact=result.artifact.name, finished_at=1.0)
    job, _ = store.apply("Job", name, labels={}, spec=encode(JobSpec(key, "vision", "cam")), status=encode(done))
    keep(store, job, Yield(result.outcome, result.artifact))
    device(store, "has-it", "cam", artifact=result.artifact.name)
    device(store, "needs-it", "cam")
    (pair,) = planner.preview([resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]})], {}).pairs
    assert (pair.devices, pair.cached, pair.bytes_to_send) == (2, True, result.artifact.download_bytes)
    assert pair.artifact == result.artifact.name


def test_devices_on_metered_links_wait_for_differences_that_are_worth_it(planner, store, engine, put, model):
    put("DeviceProfile", "cam", link={"metered": True, "bandwidth": "1Mbit", "update_rate": "100kbit"})
    before = made_for(store, engine, b"before" * 100)
    put("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": store.blobs.put_bytes(b"model 2")}])
    now = made_for(store, engine, b"now" * 100)
    device(store, "new", "cam")
    device(store, "runs", "cam", artifact=before.name, version=before.version)
    device(store, "odd", "cam", version="deadbeef0000")

    def planned(**rollout):
        wanted = resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]}, rollout=rollout)
        (pair,) = planner.preview([wanted], {}).pairs
        return pair

    by_default = planned()
    assert (by_default.held, by_default.metered_bytes) == (1, now.download_bytes + 7), "what the server lacks has no differences"
    assert by_default.expected_seconds > 8 * now.download_bytes / 100e3 / 3
    assert planned(metered="wait").held == 3
    whole = planned(metered="whole")
    assert (whole.held, whole.metered_bytes) == (0, 2 * now.download_bytes + 7)


def made_for(store, engine, data, previous=""):
    """A finished job of vision for cam whose artifact has this content."""
    engine.behaviour["cam"] = yields(data)
    request = request_of(store, JobSpec("", "vision", "cam"))
    key, result = engine.key(request), engine.run(request)
    done = JobStatus("Succeeded", 1.0, artifact=result.artifact.name, finished_at=1.0)
    spec = JobSpec(key, "vision", "cam", previous=previous)
    job, _ = store.apply("Job", f"vision-cam-{key[:10]}", labels={}, spec=encode(spec), status=encode(done))
    keep(store, job, Yield(result.outcome, result.artifact))
    return result.artifact


def test_an_update_is_told_beside_the_whole_artifact(planner, store, engine, put, model):
    put("DeviceProfile", "cam")
    wanted = resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]})
    (pair,) = planner.preview([wanted], {}).pairs
    assert (pair.download_bytes, pair.update_bytes, pair.previous) == (None, None, "")
    first = made_for(store, engine, b"first")
    (pair,) = planner.preview([wanted], {}).pairs
    assert (pair.download_bytes, pair.update_bytes, pair.previous) == (5, None, "")
    put("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": store.blobs.put_bytes(b"model 2")}])
    device(store, "cam-1", "cam", artifact=first.name)
    (pair,) = planner.preview([wanted], {}).pairs
    assert (pair.download_bytes, pair.update_bytes, pair.previous) == (None, None, first.name)
    assert f"an update from {first.name}; how large" in "\n".join(plan_lines(PlanPreview(pairs=(pair,))))
    made_for(store, engine, b"second", previous=first.sha256)
    (pair,) = planner.preview([wanted], {}).pairs
    assert (pair.download_bytes, pair.update_bytes, pair.previous) == (6, 7, first.name)
    (said,) = [line for line in plan_lines(PlanPreview(pairs=(pair,))) if "update" in line]
    assert f"a device is sent 7 B as an update from {first.name}, 6 B in full" in said


def test_what_keeping_scales_saved_is_told(planner, store, engine, put, model):
    put("DeviceProfile", "cam")
    first = made_for(store, engine, b"first")
    put("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": store.blobs.put_bytes(b"model 2")}])
    made_for(store, engine, b"second", previous=first.sha256)
    (job,) = [item for item in store.list("Job").records if item.spec.get("previous")]
    kept, fresh = (
        CandidateResult(
            (AppliedStep("q", "1", {"bits": 8, "of": of}),), state, measurement=Measurement("0" * 64, 9, 8, update_bytes=sent)
        )
        for of, state, sent in ((first.sha256, "chosen", 7), ("", "lost", 70))
    )
    outcome = Outcome("vision", "cam", "FEASIBLE", None, None, kept, (kept, fresh), Measurement())
    store.apply("Outcome", job.name, labels={}, spec=encode(outcome))
    (pair,) = planner.preview([resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]})], {}).pairs
    assert (pair.update_bytes, pair.fresh_update_bytes) == (7, 70)
    (said,) = [line for line in plan_lines(PlanPreview(pairs=(pair,))) if "update" in line]
    assert f"7 B as an update from {first.name} (70 B had its scales not been kept), 6 B in full" in said


def test_an_update_is_from_what_most_devices_run(planner, store, engine, put, model):
    put("DeviceProfile", "cam")
    first = made_for(store, engine, b"first")
    put("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": store.blobs.put_bytes(b"model 2")}])
    second = made_for(store, engine, b"second")
    for number, artifact in enumerate([first, first, second, second, second]):
        device(store, f"cam-{number}", "cam", artifact=artifact.name)
    (pair,) = planner.preview([resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]})], {}).pairs
    assert (pair.previous, pair.update_bytes) == (first.name, 7)


def test_a_preview_changes_nothing_and_names_must_be_somewhere(planner, store, put, model):
    before = store.revision()
    documents = [resource("DeviceProfile", "cam"), resource("Deployment", "d", model="vision", selector={"profiles": ["cam"]})]
    assert planner.preview(documents, {}).pairs
    with pytest.raises(MissingReference, match=r"spec\.recipe"):
        planner.preview([resource("Deployment", "d", model="vision", recipe="ghost")], {})
    assert store.revision() == before
