"""Describes TensorFlow SavedModels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.servables.base import BaseServableModel
from dlhub_sdk.models.servables.model_file import import_framework, limited, readable_file, unreadable
from dlhub_sdk.models.servables.probe import array_block, tensor_blocks

__all__ = ["TensorFlowModel"]

_DEFAULT = "serving_default"


class TensorFlowModel(BaseServableModel):
    """A folder that ``tf.saved_model.save`` or ``model.export`` wrote. Every signature is a method.

    The default signature, ``"serving_default"``, is the default method, ``"run"``.
    """

    _shim: ClassVar[str | None] = "tensorflow.TensorFlowServable"
    _kind: ClassVar[str | None] = "TensorFlow Model"

    @classmethod
    def create_model(cls, export_directory: str | Path) -> Self:
        """Describe a SavedModel.

        Parameters
        ----------
        export_directory
            The folder.

        Raises
        ------
        ModelFileError
            If it is no SavedModel, or an unreadable one.
        DescriptionError
            If it has no signature to be the default method.
        """
        tf = import_framework("tensorflow", "tensorflow")

        folder = Path(export_directory)
        if not folder.is_dir():
            raise ModelFileError(
                f"{folder} is not a folder.", remedy="Give the folder that tf.saved_model.save wrote."
            )
        readable_file(folder / "saved_model.pb")
        try:
            loaded = tf.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises OSError, ValueError, its own OpError, …
            raise unreadable(folder, "TensorFlow", error) from error
        model = cls()
        signatures = dict(loaded.signatures)
        default = _default_signature(signatures)
        for name, function in signatures.items():
            model._add_signature("run" if name == default else name, name, function)
        model.servable.model_type = "Deep NN"
        model.servable.model_summary = limited(_summary(signatures))
        model.servable.parameter_count = _parameters(tf, folder)
        model.add_requirement("tensorflow", str(tf.__version__))
        model.add_directory(export_directory, recursive=True)
        return model

    def _add_signature(self, method: str, signature: str, function: Any) -> None:
        # The shim sorts names as people do (output_2 before output_10); the document says the order.
        from home_run.shims.tensorflow import in_order

        specs: Mapping[str, Any] = function.structured_input_signature[1]
        outputs: Mapping[str, Any] = function.structured_outputs
        input_names, output_names = in_order(specs), in_order(outputs)
        self.register_function(
            method,
            _tensors({name: specs[name] for name in input_names}),
            _tensors({name: outputs[name] for name in output_names}),
            method_details={
                "signature": signature,
                "input_names": input_names,
                "output": output_names[0] if len(output_names) == 1 else output_names,
            },
        )


def _default_signature(signatures: Mapping[str, Any]) -> str:
    if not signatures:
        raise DescriptionError(
            "The SavedModel does not contain any function signatures.",
            remedy="Save it again with signatures={…}; see"
            " https://www.tensorflow.org/guide/saved_model#specifying_signatures_during_export.",
        )
    for name in ("run", _DEFAULT):
        if name in signatures:
            return name
    if len(signatures) == 1:
        return next(iter(signatures))
    raise DescriptionError(
        f"The SavedModel has the signatures {', '.join(signatures)}, and none is the default one.",
        remedy=f"Save it again with one of them called 'run' or {_DEFAULT!r}.",
    )


def _tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
    blocks = []
    for name, spec in specs.items():
        shape: Any = "Any" if spec.shape.rank is None else list(spec.shape.as_list())
        dtype = np.dtype(spec.dtype.as_numpy_dtype)
        block = array_block(name, shape, np.dtype(str) if dtype.kind == "O" else dtype)
        blocks.append(block)
    if not blocks:
        return {"type": "any", "description": "No tensors"}
    return tensor_blocks(blocks, "Several tensors")


def _parameters(tf: Any, folder: Path) -> int | None:
    """Count the numbers in the variables, by the index of their checkpoint."""
    prefix = folder / "variables" / "variables"
    if not prefix.with_suffix(".index").is_file():
        return None
    shapes: Mapping[str, list[int]] = tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()
    values = [shape for name, shape in shapes.items() if name.endswith("VARIABLE_VALUE")]
    return sum(math.prod(shape) for shape in values if shape) or None


def _summary(signatures: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{name}: {function.pretty_printed_signature()}" for name, function in signatures.items()
    )
