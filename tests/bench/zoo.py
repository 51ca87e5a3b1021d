"""Trains the zoo's networks once, minutes of one core each, and hands them out as cases: ``python -m tests.bench.zoo [NAME]``.

They are made to be unlike each other as files, too: exported by dynamo with and without a free batch, and by the old exporter
with its BatchNormalization nodes kept. Accuracy need not be great, only real. Kept in build/zoo/.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.cases import CALIBRATED, ROOT, Case, Labelled, Preprocess, cifar
from tests.bench.zoo_tones import tones

KEPT = ROOT / "build" / "zoo"
BATCH = 64
COLOURS = Preprocess((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), to_nchw=True)
AS_IS = Preprocess()


@dataclass(frozen=True)
class Member:
    """One network: how it is built by ``zoo_networks`` and exported, its learning rate, and seconds of processor to train for."""

    build: str
    rate: float
    seconds: float
    export: str
    images: bool = True

    def data(self) -> tuple[Labelled, Labelled]:
        """Training and test samples."""
        return cifar() if self.images else (tones(8000, 1), tones(4000, 2))


MEMBERS = {
    "mobilenet": Member("mobilenet", 0.1, 180, "dynamo"),
    "squeezenet": Member("squeezenet", 0.02, 60, "dynamo, fixed batch"),
    "transformer": Member("ConvTransformer", 0.03, 100, "dynamo"),
    "audio": Member("audio", 0.1, 25, "old, BatchNorm kept", images=False),
}


def cases(only: str = "") -> Iterator[Case]:
    """Every member whose name contains ``only``; those never trained are trained now."""
    for name, member in MEMBERS.items():
        if only not in name:
            continue
        path = KEPT / f"{name}.onnx"
        if not path.exists():
            train(name, member, path)
        training, test = member.data()
        preprocess = COLOURS if member.images else AS_IS
        yield Case(name, path, preprocess, training.samples[:CALIBRATED], test.every(0, 2), test.every(1, 2), training)


def train(name: str, member: Member, path: Path) -> None:
    """Train with one thread and write the ONNX file."""
    import torch

    from tests.bench import zoo_networks

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = getattr(zoo_networks, member.build)()
    preprocess = COLOURS if member.images else AS_IS
    training, test = member.data()
    inputs, labels = torch.from_numpy(preprocess(training.samples)), torch.from_numpy(training.labels)
    print(f"{name}: training for {member.seconds:.0f} s", flush=True)
    epochs = fit(network, inputs, labels, member)
    network.eval()
    with torch.no_grad():
        judged = torch.from_numpy(preprocess(test.samples[::4]))
        right = (network(judged).argmax(1).numpy() == test.labels[::4]).mean()
    print(f"{name}: {100 * right:.1f} % after {epochs:.1f} epochs", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    EXPORTS[member.export](network, inputs[:1], path)


def fit(network: Any, inputs: Any, labels: Any, member: Member) -> float:
    """Stochastic gradient descent with a rate that falls to zero as the time runs out. Returns epochs done."""
    from torch import nn, optim, randint, randperm

    optimiser = optim.SGD(network.parameters(), member.rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    begun, steps, per_epoch = time.process_time(), 0, len(inputs) // BATCH
    order = randperm(len(inputs))
    network.train()
    while (spent := (time.process_time() - begun) / member.seconds) < 1:
        at = steps % per_epoch
        if at == 0:
            order = randperm(len(inputs))
        for group in optimiser.param_groups:
            group["lr"] = member.rate * min(1.0, 20 * spent + 0.05) * 0.5 * (1 + float(np.cos(np.pi * spent)))
        rows = order[at * BATCH : (at + 1) * BATCH]
        batch = inputs[rows]
        if member.images:
            batch = shifted(batch, *(int(value) for value in randint(0, 9, (2,))))
            batch = batch.flip(3) if int(randint(0, 2, (1,))) else batch
        optimiser.zero_grad()
        loss(network(batch), labels[rows]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        steps += 1
    return steps / per_epoch


def shifted(batch: Any, down: int, right: int) -> Any:
    """Images moved by up to four pixels, zeros moved in. ``down`` and ``right`` are 0 to 8."""
    from torch.nn.functional import pad

    height, width = batch.shape[2:]
    return pad(batch, (4, 4, 4, 4))[:, :, down : down + height, right : right + width]


def by_dynamo(network: Any, example: Any, path: Path) -> None:
    """torch.export, opset 18, free batch."""
    from torch import cat, export, onnx

    free = {0: export.Dim("batch", min=1, max=4096)}
    onnx.export(
        network, (cat([example] * 2),), str(path), dynamo=True, opset_version=18, dynamic_shapes=(free,), external_data=False
    )


def by_dynamo_fixed(network: Any, example: Any, path: Path) -> None:
    """torch.export, opset 18, one sample at a time."""
    from torch import onnx

    onnx.export(network, (example,), str(path), dynamo=True, opset_version=18, external_data=False)


def by_trace(network: Any, example: Any, path: Path) -> None:
    """The exporter of old, opset 13, with every BatchNormalization where it was."""
    from torch import onnx

    options: dict[str, Any] = {"input_names": ["audio"], "dynamic_axes": {"audio": {0: "n"}}, "opset_version": 13}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old is why it is used
        onnx.export(
            network,
            (example,),
            str(path),
            dynamo=False,
            training=onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            **options,
        )


EXPORTS: dict[str, Callable[[Any, Any, Path], None]] = {
    "dynamo": by_dynamo,
    "dynamo, fixed batch": by_dynamo_fixed,
    "old, BatchNorm kept": by_trace,
}


if __name__ == "__main__":
    for case in cases(sys.argv[1] if len(sys.argv) > 1 else ""):
        print(case.path)
