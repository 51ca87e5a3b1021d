"""The model process: loads one model with onnxruntime and answers the agent's messages until the agent goes away.

    python -m edge_compress.agent.runner DESCRIPTOR PARENT_PID

The only part of the agent that knows numpy and onnxruntime. A crash here is the model's failure and nothing more; the process
dies with the agent, however that ends. Leaves every decision to the agent: it only loads, runs and measures.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from edge_compress.agent import footprint, framing, vectors

_PR_SET_PDEATHSIG = 1
_SMALLEST_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)
"""an Identity of one float, as the onnx package writes it"""


def main(arguments: list[str]) -> int:
    """Serve the socket that ``arguments`` name until it closes."""
    descriptor, parent = (int(item) for item in arguments)
    die_with(parent)
    import onnxruntime  # noqa: F401  # the slowest part, while the agent is still busy with its own start

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the agent, which then stops its children
    # A socket is read and written like a file, which spares the socket module.
    with open(descriptor, "rb", closefd=False) as stream, open(descriptor, "wb") as answers:
        serve(stream, answers)
    return 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent goes, even by kill -9."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def serve(stream: BinaryIO, answers: BinaryIO) -> None:
    """Answer each message; an error becomes the answer ``{"error": …}``."""
    process = ModelProcess()
    while (frame := framing.read(stream)) is not None:
        fields, arrays = process.answer(frame)
        answers.write(framing.pack(fields, arrays))
        answers.flush()


class ModelProcess:
    """One loaded model and its golden vectors."""

    def __init__(self) -> None:
        self._session: Any = None
        self._golden = vectors.Golden({}, {})
        self._before = footprint.Mark(0, 0)
        self._verbs: dict[str, Callable[[framing.Frame], framing.Frame]] = {
            "load": self._load,
            "check": self._check,
            "time": self._time,
            "sample": self._sample,
            "infer": self._infer,
            "settle": self._settle,
        }

    def answer(self, frame: framing.Frame) -> tuple[Mapping[str, Any], tuple[framing.Array, ...]]:
        """Do what the message asks."""
        try:
            done = self._verbs[str(frame.fields.get("verb"))](frame)
        except Exception as error:  # whatever the runtime raises is the answer; the agent decides
            return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}, ()
        return done.fields, done.arrays

    def _load(self, frame: framing.Frame) -> framing.Frame:
        """Load the golden vectors, then the model, whose memory is counted from there."""
        import onnxruntime

        self._golden = vectors.read(str(frame.fields["golden"]))
        warm()
        self._before = footprint.begin()
        self._session = open_session(str(frame.fields["model"]), int(frame.fields["threads"]))
        self._run(self._golden.inputs(0, self._batch()))
        return framing.Frame({"samples": self._golden.samples // self._batch(), "runtime_version": onnxruntime.__version__})

    def _check(self, frame: framing.Frame) -> framing.Frame:
        """Answer every golden vector; ``mismatch`` is the first difference in words, empty when all agree."""
        batch, mismatch = self._batch(), ""
        for start in range(0, self._golden.samples - batch + 1, batch):
            got = self._run(self._golden.inputs(start, batch))
            wanted = self._golden.outputs(start, batch)
            mismatch = mismatch or vectors.difference(got, wanted, frame.fields["rtol"], frame.fields["atol"], start)
        return framing.Frame({"mismatch": mismatch, "peak_memory_bytes": footprint.added_since(self._before)})

    def _time(self, frame: framing.Frame) -> framing.Frame:
        """Time runs over the golden inputs for up to ``seconds`` and ``runs``, whichever ends first; at least one each sample."""
        batch = self._batch()
        seconds: list[float] = []
        starts = range(0, self._golden.samples - batch + 1, batch)
        deadline = time.perf_counter() + float(frame.fields["seconds"])
        while len(seconds) < int(frame.fields["runs"]) and (len(seconds) < len(starts) or time.perf_counter() < deadline):
            inputs = self._golden.inputs(starts[len(seconds) % len(starts)], batch)
            seconds.append(self._timed(inputs)[1]["seconds"])
        return framing.Frame({"seconds": seconds})

    def _sample(self, frame: framing.Frame) -> framing.Frame:
        """Answer one golden vector, timed; its ``index`` wraps around."""
        batch = self._batch()
        start = (int(frame.fields["index"]) % (self._golden.samples // batch)) * batch
        inputs = self._golden.inputs(start, batch)
        got, cost = self._timed(inputs)
        wanted = self._golden.outputs(start, batch)
        mismatch = vectors.difference(got, wanted, frame.fields["rtol"], frame.fields["atol"], start)
        return framing.Frame({**cost, "mismatch": mismatch})

    def _infer(self, frame: framing.Frame) -> framing.Frame:
        """Run on the arrays of the message; answers with the model's outputs."""
        inputs = {item.name: vectors.to_numpy(item) for item in frame.arrays}
        got, cost = self._timed(inputs)
        return framing.Frame(cost, tuple(vectors.to_array(name, value) for name, value in got.items()))

    def _settle(self, frame: framing.Frame) -> framing.Frame:
        """Give back the memory that only the start needed."""
        footprint.trim()
        footprint.drop_idle_code()
        return framing.Frame({})

    def _timed(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
        """Outputs, with the wall-clock ``seconds`` and the ``cpu_seconds`` of all threads that they took."""
        began, spent = time.perf_counter(), time.process_time()
        got = self._run(inputs)
        return got, {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - spent}

    def _run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [item.name for item in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def _batch(self) -> int:
        """How many samples the model takes at once: its first dimension where that is fixed, else one."""
        first = self._session.get_inputs()[0].shape[:1]
        return first[0] if first and isinstance(first[0], int) and first[0] > 0 else 1


def warm() -> None:
    """Have onnxruntime build what it keeps for any model, so that this is not counted as the next one's."""
    open_session(_SMALLEST_MODEL, 1)


def open_session(model: str | bytes, threads: int) -> Any:
    """A session of a file or of a model's bytes, under the settings that the server measures with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
