"""Every value comes back from the wire as it went; what arrives meets the checks that YAML meets."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_compress import wire
from edge_compress.api.v1 import agents_pb2, compression_pb2, deployments_pb2, models_pb2, profiles_pb2
from edge_compress.domain import artifact, fleet, job, overview, plan, resource, rollout, spec
from edge_compress.domain.schema import encode
from edge_compress.errors import InvalidSpec
from edge_compress.messages import from_message, to_message
from edge_compress.store.interface import ApplyOutcome, Change, Record

DIGEST = "0123456789abcdef" * 4

names = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
labels = st.dictionaries(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_/-]{0,9}[A-Za-z0-9])?", fullmatch=True), names, max_size=3)
positive = st.floats(1, 1e9, allow_nan=False)
free = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


metadata = st.builds(spec.Metadata, name=names, labels=labels)
profiles = st.builds(
    spec.DeviceProfile,
    metadata=metadata,
    spec=st.builds(
        spec.DeviceProfileSpec,
        runtime=names,
        memory=maybe(st.integers(1, 2**50)),
        storage=maybe(st.integers(1, 2**50)),
        precisions=st.lists(st.sampled_from(spec.PRECISIONS), min_size=1, unique=True).map(tuple),
        int8_dot_product=st.booleans(),
        power_budget=maybe(st.floats(1e-3, 1e6)),
        rate=maybe(st.floats(1e-3, 1e9)),
        latency_p95=maybe(st.floats(1e-6, 1e6)),
        threads=st.integers(1, 256),
        link=st.builds(spec.Link, bandwidth=maybe(positive), metered=st.booleans()),
        compute=st.builds(
            spec.Compute,
            fp32=maybe(positive),
            int8=maybe(positive),
            memory_bandwidth=maybe(positive),
            watts_per_core=maybe(st.floats(0, 1e3)),
        ),
    ),
)
models = st.builds(
    spec.Model,
    metadata=metadata,
    spec=st.builds(
        spec.ModelSpec,
        source=words.filter(bool),
        data=st.builds(
            spec.ModelData,
            calibration=words,
            evaluation=words,
            training=words,
            preprocess=st.builds(
                spec.Preprocess,
                layout=st.sampled_from(["", "NHWC", "NCHW"]),
                mean=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3).map(tuple),
                std=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3).map(tuple),
            ),
        ),
        quality=st.builds(spec.QualityGoal, metric=words, max_drop=st.floats(0, 1)),
        files=st.lists(
            st.builds(spec.FileRef, path=words.filter(bool), sha256=st.just(DIGEST), bytes=st.integers(0, 2**60)), max_size=3
        ).map(tuple),
    ),
)
recipes = st.builds(
    spec.Recipe,
    metadata=metadata,
    spec=st.builds(
        spec.RecipeSpec,
        steps=st.lists(
            st.builds(spec.RecipeStep, strategy=words.filter(bool), params=st.dictionaries(words, free, max_size=3)),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
)
shares = st.lists(st.floats(0.001, 0.999), unique=True, min_size=1, max_size=4).map(lambda rising: (*sorted(rising), 1.0))
deployments = st.builds(
    spec.Deployment,
    metadata=metadata,
    spec=st.builds(
        spec.DeploymentSpec,
        model=names,
        recipe=names,
        objective=st.sampled_from(spec.OBJECTIVES),
        selector=st.builds(spec.Selector, profiles=st.lists(names, max_size=3).map(tuple), labels=labels),
        rollout=st.builds(
            spec.RolloutPolicy,
            steps=shares,
            advance_at=st.floats(0, 1),
            abort_at=st.floats(0, 1),
            min_executed=st.integers(1, 2**31 - 1),
            soak=st.floats(0, 1e6),
            device_deadline=st.floats(1, 1e6),
            gates=st.lists(
                st.builds(
                    spec.Gate,
                    metric=st.sampled_from(("latency_p95", "a_plugins")),
                    max_increase=st.floats(0, 10),
                    require=st.sampled_from(["any", "measured"]),
                ),
                max_size=2,
            ).map(tuple),
        ),
    ),
)


@given(profiles | models | recipes | deployments)
def test_a_declared_resource_comes_back_equal(declared: spec.Resource) -> None:
    sent = wire.resource_to_wire(declared)
    received = type(sent).FromString(sent.SerializeToString())
    assert wire.resource_from_wire(received) == declared


def test_whole_numbers_in_parameters_come_back_whole() -> None:
    declared = spec.Recipe(spec.Metadata("r"), spec.RecipeSpec((spec.RecipeStep("s", {"bits": 8, "ratio": 0.5, "on": True}),)))
    back = wire.resource_from_wire(wire.resource_to_wire(declared))
    assert isinstance(back, spec.Recipe)
    assert {key: type(value) for key, value in back.spec.steps[0].params.items()} == {"bits": int, "ratio": float, "on": bool}


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60)])
def test_a_whole_number_that_would_change_on_the_way_is_refused(number: int) -> None:
    declared = spec.Recipe(spec.Metadata("r"), spec.RecipeSpec((spec.RecipeStep("s", {"deep": [{"seed": number}]}),)))
    with pytest.raises(InvalidSpec, match=r"spec\.steps\[0\]\.params\.deep\[0\]\.seed"):
        wire.resource_to_wire(declared)


def test_zero_is_not_taken_for_the_default() -> None:
    policy = spec.RolloutPolicy(steps=(0.1, 1.0), advance_at=0.0, abort_at=0.0, gates=(spec.Gate("latency_p95", 0.0),))
    declared = spec.Deployment(spec.Metadata("d"), spec.DeploymentSpec("m", rollout=policy))
    assert wire.resource_from_wire(wire.resource_to_wire(declared)) == declared
    strict = spec.Model(spec.Metadata("m"), spec.ModelSpec("m.onnx", quality=spec.QualityGoal(max_drop=0.0)))
    assert wire.resource_from_wire(wire.resource_to_wire(strict)) == strict


def test_what_a_message_leaves_unset_takes_the_default() -> None:
    message = profiles_pb2.Profile()
    message.metadata.name = "cam"
    assert wire.resource_from_wire(message) == spec.DeviceProfile(spec.Metadata("cam"))


def refused(message: Any) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        wire.resource_from_wire(message)
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "at"),
    [
        ("memory_bytes", 0, "spec.memory"),
        ("memory_bytes", -5, "spec.memory"),
        ("memory_bytes", 2**62, "spec.memory"),
        ("latency_p95_seconds", math.nan, "spec.latency_p95"),
        ("latency_p95_seconds", math.inf, "spec.latency_p95"),
        ("latency_p95_seconds", -1.0, "spec.latency_p95"),
        ("latency_p95_seconds", 1e300, "spec.latency_p95"),
        ("latency_p95_seconds", 0.0, "spec.latency_p95"),
        ("power_budget_watts", 1e30, "spec.power_budget"),
        ("threads", 257, "spec.threads"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(field: str, value: float, at: str) -> None:
    message = profiles_pb2.Profile()
    message.metadata.name = "cam"
    setattr(message.spec, field, value)
    assert refused(message).violations[0].field == at


def test_bad_names_labels_and_choices_are_refused() -> None:
    message = profiles_pb2.Profile()
    assert refused(message).violations[0].field == "metadata.name"
    message.metadata.name = "../etc"
    assert refused(message).violations[0].field == "metadata.name"
    message.metadata.name = "cam"
    message.metadata.labels["site"] = "a b"
    assert refused(message).violations[0].field == "metadata.labels.site"
    message.metadata.labels.clear()
    message.spec.precisions.extend(["int8", "int9"])
    assert "did you mean 'int8'" in str(refused(message))


def test_required_fields_are_required_on_the_wire_too() -> None:
    model = models_pb2.Model()
    model.metadata.name = "m"
    assert refused(model).violations[0].field == "spec.source"
    deployment = deployments_pb2.Deployment()
    deployment.metadata.name = "d"
    deployment.spec.model = "m"
    deployment.spec.rollout.gates.add(metric="latency_p95")
    assert refused(deployment).violations[0].field == "spec.rollout.gates[0].max_increase"
    recipe = compression_pb2.Recipe()
    recipe.metadata.name = "r"
    assert refused(recipe).violations[0].field == "spec.steps"


def record(kind: str, body: object, status: object = None) -> Record:
    return Record(kind, "thing", "uid-1", {"site": "plant-1"}, encode(body), encode(status) if status else {}, 3, 41, 1.5, 2.5)


MEASURED = artifact.Measurement(
    sha256=DIGEST,
    bytes=10,
    quality=artifact.Quality("top1", 0.9, 0.89, 0.01, 500, (0.87, 0.91)),
    latency=artifact.Latency(0.001, 0.002, ratio_to_float=0.7),
    energy=artifact.Energy(0.015, "estimate"),
)
SERVER_KINDS = [
    (
        "Job",
        job.JobSpec("k", "vision", "cam", objective="energy", previous=DIGEST),
        job.JobStatus("Running", 0.25, "quantize.static", started_at=9.5),
    ),
    (
        "Artifact",
        artifact.Artifact(
            "thing",
            "vision",
            "cam",
            DIGEST,
            10,
            8,
            "onnxruntime",
            artifact.GoldenVectors(DIGEST, 5, 4, 0.001, 0.0),
            (artifact.AppliedStep("quantize.static", "1", {"bits": 8}),),
            DIGEST[:12],
            MEASURED,
        ),
        None,
    ),
    (
        "Device",
        fleet.DeviceSpec("cam", {"site": "plant-1"}, "0.1.0", "1.32", "x86_64"),
        fleet.DeviceStatus("Committed", True, "boot", 7.5, p95_seconds=0.0, inferences=12),
    ),
    (
        "Rollout",
        rollout.RolloutSpec("vision", "vision", {"cam": "vision-0123"}),
        rollout.RolloutStatus("Progressing", 1, 0.1, "step 2 of 4", {"Committed": 3, "Waiting": 27}, 5.0),
    ),
]


@pytest.mark.parametrize(("kind", "body", "status"), SERVER_KINDS, ids=[row[0] for row in SERVER_KINDS])
def test_a_stored_record_comes_back_with_all_the_server_knows(kind: str, body: object, status: object) -> None:
    to_wire = {
        "Job": wire.job_to_wire,
        "Artifact": wire.artifact_to_wire,
        "Device": wire.device_to_wire,
        "Rollout": wire.rollout_to_wire,
    }[kind]
    message = to_wire(record(kind, body, status))
    back = wire.stored_from_wire(type(message).FromString(message.SerializeToString()))
    assert back == resource.Stored(
        kind, resource.ObjectMeta("thing", {"site": "plant-1"}, "uid-1", 3, 41, 1.5, 2.5), body, status
    )


def test_a_declared_record_carries_its_status() -> None:
    profile = spec.DeviceProfile(spec.Metadata("thing", {"site": "plant-1"}), spec.DeviceProfileSpec(memory=2**26))
    status = resource.ResourceStatus(3, (resource.Condition("Ready", "True", "Applied", "all is well", 4.5),))
    stored = record("DeviceProfile", profile.spec, status)
    message = wire.resource_to_wire(profile, stored)
    assert message == wire.record_to_wire(stored)
    assert wire.stored_from_wire(message).status == status
    assert wire.resource_from_wire(message) == profile


def test_an_energy_that_was_not_measured_stays_absent() -> None:
    message = wire.device_to_wire(record("Device", fleet.DeviceSpec("cam"), fleet.DeviceStatus()))
    assert not message.status.HasField("joules_per_inference")
    assert wire.stored_from_wire(message).status.joules_per_inference is None


def test_an_assignment_carries_the_artifact_whole() -> None:
    body = SERVER_KINDS[1][1]
    assert isinstance(body, artifact.Artifact)
    assert wire.artifact_spec_from_wire("thing", wire.artifact_spec_to_wire(body)) == body


def test_a_plan_tells_candidates_from_refusals() -> None:
    steps = (artifact.AppliedStep("quantize.static", "1", {"bits": 8}),)
    tried = wire.planned_candidate_to_wire(plan.Candidate(steps, plan.Prediction(100, 80, 0.01, None, None)))
    refused_one = wire.planned_candidate_to_wire(plan.Refusal(steps, "no int8 on this profile"))
    assert from_message(resource.PlannedCandidate, tried) == resource.PlannedCandidate(
        (resource.PlannedStep("quantize.static", {"bits": 8}),), "", 100, 80, 0.01
    )
    assert from_message(resource.PlannedCandidate, refused_one).refused == "no int8 on this profile"


def test_a_plan_tells_an_update_and_keeps_quiet_of_what_is_not_known() -> None:
    known = resource.PlannedPair("m", "p", download_bytes=9, update_bytes=0, previous="m-1", fresh_update_bytes=5)
    preview = resource.PlanPreview(pairs=(known, resource.PlannedPair("m", "q")))
    assert from_message(resource.PlanPreview, to_message(preview, compression_pb2.PlanResponse)) == preview


def test_the_fleet_at_a_glance_comes_back_equal() -> None:
    recent = overview.Figures(1.5, 0.25, 0.0, None, "")
    version = overview.VersionOverview("vision", "v1", 3, recent)
    profile = overview.ProfileOverview("cam", {"Committed": 3}, recent, (version,))
    rollout_ = overview.RolloutOverview("vision-1", "Paused", 2, 4, 0.5, "Fail", "why", {"Trial": 1})
    whole = overview.FleetOverview(60.0, (profile,), (rollout_,))
    assert from_message(overview.FleetOverview, to_message(whole, agents_pb2.FleetOverview)) == whole
    history = overview.DeviceHistory((overview.HistoryPoint(0.0), overview.HistoryPoint(60.0, 0.0, 0.5)))
    assert from_message(overview.DeviceHistory, to_message(history, agents_pb2.DeviceHistory)) == history


def test_enums_speak_the_stores_words() -> None:
    outcomes = [wire.outcome_from_wire(wire.outcome_to_wire(item)) for item in ApplyOutcome]
    assert outcomes == ["created", "configured", "unchanged"]
    assert [wire.change_from_wire(wire.change_to_wire(item)) for item in Change] == ["ADDED", "MODIFIED", "DELETED"]


def test_answers_about_plugins_come_back_equal() -> None:
    offer = resource.PluginOffer("strategy", "a.b", "Does it.", (resource.PluginParameter("bits", "int", "", "8", "how many"),))
    plugin = resource.Plugin("p", "dist", "1.0", "", (offer,))
    assert from_message(resource.Plugin, to_message(plugin, compression_pb2.Plugin)) == plugin


def test_a_field_without_a_place_on_the_wire_is_a_loud_mistake() -> None:
    @dataclasses.dataclass(frozen=True)
    class Stranger:
        shoe_size: int = 43

    with pytest.raises(TypeError, match="shoe_size"):
        to_message(Stranger(), compression_pb2.Job)
