"""How much training fits a time: by the speed that the step's limits tell, else by a nominal one, which depends on the kind of
processor alone. Never by a clock of its own: the same inputs, time and speed then give the same weights.

Measuring the speed is left to ``rehearsal``. ``training`` keeps to the clock where the machine is slower than it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

_PLAIN = 2e10
_VECTOR_512 = 2.8e10
_BFLOAT16 = 4e10
"""multiply-accumulates of training (forward and backward) a second and thread that small convolutional networks reach: measured
on one core of three kinds, rounded down"""
_BACKWARD = 2.0
"""what a backward pass costs beside a forward one"""
_FOR_TRAINING = 0.85
"""share of a step's time that training gets; the rest is for what comes before and after"""
_MOST = 200.0
_FOR_ACTIVATIONS = 0.4
"""share of a step's memory for what training keeps of a batch; the rest is for torch, weights, gradients and the teacher"""
_KEPT_TWICE = 2
"""gradients are as large as what they are of"""
_HELD_BYTES = 128 * 2**20
"""calibration samples that are kept in memory take so much at most"""
_FEWEST_HELD = 16


class Time(Protocol):
    """What ``Limits`` tells of a step's time."""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole step."""

    @property
    def threads(self) -> int:
        """Threads to compute with."""

    @property
    def pace(self) -> float:
        """Multiply-accumulates of training a second and thread; 0: not measured."""


def bfloat16_here() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it only imitates it, float32 is faster."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def nominal_speed() -> float:
    """Multiply-accumulates a second and thread that training is planned with on this kind of processor."""
    if bfloat16_here():
        return _BFLOAT16
    return _VECTOR_512 if torch.backends.cpu.get_cpu_capability() == "AVX512" else _PLAIN


def macs_within(time: Time, share: float = 1.0) -> float:
    """Multiply-accumulates of training that fit a share of a step."""
    return share * time.seconds * (time.pace or nominal_speed()) * max(1, time.threads)


def epochs_within(time: Time, samples: int, *, student_macs: float, teacher_macs: float, share: float = 1.0) -> float:
    """Passes over ``samples`` that fit a share of a step, from 1 to 200. Costs are multiply-accumulates of one sample forward."""
    one = max(1.0, samples * (teacher_macs + (1 + _BACKWARD) * student_macs))
    return round(min(_MOST, max(1.0, macs_within(time, share * _FOR_TRAINING) / one)), 1)


def batch_within(memory_bytes: int, wanted: int, module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The largest batch up to ``wanted`` whose training fits ``memory_bytes`` of a step, from 4. ``inputs``: a few samples."""
    one = _KEPT_TWICE * _activation_bytes(module, inputs) / max(1, len(inputs[0]))
    return max(min(4, wanted), min(wanted, int(memory_bytes * _FOR_ACTIVATIONS / max(1.0, one))))


def samples_within(inputs: Mapping[str, Any], wanted: int) -> int:
    """How many samples up to ``wanted`` may be kept in memory at once, from 16. ``inputs``: arrays of a few of them by name."""
    one = sum(item.nbytes for item in inputs.values()) / max(1, len(next(iter(inputs.values()))))
    return min(wanted, max(_FEWEST_HELD, int(_HELD_BYTES / max(1.0, one))))


def _activation_bytes(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Bytes of everything that the innermost parts of a module give."""
    total = 0

    def listen(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    hooks = [part.register_forward_hook(listen) for part in module.modules() if not list(part.children())]
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total
