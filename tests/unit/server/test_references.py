"""What resources name, who needs them, and applying and deleting them one at a time."""

import asyncio

import pytest

from edge_compress.domain import spec
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import parse_resource
from edge_compress.errors import Conflict, InUse, InvalidInput, InvalidSpec, NotFound
from edge_compress.plugin.registry import Registry
from edge_compress.server.declarations import Declarations, Terms
from edge_compress.server.references import check_plugins, check_uploaded, digests, users
from edge_compress.server.refusals import MissingReference
from edge_compress.store.interface import ApplyOutcome


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


@pytest.fixture
def declarations(store, registry):
    return Declarations(store, registry)


def resource(kind, name, **body):
    return parse_resource({"kind": kind, "metadata": {"name": name}, "spec": body})


PROFILE = resource("DeviceProfile", "cam")
MODEL = resource("Model", "vision", source="m.onnx", files=[{"path": "m.onnx", "sha256": "a" * 64}])
RECIPE = resource("Recipe", "int8", steps=[{"strategy": "quantize.static"}])
DEPLOYMENT = resource("Deployment", "vision", model="vision", recipe="int8", selector={"profiles": ["cam"]})


@pytest.mark.parametrize(
    ("bad", "field", "hint"),
    [
        (resource("DeviceProfile", "x", runtime="onnxruntme"), "spec.runtime", "onnxruntime"),
        (resource("Model", "x", source="m", quality={"metric": "topp1"}), "spec.quality.metric", "top1"),
        (resource("Recipe", "x", steps=[{"strategy": "quantise.static"}]), "spec.steps[0].strategy", "quantize.static"),
        (
            resource("Recipe", "x", steps=[{"strategy": "quantize.static", "params": {"bitz": 8}}]),
            "spec.steps[0].params.bitz",
            "bits",
        ),
        (
            resource("Recipe", "x", steps=[{"strategy": "quantize.static", "params": {"bits": "many"}}]),
            "spec.steps[0].params.bits",
            "whole number",
        ),
        (
            resource(
                "Deployment", "x", model="m", rollout={"steps": [0.1, 1], "gates": [{"metric": "latency", "max_increase": 0.1}]}
            ),
            "spec.rollout.gates[0].metric",
            "latency_p95",
        ),
    ],
)
def test_names_no_plugin_offers_are_refused_with_the_nearest(registry, bad, field, hint):
    with pytest.raises(InvalidSpec) as caught:
        check_plugins(bad, registry)
    assert caught.value.violations[0].field == field
    assert hint in caught.value.message


async def test_a_deployment_must_name_what_exists(declarations, store):
    with pytest.raises(MissingReference) as caught:
        await declarations.apply(DEPLOYMENT, Terms())
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["spec.model", "spec.recipe", "spec.selector.profiles[0]"]
    assert store.list("Deployment").records == ()


async def test_what_is_needed_cannot_be_deleted_until_it_is_not(declarations, store):
    for one in (PROFILE, MODEL, RECIPE, DEPLOYMENT):
        await declarations.apply(one, Terms())
    for kind, name in (("DeviceProfile", "cam"), ("Model", "vision"), ("Recipe", "int8")):
        with pytest.raises(InUse, match="deployment/vision"):
            await declarations.delete(kind, name)
    await declarations.delete("Deployment", "vision")
    store.apply("Device", "cam-01", labels={}, spec={"profile": "cam"})
    with pytest.raises(InUse, match="device/cam-01"):
        await declarations.delete("DeviceProfile", "cam")
    store.delete("Device", "cam-01")
    for kind, name in (("DeviceProfile", "cam"), ("Model", "vision"), ("Recipe", "int8")):
        await declarations.delete(kind, name)
        with pytest.raises(NotFound):
            await declarations.delete(kind, name)


def test_an_artifact_is_needed_by_devices_that_run_it_and_rollouts_that_deliver_it(store):
    store.apply("Device", "d", labels={}, spec={"profile": "cam"}, status={"artifact": "vision-a"})
    store.apply("Rollout", "r", labels={}, spec={"deployment": "v", "model": "v", "artifacts": {"cam": "vision-b"}})
    over = {"deployment": "v", "model": "v", "artifacts": {"cam": "vision-c"}}
    store.apply("Rollout", "old", labels={}, spec=over, status={"state": "Superseded"})
    others = {kind: store.list(kind).records for kind in ("Device", "Rollout")}
    assert users("Artifact", "vision-a", others) == ("device/d",)
    assert users("Artifact", "vision-b", others) == ("rollout/r",)
    assert users("Artifact", "vision-c", others) == ()


