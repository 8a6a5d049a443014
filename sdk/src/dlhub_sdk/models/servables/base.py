"""What all builders of servables share: methods, types, the test, and what rows may be merged."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import Self

from dlhub_sdk.models.argument import MethodMetadata, ServableMetadata, StackMetadata
from dlhub_sdk.models.builder import BaseMetadataModel
from dlhub_sdk.models.datacite import DataciteResourceType
from dlhub_sdk.models.dlhub import ReferenceTest
from dlhub_sdk.models.document import ServableDocument
from dlhub_sdk.models.errors import DescriptionError
from dlhub_sdk.models.vocabulary import DataciteResourceTypeGeneral

__all__ = ["BUILDERS", "BaseServableModel"]

_HERE = "dlhub_sdk.models.servables"

# The builder of the documents that each shim runs.
BUILDERS: dict[str, str] = {
    "python.PythonStaticMethodServable": f"{_HERE}.python:PythonStaticMethodModel",
    "python.PythonClassMethodServable": f"{_HERE}.python:PythonClassMethodModel",
    "sklearn.ScikitLearnServable": f"{_HERE}.sklearn:ScikitLearnModel",
    "keras.KerasServable": f"{_HERE}.keras:KerasModel",
    "pytorch.TorchServable": f"{_HERE}.pytorch:TorchModel",
    "tensorflow.TensorFlowServable": f"{_HERE}.tensorflow:TensorFlowModel",
    "onnx.OnnxServable": f"{_HERE}.onnx:OnnxModel",
    "xgboost.XGBoostServable": f"{_HERE}.xgboost:XGBoostModel",
    "lightgbm.LightGBMServable": f"{_HERE}.lightgbm:LightGBMModel",
    "mlflow.MLflowServable": f"{_HERE}.mlflow:MLflowModel",
    "transformers.TransformersServable": f"{_HERE}.transformers:TransformersModel",
}


class BaseServableModel(BaseMetadataModel):
    """A description of a servable; the subclasses are for one kind of model each."""

    _blocks: ClassVar[tuple[str, ...]] = ("datacite", "dlhub", "servable")
    _shim: ClassVar[str | None] = None
    _kind: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        # The purpose of a hub is to offer models as services that answer, which DataCite calls
        # an interactive resource, rather than as source code to download.
        self.datacite.resourceType = DataciteResourceType(
            resourceTypeGeneral=DataciteResourceTypeGeneral.InteractiveResource
        )
        self.servable = ServableMetadata(shim=self._get_handler(), type=self._get_type())

    @property
    def servable(self) -> ServableMetadata:
        """How the servable is built and run."""
        return self._document.servable

    @servable.setter
    def servable(self, value: ServableMetadata | Mapping[str, Any]) -> None:
        self._document["servable"] = value

    def _get_handler(self) -> str | None:
        """Return the name of the shim class; third parties override it."""
        return self._shim

    def _get_type(self) -> str | None:
        """Return the kind of servable, for people."""
        return self._kind

    def register_function(
        self,
        name: str,
        inputs: Any,
        outputs: Any,
        parameters: Mapping[str, Any] | None = None,
        method_details: Mapping[str, Any] | None = None,
    ) -> Self:
        """Add a method, or replace one.

        Parameters
        ----------
        name
            How callers address it; ``"run"`` is the default method.
        inputs, outputs
            Blocks made with :func:`dlhub_sdk.types.compose_argument_block`.
        parameters
            Keyword arguments that callers may override, with their defaults.
        method_details
            What the shim needs to know to call it.
        """
        self.servable.methods[name] = MethodMetadata.parse_obj(
            {
                "input": inputs,
                "output": outputs,
                "parameters": dict(parameters or {}),
                "method_details": dict(method_details or {}),
            }
        )
        return self

    def set_stack(self, max_rows: int, method: str = "run") -> Self:
        """Declare that rows of concurrent calls may be merged into one array and answered at once.

        Only for a method that treats every row (axis 0) on its own, as most models do.

        Parameters
        ----------
        max_rows
            Most rows in one merged array.
        method
            The method that this holds for.
        """
        self._method(method).stack = StackMetadata.parse_obj({"axis": 0, "max_rows": max_rows})
        return self

    def set_test(
        self,
        inputs: Any,
        outputs: Any = None,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        method: str | None = None,
    ) -> Self:
        """Add a call that the hub makes before the servable becomes live, and anybody may repeat.

        Parameters
        ----------
        inputs
            Input of the call.
        outputs
            What it must give; without it the call only has to run.
        rtol, atol
            Relative and absolute tolerance for numbers, as in ``numpy.allclose``.
        parameters, method
            Parameters of the call, and the method if it is not ``"run"``.
        """
        values = {
            "inputs": self._inline_or_attach("test/inputs.dlf", inputs),
            "outputs": None if outputs is None else self._inline_or_attach("test/outputs.dlf", outputs),
            "parameters": None if parameters is None else dict(parameters),
            "method": method,
            "rtol": rtol,
            "atol": atol,
        }
        self.dlhub.test = ReferenceTest.parse_obj(values)
        return self

    def _inline_or_attach(self, target: str, value: Any) -> Any:
        """Return a small JSON value as it is, and the name of a frame file for any other."""
        self._attachments.pop(target, None)
        if _is_plain(value, budget=[256]) and not (isinstance(value, dict) and set(value) == {"file"}):
            return value
        from home_run import codec

        allow_pickle = any(block.type == "python object" for block in self._all_types())
        try:
            self._attachments[target] = codec.encode(value, allow_pickle=allow_pickle)
        except Exception as error:
            raise DescriptionError(
                f"The test value for {target} cannot be stored: {error}",
                remedy="Use numbers, text, arrays, and lists, tuples or dictionaries of them.",
            ) from error
        return {"file": target}

    def _all_types(self) -> list[Any]:
        methods = self.servable.methods.values()
        return [b for m in methods for a in (m["input"], m["output"]) for _, b in a.walk("")]

    def _method(self, name: str) -> MethodMetadata:
        try:
            return self.servable.methods[name]
        except KeyError:
            known = ", ".join(self.servable.methods) or "none yet"
            raise DescriptionError(
                f"There is no method {name!r}; the methods are {known}.", remedy="Check the spelling."
            ) from None

    def _find_problems(self, document: ServableDocument) -> list[str]:
        return document.find_problems()

    @classmethod
    def _builder_for(cls, data: Mapping[str, Any]) -> type[Self]:
        if cls._shim is not None:
            return cls
        from home_run import documents

        place = BUILDERS.get(documents.load_document(dict(data))["servable"]["shim"])
        if place is None:
            return cls
        module, _, name = place.partition(":")
        builder: type[Self] = getattr(importlib.import_module(module), name)
        return builder


def _is_plain(value: Any, budget: list[int]) -> bool:
    """Say whether a value is JSON as it stands and short enough to read in a document."""
    budget[0] -= 1
    if budget[0] < 0:
        return False
    if value is None or type(value) in (bool, int):
        return True
    if type(value) is float:
        return value - value == 0  # neither infinite nor NaN, which JSON cannot say
    if type(value) is str:
        return len(value) <= 4096
    if type(value) is list:
        return all(_is_plain(each, budget) for each in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each, budget) for key, each in value.items())
    return False
