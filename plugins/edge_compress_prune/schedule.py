"""When weights go and how long what is left is trained: parameters that every pruning strategy with training shares.

At once; in equal steps; or fast first and slower towards the end, the cubic schedule ("automated gradual pruning") of Zhu and
Gupta 2017 (arXiv:1710.01878).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_compress.plugin import param

_LAST_SHARE = 0.6
"""share of the epochs that the last of several rounds gets"""


@dataclass(frozen=True)
class Schedule:
    """How the cut is spread over the training."""

    kind: str = param(
        "cut at once, in equal steps, or by the cubic schedule", default="one-shot", choices=("one-shot", "iterative", "agp")
    )
    rounds: int = param(
        "steps of the iterative and the cubic schedule, with training after each",
        default=3, minimum=1, maximum=20, unit="rounds",
    )  # fmt: skip
    epochs: float | None = param(
        "passes over the training samples after the cuts, all together; absent: as many as the step's time allows, from 1 to 200",
        default=None, minimum=0.0, maximum=1000.0, unit="epochs",
    )  # fmt: skip

    def targets(self, left: float) -> list[float]:
        """The share that is left after each round, where ``left`` (0 to 1) is to be left in the end."""
        if self.kind == "one-shot":
            return [left]
        parts = [(index + 1) / self.rounds for index in range(self.rounds)]
        return [1.0 - (1.0 - left) * (part if self.kind == "iterative" else 1.0 - (1.0 - part) ** 3) for part in parts]

    def spans(self, epochs: float) -> list[float]:
        """Of so many epochs those of each round: most for the last."""
        count = 1 if self.kind == "one-shot" else self.rounds
        if count == 1:
            return [epochs]
        return [epochs * (1 - _LAST_SHARE) / (count - 1)] * (count - 1) + [epochs * _LAST_SHARE]
