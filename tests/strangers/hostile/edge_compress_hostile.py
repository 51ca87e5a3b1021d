"""A stranger's plugin: one strategy and one metric that work, and strategies that misbehave, one way each."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge_compress.plugin import Ensures, QualityMetric, Requires, Strategy, Support, hookimpl, param


@dataclass(frozen=True)
class RoundParams:
    """How to round."""

    decimals: int = param("decimal places kept of each weight", default=2, unit="digits", minimum=0, maximum=8)


class Round(Strategy[RoundParams]):
    """Rounds float weights, so that they compress better on the link."""

    name = "stranger.round"
    stage = "sparsity"
    Params = RoundParams
    ensures = Ensures(golden_tolerance=0.01)

    def apply(self, model, params, context):
        import numpy as np
        from onnx import numpy_helper

        tensors = [item for item in model.graph.initializer if item.data_type == 1]
        for done, tensor in enumerate(tensors):
            rounded = np.round(numpy_helper.to_array(tensor), params.decimals)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
            context.progress((done + 1) / len(tensors), tensor.name)
        context.log(f"diagnosis: rounded {len(tensors)} tensors that had more digits than they needed")
        return model


@dataclass(frozen=True)
class NoParams:
    """Nothing to choose."""


class Misbehaving(Strategy[NoParams]):
    """Base of those that misbehave; never proposed by itself, only by a recipe."""

    stage = "sparsity"
    Params = NoParams

    def propose(self, model, profile):
        return []


class Train(Round):
    """Stands for strategies that train: it asks for training samples and takes part only where they are worth their time."""

    name = "stranger.train"
    requires = Requires(training=True)

    def propose(self, model, profile):
        return [RoundParams(decimals=1)] if profile.threads == 3 else []

    def apply(self, model, params, context):
        first = next(context.training(batch_size=8))
        context.log(f"diagnosis: trained on {len(first)} samples beside a teacher of {len(context.teacher().graph.node)} nodes")
        return super().apply(model, params, context)


class Crash(Misbehaving):
    """Dies of a segmentation fault."""

    name = "hostile.crash"

    def apply(self, model, params, context):
        print("about to die", flush=True)
        ctypes.string_at(0)


class Exit(Misbehaving):
    """Leaves without a word."""

    name = "hostile.exit"

    def apply(self, model, params, context):
        os._exit(0)


class Hang(Misbehaving):
    """Never ends."""

    name = "hostile.hang"

    def apply(self, model, params, context):
        Path(context.scratch / "pid").write_text(str(os.getpid()))
        while True:
            time.sleep(3600)


class Eat(Misbehaving):
    """Takes all the memory it can get."""

    name = "hostile.eat"

    def apply(self, model, params, context):
        eaten = []
        while True:
            eaten.append(bytearray(64 * 2**20))


class Raise(Misbehaving):
    """Raises what it should not."""

    name = "hostile.raise"

    def apply(self, model, params, context):
        raise KeyboardInterrupt("not yours to raise")


class Garbage(Misbehaving):
    """Returns something that is no model."""

    name = "hostile.garbage"

    def apply(self, model, params, context):
        return b"garbage"


class OtherInterface(Misbehaving):
    """Returns a model with another interface."""

    name = "hostile.interface"

    def apply(self, model, params, context):
        model.graph.output[0].name = "surprise"
        model.graph.node[-1].output[0] = "surprise"
        return model


class Liar(Misbehaving):
    """Promises to change nothing and changes the answers."""

    name = "hostile.liar"
    ensures = Ensures(lossless=True)

    def apply(self, model, params, context):
        import numpy as np
        from onnx import numpy_helper

        for tensor in model.graph.initializer:
            if tensor.data_type == 1:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
        return model


class Spy(Misbehaving):
    """Says which secrets and open sockets it can see."""

    name = "hostile.spy"

    def apply(self, model, params, context):
        seen = [name for name in os.environ if "SECRET" in name]
        for fd in range(3, 64):
            try:
                seen.append(f"socket {socket.socket(fileno=os.dup(fd)).getsockname()}")
            except OSError:
                continue
        print("seen:", seen, file=sys.stderr, flush=True)
        raise RuntimeError(f"seen {seen}")


class AskedTooMuch(Misbehaving):
    """Dies when it is only asked what it supports."""

    name = "hostile.asked"

    def supports(self, model, profile):
        if os.environ.get("EDGE_COMPRESS_HOSTILE_ASKED"):
            os._exit(3)
        return Support.no("it only applies when asked nicely")

    def apply(self, model, params, context):
        return model


class Tenth(QualityMetric):
    """Share of samples whose first output is the highest or within a tenth of it."""

    name = "stranger.tenth"
    needs_labels = True

    def rows(self, outputs, labels, reference):
        import numpy as np

        scores = outputs[0]
        own = scores[np.arange(len(labels)), labels]
        return (own >= scores.max(axis=1) - 0.1 * np.abs(scores).max(axis=1)).astype(float)


@hookimpl
def edge_compress_register_strategies():
    return [
        Round(),
        Train(),
        Crash(),
        Exit(),
        Hang(),
        Eat(),
        Raise(),
        Garbage(),
        OtherInterface(),
        Liar(),
        Spy(),
        AskedTooMuch(),
    ]


@hookimpl
def edge_compress_register_quality_metrics():
    return [Tenth()]
