"""A tiny client for applications on a device: ask the model that the agent serves.

    from edge_compress.predict import Predictor
    with Predictor("/var/lib/edge-compress/agent/predict.sock") as model:
        answer = model({"image": pixels})

Needs grpcio and numpy, nothing else of the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, Self

import grpc
import numpy as np

from edge_compress.api.v1 import local_pb2, local_pb2_grpc
from edge_compress.errors import InvalidInput, Unavailable

_MOST_BYTES = 64 << 20
_OPTIONS = (("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.max_send_message_length", _MOST_BYTES))
Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class Predictor:
    """Calls the agent behind ``path``, its ``predict.sock``. May be used from several threads."""

    def __init__(self, path: str | PathLike[str], timeout: float = 30.0) -> None:
        """``timeout``: seconds that one answer may take, waiting for a model included."""
        self._timeout = timeout
        self._channel = grpc.insecure_channel(f"unix:{fspath(path)}", options=_OPTIONS)
        self._stub: Any = local_pb2_grpc.PredictServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self.version = ""
        """of the model that answered last"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """The model's outputs by name, for all of its inputs by name, batch first. Raises InvalidInput for inputs that are not
        the model's, Unavailable while no model serves."""
        tensors = [
            local_pb2.Tensor(name=name, dtype=value.dtype.str, shape=value.shape, data=np.ascontiguousarray(value).tobytes())
            for name, value in inputs.items()
        ]
        try:
            answer = self._stub.Predict(local_pb2.PredictRequest(inputs=tensors), timeout=self._timeout, wait_for_ready=True)
        except grpc.RpcError as failure:
            told: Any = failure
            if told.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidInput(told.details()) from failure
            raise Unavailable(told.details()) from failure
        self.version = answer.version
        return {item.name: np.frombuffer(item.data, np.dtype(item.dtype)).reshape(item.shape) for item in answer.outputs}
