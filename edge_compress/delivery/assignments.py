"""What a device is asked to run, and where it stands with that. Pure.

An assignment's id ends with a digest of its terms: the artifact and the limits it is held to. A device that already runs an
artifact on the same terms, from an earlier rollout, is good at once and is sent nothing. Who is asked when is ``rollouts``'s
business.
"""

from __future__ import annotations

import hashlib
import json

from edge_compress.domain.artifact import Artifact
from edge_compress.domain.fleet import DeviceState, DeviceStatus
from edge_compress.domain.rollout import RolloutSpec
from edge_compress.domain.session import Assignment
from edge_compress.domain.spec import DeviceProfileSpec

SELF_TEST_PER_SECOND = 2.0
"""inferences a second that a device runs for measurement where its profile says no rate"""
_MOST_SELF_TESTS = 5.0
_DONE_TRYING = frozenset({DeviceState.ROLLING_BACK, DeviceState.ROLLED_BACK})


def assignment_for(
    rollout: str, spec: RolloutSpec, artifact: Artifact, profile: DeviceProfileSpec, fallbacks: tuple[Artifact, ...] = ()
) -> Assignment:
    """The assignment of ``artifact``, or else one of ``fallbacks``, to a device of ``profile`` by ``rollout``. Fallbacks are no
    term: a device that runs the artifact needs none."""
    self_test = SELF_TEST_PER_SECOND if profile.rate is None else min(profile.rate, _MOST_SELF_TESTS)
    terms = [spec.model, artifact.sha256, artifact.golden.sha256, profile.latency_p95, profile.memory, profile.threads, self_test]
    digest = hashlib.sha256(json.dumps(terms).encode()).hexdigest()[:12]
    return Assignment(
        id=f"{rollout}.{digest}",
        deployment=spec.deployment,
        rollout=rollout,
        artifact=artifact,
        latency_p95_seconds=profile.latency_p95,
        memory_bytes=profile.memory,
        threads=profile.threads,
        self_test_per_second=self_test,
        fallbacks=fallbacks,
    )


def standing(status: DeviceStatus, wanted: Assignment) -> DeviceState | None:
    """Where a device stands with ``wanted``; Idle when it was offered and said nothing of it yet, None when not offered."""
    state = DeviceState(status.state)
    if status.assignment == wanted.id:
        return state
    if state is DeviceState.COMMITTED and _terms(status.assignment) == _terms(wanted.id):
        return DeviceState.COMMITTED
    return DeviceState.IDLE if status.offered == wanted.id else None


def must_be_sent(status: DeviceStatus, current_sha256: str, wanted: Assignment) -> bool:
    """Whether a device that runs ``current_sha256`` has to be told of ``wanted``.

    Not when it runs that on these terms, and not when it tried and failed: telling it again would only make it fail again.
    """
    state = standing(status, wanted)
    if state is DeviceState.COMMITTED:
        return not wanted.may_run(current_sha256)
    return state not in _DONE_TRYING


def _terms(assignment: str) -> str:
    return assignment.rpartition(".")[2]
