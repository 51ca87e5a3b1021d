"""Messages of an agent's session as values, and back. Hand-written, because reports arrive by the hundred."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from edge_compress import wire
from edge_compress.api.v1 import agents_pb2
from edge_compress.delivery.sessions import Acknowledged, Welcome
from edge_compress.domain.fleet import DeviceFacts
from edge_compress.domain.session import Assignment, EnergyReading, Hello, Move, UsageReport
from edge_compress.errors import InvalidInput

MOST_REPORTS = 1000
"""in one batch"""


def hello_from_wire(message: agents_pb2.Hello) -> Hello:
    """Raises InvalidInput naming the field."""
    return Hello(
        device=message.device,
        profile=message.profile,
        boot_id=message.boot_id,
        labels=dict(message.labels),
        agent_version=message.agent_version,
        runtime_version=message.runtime_version,
        machine=message.machine,
        current_sha256=message.current_sha256,
        assignment=message.assignment,
        state=message.state,
        facts=_facts(message.facts),
    )


def move_from_wire(message: agents_pb2.Move) -> Move:
    """Raises InvalidInput naming the field."""
    return Move(
        assignment=message.assignment,
        state=message.state,
        message=message.message,
        current_sha256=message.current_sha256,
        p95_seconds=message.p95_seconds if message.HasField("p95_seconds") else None,
        peak_memory_bytes=message.peak_memory_bytes if message.HasField("peak_memory_bytes") else None,
        waits=message.waits,
        bad_differences=message.bad_differences,
    )


def reports_from_wire(
    messages: Iterable[agents_pb2.UsageReport], refused: Callable[[InvalidInput], None]
) -> Iterator[UsageReport]:
    """The reports of a batch that make sense; ``refused`` hears of each that does not."""
    for index, message in enumerate(messages):
        try:
            if index >= MOST_REPORTS:
                raise InvalidInput.at("reports", f"report {index + 1}", f"at most {MOST_REPORTS} in a batch")
            yield _report(message)
        except InvalidInput as error:
            refused(error)


class ServerMessages:
    """What sessions send. An assignment is one object for every device of its profile, and there may be thousands of them: its
    message is made once and kept, at most ``most`` of them."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._made: OrderedDict[int, tuple[Assignment, agents_pb2.ServerMessage]] = OrderedDict()

    def message(self, said: Assignment | Acknowledged) -> agents_pb2.ServerMessage:
        """On the wire. Nobody may change it."""
        if isinstance(said, Acknowledged):
            return agents_pb2.ServerMessage(ack=agents_pb2.ReportAck(sequence=said.sequence))
        kept = self._made.get(id(said))  # no other has this identity while it is kept
        if kept is None:
            kept = self._made[id(said)] = said, agents_pb2.ServerMessage(assignment=_assignment(said))
            if len(self._made) > self._most:
                self._made.popitem(last=False)
        return kept[1]


def welcome_to_wire(welcome: Welcome) -> agents_pb2.ServerMessage:
    """The first message to an agent."""
    message = agents_pb2.Welcome(
        heartbeat_seconds=welcome.heartbeat_seconds,
        report_seconds=welcome.report_seconds,
        watts_per_core=welcome.watts_per_core,
        server_time=welcome.server_time,
    )
    return agents_pb2.ServerMessage(welcome=message)


def _facts(message: agents_pb2.DeviceFacts) -> DeviceFacts:
    return DeviceFacts(
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        storage_bytes=message.storage_bytes,
        int8_dot_product=message.int8_dot_product if message.HasField("int8_dot_product") else None,
        runtimes=tuple(message.runtimes),
    )


def _report(message: agents_pb2.UsageReport) -> UsageReport:
    return UsageReport(
        boot_id=message.boot_id,
        model=message.model,
        version=message.version,
        cohort=message.cohort,
        inferences=dict(message.inferences),
        bucket_bounds=tuple(message.bucket_bounds),
        bucket_counts=tuple(message.bucket_counts),
        duration_sum=message.duration_sum,
        energy=tuple(EnergyReading(reading.source, reading.scope, reading.joules) for reading in message.energy),
        peak_memory_bytes=message.peak_memory_bytes if message.HasField("peak_memory_bytes") else None,
        reported_at=message.reported_at,
    )


def _assignment(value: Assignment) -> agents_pb2.Assignment:
    return agents_pb2.Assignment(
        id=value.id,
        deployment=value.deployment,
        rollout=value.rollout,
        artifact=value.artifact.name,
        spec=wire.artifact_spec_to_wire(value.artifact),
        latency_p95_seconds=value.latency_p95_seconds,
        memory_bytes=value.memory_bytes,
        threads=value.threads,
        self_test_per_second=value.self_test_per_second,
        cohort=value.cohort,
        fallbacks=[agents_pb2.Fallback(artifact=one.name, spec=wire.artifact_spec_to_wire(one)) for one in value.fallbacks],
        differences_only=value.differences_only,
        bytes_per_second=value.bytes_per_second,
    )
