"""The agent's own door between its values and the wire: agents and artifacts only.

Not ``edge_compress.wire``: that one loads every message of the product, which a device would pay for in memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from edge_compress.agent.machine import Assignment, Position
from edge_compress.agent.report import BOUNDS, Subject, Totals
from edge_compress.api.v1 import agents_pb2, artifacts_pb2
from edge_compress.domain.fleet import DeviceFacts


def hello(position: Position, texts: Mapping[str, str], labels: Mapping[str, str], has: DeviceFacts) -> agents_pb2.AgentMessage:
    """The first message of a session. ``texts`` are Hello's plain text fields: device, profile, boot_id, versions, machine."""
    message = agents_pb2.Hello(
        device=texts["device"],
        profile=texts["profile"],
        boot_id=texts["boot_id"],
        agent_version=texts["agent_version"],
        runtime_version=texts["runtime_version"],
        machine=texts["machine"],
        labels=dict(labels),
        facts=agents_pb2.DeviceFacts(**asdict(has)),
        current_sha256=position.serving.sha256 if position.serving else "",
        assignment=position.assignment.id if position.assignment else "",
        state=position.state.value,
    )
    return agents_pb2.AgentMessage(hello=message)


def heartbeat(resident_bytes: int) -> agents_pb2.AgentMessage:
    """The agent is alive."""
    return agents_pb2.AgentMessage(heartbeat=agents_pb2.Heartbeat(resident_bytes=resident_bytes))


def move(position: Position) -> agents_pb2.AgentMessage | None:
    """Where the agent stands with its assignment; None when it never had one."""
    if position.assignment is None:
        return None
    message = agents_pb2.Move(
        assignment=position.assignment.id,
        state=position.state.value,
        message=position.message,
        current_sha256=position.serving.sha256 if position.serving and position.settled else "",
        p95_seconds=position.p95_seconds,
        peak_memory_bytes=position.peak_memory_bytes,
        waits=position.waits,
        bad_differences=position.bad_differences,
    )
    return agents_pb2.AgentMessage(move=message)


def assignment(message: agents_pb2.Assignment) -> Assignment:
    """The value of an assignment. Raises InvalidSpec for one that no device could carry out."""
    first = _candidate(message, message.artifact, message.spec)
    return replace(first, fallbacks=tuple(_candidate(message, one.artifact, one.spec) for one in message.fallbacks))


def _candidate(message: agents_pb2.Assignment, artifact: str, spec: artifacts_pb2.ArtifactSpec) -> Assignment:
    """The assignment of one of its artifacts."""
    return Assignment(
        id=message.id,
        artifact=artifact,
        model=spec.model,
        sha256=spec.sha256,
        bytes=spec.size_bytes,
        golden_sha256=spec.golden.sha256,
        golden_bytes=spec.golden.size_bytes,
        golden_samples=spec.golden.samples,
        rtol=spec.golden.rtol,
        atol=spec.golden.atol,
        version=spec.version or spec.sha256[:12],
        runtime=spec.runtime,
        file_name=spec.file_name or "model.onnx",
        deployment=message.deployment,
        rollout=message.rollout,
        latency_p95_seconds=message.latency_p95_seconds if message.HasField("latency_p95_seconds") else None,
        memory_bytes=message.memory_bytes if message.HasField("memory_bytes") else None,
        threads=message.threads or 1,
        self_test_per_second=max(0.0, message.self_test_per_second),
        cohort=message.cohort,
        expected_memory_bytes=_expected_memory(spec.expected_json),
        differences_only=message.differences_only,
        bytes_per_second=message.bytes_per_second,
    )


def _expected_memory(text: str) -> int | None:
    """Peak memory in a measurement's JSON; None where nothing that makes sense is said."""
    try:
        value = json.loads(text)["peak_memory_bytes"]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and value >= 0 else None


def reports(sequence: int, totals: Mapping[Subject, Totals]) -> agents_pb2.AgentMessage:
    """A batch of running totals."""
    now = time.time()
    batch = agents_pb2.ReportBatch(sequence=sequence, reports=[_report(*item, now) for item in totals.items()])
    return agents_pb2.AgentMessage(reports=batch)


def _report(subject: Subject, totals: Totals, now: float) -> agents_pb2.UsageReport:
    energy = []
    for meter, joules in totals.energy.items():
        source, _, scope = meter.partition("/")
        energy.append(agents_pb2.EnergyReport(source=source, scope=scope, joules=joules))
    return agents_pb2.UsageReport(
        boot_id=subject.boot_id,
        model=subject.model,
        version=subject.version,
        cohort=subject.cohort,
        inferences=dict(totals.inferences),
        bucket_bounds=BOUNDS,
        bucket_counts=totals.bucket_counts,
        duration_sum=totals.duration_sum,
        energy=energy,
        peak_memory_bytes=totals.peak_memory_bytes,
        reported_at=now,
    )
