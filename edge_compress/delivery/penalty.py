"""How long a device that failed an update waits before it is offered another one: longer after each failure in a row. Pure."""

from __future__ import annotations

from edge_compress.domain.fleet import DeviceStatus

FIRST_SECONDS, MOST_SECONDS = 60.0, 6 * 3600.0
"""after the first failure, and at most; twice as long after each further one"""


def penalty_until(status: DeviceStatus) -> float:
    """Seconds since the epoch before which the device is offered nothing new; 0: it did not fail since it last succeeded."""
    if not status.failures:
        return 0.0
    return status.failed_at + min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(status.failures - 1, 32))
