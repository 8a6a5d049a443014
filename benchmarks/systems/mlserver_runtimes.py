"""MLServer runtimes of the no-op and of the array."""

from __future__ import annotations

import base64

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks import models
from benchmarks.workloads import ARRAY_SHAPE


class Echo(MLModel):
    """Give back the integer."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with the one element of the first tensor."""
        value = models.noop(payload.inputs[0].data.root[0])
        output = ResponseOutput(name="output", shape=[1], datatype="INT64", data=[value])
        return InferenceResponse(model_name=self.name, outputs=[output])


class ArrayEcho(MLModel):
    """Give back the float32 array that came as base64."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decode to an array, run the function, encode again."""
        raw = base64.b64decode(payload.inputs[0].data.root[0])
        values = models.array(np.frombuffer(raw, np.float32).reshape(ARRAY_SHAPE))
        text = base64.b64encode(values).decode("ascii")
        output = ResponseOutput(name="output", shape=[1, 1], datatype="BYTES", data=[text])
        return InferenceResponse(model_name=self.name, outputs=[output])
