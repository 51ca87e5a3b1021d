"""NNCF's post-training quantisation of one ONNX file; runs in NNCF's own environment: ``python nncf_peer.py MODEL SAMPLES OUT``.

SAMPLES is an ``.npz`` with the array ``x``, samples first, preprocessed. NNCF writes per-channel scales as QuantizeLinear with an
``axis`` and its activations may be per channel for depthwise layers: onnxruntime takes the file only from opset 18 on and with
per-tensor activations, so that is what it is asked for. Everything else is NNCF's default.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

OPSET = 18


def quantised(model: onnx.ModelProto, samples: np.ndarray) -> onnx.ModelProto:
    """``model`` in int8, calibrated on every sample."""
    if next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    name = model.graph.input[0].name
    advanced = AdvancedQuantizationParameters(activations_quantization_params=QuantizationParameters(per_channel=False))
    dataset = nncf.Dataset([sample[None] for sample in samples], lambda sample: {name: sample})
    return nncf.quantize(model, dataset, subset_size=len(samples), advanced_parameters=advanced)


def main() -> None:
    """Read, quantise, write."""
    source, data, out = (Path(item) for item in sys.argv[1:4])
    with np.load(data) as arrays:
        samples = arrays["x"]
    onnx.save(quantised(onnx.load(source), samples), out)


if __name__ == "__main__":
    main()
