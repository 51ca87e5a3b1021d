"""Waiting for a step that somebody else computes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from edge_compress.worker.steps import Run, StepRunner


class EndsWhileWeLook(Future[Mapping[str, Any]]):
    """A future whose result comes between the end of a wait for it and the question whether it is done."""

    def result(self, timeout: float | None = None) -> Mapping[str, Any]:
        if timeout is not None and not self.done():
            self.set_result({"value": 1})
            raise TimeoutError
        return super().result(timeout)


def test_a_step_that_ends_as_a_wait_for_it_runs_out_gives_its_result() -> None:
    assert StepRunner._await(EndsWhileWeLook(), Run(threading.Event())) == {"value": 1}
