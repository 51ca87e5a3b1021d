"""What a gate metric is: canaries beside their control group, and whether they are worse."""

from __future__ import annotations

import abc
from typing import ClassVar

from edge_compress.domain.gates import Finding, Window
from edge_compress.domain.spec import Gate


class GateMetric(abc.ABC):
    """Base of every gate metric. It is asked again and again while a step of a rollout soaks, so that its error must hold
    however often it is asked: ``means`` and ``share_bounds`` are made for that."""

    name: ClassVar[str]
    """as a fleet file's ``gates[].metric`` says it"""

    @abc.abstractmethod
    def judge(self, gate: Gate, canary: Window, control: Window) -> Finding:
        """What is found of one profile; ``gate`` has the increase that is allowed. Too little data is INCONCLUSIVE, never PASS.
        Quick, without side effects; whatever it raises counts as INCONCLUSIVE."""