async def test_apply_is_idempotent_and_counts_generations(declarations):
    record, outcome = await declarations.apply(PROFILE, Terms())
    assert (outcome, record.generation, record.status["observed_generation"]) == (ApplyOutcome.CREATED, 1, 1)
    again, outcome = await declarations.apply(PROFILE, Terms())
    assert (outcome, again.revision) == (ApplyOutcome.UNCHANGED, record.revision)
    changed, outcome = await declarations.apply(resource("DeviceProfile", "cam", threads=2), Terms(expected_generation=1))
    assert (outcome, changed.generation, changed.status["observed_generation"]) == (ApplyOutcome.CONFIGURED, 2, 2)
    with pytest.raises(Conflict):
        await declarations.apply(resource("DeviceProfile", "cam", threads=3), Terms(expected_generation=1))


async def test_validate_only_says_what_would_happen_and_changes_nothing(declarations, store):
    terms = Terms(validate_only=True)
    assert (await declarations.apply(PROFILE, terms))[1] is ApplyOutcome.CREATED
    assert store.revision() == 0
    await declarations.apply(PROFILE, Terms())
    before = store.revision()
    assert (await declarations.apply(PROFILE, terms))[1] is ApplyOutcome.UNCHANGED
    would, outcome = await declarations.apply(resource("DeviceProfile", "cam", threads=2), terms)
    assert (outcome, would.generation) == (ApplyOutcome.CONFIGURED, 2)
    with pytest.raises(Conflict):
        await declarations.apply(PROFILE, Terms(expected_generation=7, validate_only=True))
    assert store.revision() == before


async def test_a_check_counts_what_will_be_applied_alongside_an_apply_does_not(declarations):
    alongside = frozenset({"Model/vision", "Recipe/int8", "DeviceProfile/cam"})
    assert (await declarations.apply(DEPLOYMENT, Terms(validate_only=True, alongside=alongside)))[1] is ApplyOutcome.CREATED
    with pytest.raises(MissingReference):
        await declarations.apply(DEPLOYMENT, Terms(validate_only=True, alongside=alongside - {"Recipe/int8"}))


async def test_of_two_who_expect_the_same_generation_one_wins(declarations):
    await declarations.apply(PROFILE, Terms())
    rivals = [resource("DeviceProfile", "cam", threads=threads) for threads in range(2, 10)]
    ended = await asyncio.gather(
        *(declarations.apply(one, Terms(expected_generation=1)) for one in rivals), return_exceptions=True
    )
    won = [one for one in ended if not isinstance(one, Exception)]
    assert len(won) == 1
    assert all(isinstance(one, Conflict) for one in ended if isinstance(one, Exception))


async def test_deleting_races_with_naming_and_one_of_them_is_refused(declarations, store):
    for one in (PROFILE, MODEL, RECIPE):
        await declarations.apply(one, Terms())
    named, deleted = await asyncio.gather(
        declarations.apply(DEPLOYMENT, Terms()), declarations.delete("DeviceProfile", "cam"), return_exceptions=True
    )
    assert isinstance(named, MissingReference) != isinstance(deleted, InUse)


def test_terms_below_zero_are_refused():
    class Request:
        expected_generation, validate_only = -1, False

    with pytest.raises(InvalidInput, match="expected_generation"):
        Terms.of(Request())


def test_a_models_files_must_be_declared_and_uploaded():
    undeclared = spec.Model(spec.Metadata("m"), spec.ModelSpec("m.onnx"))
    with pytest.raises(InvalidSpec, match=r"spec\.files"):
        check_uploaded(undeclared, lambda sha256: True)
    with pytest.raises(MissingReference, match=r"m\.onnx") as caught:
        check_uploaded(MODEL, lambda sha256: False)
    assert caught.value.violations[0].field == "spec.source"
    check_uploaded(MODEL, lambda sha256: True)


def test_digests_are_what_records_need():
    assert digests("Model", encode(MODEL.spec)) == {"a" * 64}
    assert digests("Artifact", {"sha256": "b" * 64, "golden": {"sha256": "c" * 64}}) == {"b" * 64, "c" * 64}
    assert digests("Recipe", encode(RECIPE.spec)) == frozenset()
