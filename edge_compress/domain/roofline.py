"""What one float inference costs by the model's arithmetic and traffic: seconds on a declared device, and joules for comparison.

Latency is a roofline (Williams, Waterman, Patterson 2009): each layer takes the longer of its arithmetic and its memory traffic,
corrected by what kinds of layers reach of the arithmetic that dense convolutions do. The corrections were measured with
onnxruntime 1.32 on one x86 core: dense convolutions of ResNet-8, ResNet-20 and EfficientNet-Lite0 reach 30 to 38 GMAC/s, those
with under 64 multiplications an output 16 to 20, depthwise ones 6.5, and a matrix by a vector 3.6. They do not hold for
accelerators, nor where depthwise kernels are as good as dense ones.

Energy is that of 45 nm silicon (Horowitz, ISSCC 2014). It orders candidates; it is no figure of any device, and never reported.
"""

from __future__ import annotations

from edge_compress.domain.model import LayerFacts, ModelFacts
from edge_compress.domain.plan import Ratios
from edge_compress.domain.spec import DeviceProfileSpec

_DEPTHWISE = (4, 9, 25, 49)
"""multiplications an output of a convolution that sees one channel through a 2x2 to 7x7 window"""
_DEPTHWISE_SHARE, _THIN_SHARE, _ONCE_SHARE = 0.2, 0.6, 0.25
_THIN = 64
_JOULES_PER_MAC = 4.6e-12
"""a float32 multiplication (3.7 pJ) and an addition (0.9 pJ)"""
_JOULES_PER_BYTE = 160e-12
"""from DRAM: 1.3 nJ for 64 bits, the low end of what is given"""


def float_seconds(facts: ModelFacts, profile: DeviceProfileSpec) -> float | None:
    """Seconds of one float inference; None unless the profile declares its float arithmetic."""
    rate, bandwidth = profile.compute.fp32, profile.compute.memory_bandwidth
    if rate is None:
        return None
    seconds = 0.0
    for layer in facts.layers:
        arithmetic = 2 * layer.macs / (rate * profile.threads * _reached(layer, bandwidth is not None))
        traffic = _traffic(layer) / bandwidth if bandwidth else 0.0
        seconds += max(arithmetic, traffic)
    return seconds


def comparable_joules(facts: ModelFacts, expected: Ratios) -> float:
    """Joules of one inference, to compare candidates by: arithmetic falls with the time, traffic with the bytes."""
    weights = sum(layer.weight_bytes for layer in facts.layers)
    activations = sum(_traffic(layer) for layer in facts.layers) - weights
    moved = weights * expected.bytes + activations * expected.memory
    return facts.macs * expected.latency * _JOULES_PER_MAC + moved * _JOULES_PER_BYTE


def _reached(layer: LayerFacts, bandwidth_known: bool) -> float:
    """Share of the declared arithmetic that a layer of this kind reaches."""
    if not layer.macs:
        return 1.0
    if layer.weight_count >= layer.macs:  # each weight is used once; with a declared bandwidth the traffic says so
        return 1.0 if bandwidth_known else _ONCE_SHARE
    per_output = layer.macs / max(1.0, layer.activation_bytes / 4)
    if layer.op == "Conv" and per_output in _DEPTHWISE:
        return _DEPTHWISE_SHARE
    return _THIN_SHARE if per_output < _THIN else 1.0


def _traffic(layer: LayerFacts) -> int:
    return layer.weight_bytes + 2 * layer.activation_bytes
