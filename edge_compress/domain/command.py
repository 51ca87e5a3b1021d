"""What people may tell a rollout to do, and what becomes of it: pause, resume, promote, abort, undo. Pure.

What follows from the new status is decided in ``rollout`` and done by the server.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from edge_compress.domain.rollout import RolloutSpec, RolloutState, RolloutStatus, begun, check_move
from edge_compress.domain.spec import RolloutPolicy
from edge_compress.errors import Conflict


class Command(enum.StrEnum):
    """See ``commanded``."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    UNDO = "undo"


_UNDER_WAY = (RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED)
_LEADS_TO = {
    Command.PAUSE: RolloutState.PAUSED,
    Command.RESUME: RolloutState.PROGRESSING,
    Command.ABORT: RolloutState.ABORTED,
    Command.UNDO: RolloutState.ABORTED,
}


def commanded(
    command: Command,
    policy: RolloutPolicy,
    spec: RolloutSpec,
    status: RolloutStatus,
    now: float,
    reason: str = "",
    step: int | None = None,
) -> RolloutStatus:
    """The status that a command leads to; a repeat changes nothing (of a promotion, where its ``step`` is given). Raises
    Conflict, in words, where it makes no sense.

    - pause: no further device gets it; those that have it go on, and too many failures still abort it.
    - resume: goes on where it was paused.
    - promote: the current step counts as good without soaking; a paused rollout goes on.
    - abort: ends it; devices that have it go back to the last version that reached everybody.
    - undo: the same for one that is completed, too; refused where there is nothing to go back to.
    """
    state = RolloutState(status.state)
    if command is Command.PAUSE and status.waits_for_gates:
        return replace(status, held=reason or "by hand", waits_for_gates=False)  # it no longer goes on by itself
    if _LEADS_TO.get(command) is state or (step is not None and command is Command.PROMOTE and status.step > step):
        return status
    if command is Command.UNDO and not spec.base:
        raise Conflict("there is nothing to go back to: no earlier rollout of this deployment reached every device")
    if state not in _UNDER_WAY and not (command is Command.UNDO and state is RolloutState.COMPLETED):
        raise Conflict(f"it is {state.value} already: there is nothing to {command.value}")
    new = _moved(command, policy, spec, status, now, reason or "by hand")
    if RolloutState(new.state) is not state:
        check_move(state, RolloutState(new.state))
    return new


def _moved(
    command: Command, policy: RolloutPolicy, spec: RolloutSpec, status: RolloutStatus, now: float, reason: str
) -> RolloutStatus:
    if command is Command.PAUSE:
        return replace(status, state=RolloutState.PAUSED.value, held=reason, message=f"paused: {reason}")
    if command is Command.RESUME:
        if status.state != RolloutState.PAUSED:
            raise Conflict(f"it is {status.state}, not Paused")
        return replace(status, state=RolloutState.PROGRESSING.value, held="", waits_for_gates=False, message="resumed")
    if command is Command.PROMOTE:
        return _promoted(policy, status, now)
    back = f"devices go back to {spec.base_rollout}" if spec.base else "devices keep what they run, for nothing came before"
    said = "undone" if command is Command.UNDO else "aborted"
    ended = replace(status, state=RolloutState.ABORTED.value, held="", waits_for_gates=False, completed=False)
    return replace(ended, message=f"{said}: {reason}; {back}")


def _promoted(policy: RolloutPolicy, status: RolloutStatus, now: float) -> RolloutStatus:
    going = replace(status, state=RolloutState.PROGRESSING.value, held="", waits_for_gates=False)
    if status.step + 1 >= len(policy.steps):
        return replace(going, promoted=True, message="promoted: the last step needs no soak")
    return replace(begun(policy, going, status.step + 1, now), message=f"promoted to step {status.step + 2}")
