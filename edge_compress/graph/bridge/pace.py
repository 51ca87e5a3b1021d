"""How much training fits a time, by a nominal speed: the same inputs and time then give the same weights.

The speed depends on the kind of processor alone, never on a clock. ``training`` keeps to the clock where the machine is slower.
"""

from __future__ import annotations

import torch

_PLAIN = 2e10
_VECTOR_512 = 2.8e10
_BFLOAT16 = 4e10
"""multiply-accumulates of training (forward and backward) a second and thread that small convolutional networks reach: measured
on one core of three kinds, rounded down"""
_BACKWARD = 2.0
"""what a backward pass costs beside a forward one"""
_FOR_TRAINING = 0.8
"""share of a step's time that training gets; the rest is for what comes before and after"""
_MOST = 200.0


def bfloat16_here() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it only imitates it, float32 is faster."""
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def nominal_speed() -> float:
    """Multiply-accumulates a second and thread that training is planned with on this kind of processor."""
    if bfloat16_here():
        return _BFLOAT16
    return _VECTOR_512 if torch.backends.cpu.get_cpu_capability() == "AVX512" else _PLAIN


def epochs_within(seconds: float, threads: int, samples: int, *, student_macs: float, teacher_macs: float) -> float:
    """Passes over ``samples`` that fit a step of ``seconds`` on ``threads``, from 1 to 200. Costs are multiply-accumulates of one
    sample forward."""
    one = max(1.0, samples * (teacher_macs + (1 + _BACKWARD) * student_macs))
    return round(min(_MOST, max(1.0, seconds * _FOR_TRAINING * nominal_speed() * max(1, threads) / one)), 1)
