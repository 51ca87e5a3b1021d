"""How a child says what went wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_compress.worker.child import _describe


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**58), lambda: np.empty(2**58)], ids=["torch", "numpy"])
def test_memory_that_is_refused_is_named_as_that_whoever_refuses_it(ask):
    with pytest.raises((RuntimeError, MemoryError)) as refused:
        ask()
    described = _describe(refused.value)
    assert described["class"] == "MemoryError"
    assert "allocate" in described["message"]
    assert "\n" not in described["message"]


def test_other_errors_keep_their_name():
    assert _describe(RuntimeError("two rules for Conv\nmore"))["message"] == "RuntimeError: two rules for Conv"
