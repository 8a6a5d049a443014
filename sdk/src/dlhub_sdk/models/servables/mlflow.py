"""Describes MLflow model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import ModelFileError
from dlhub_sdk.models.files import list_directory
from dlhub_sdk.models.servables.model_file import import_framework, readable_file, unreadable
from dlhub_sdk.models.servables.probe import BATCH, array_block, observe
from dlhub_sdk.models.servables.python import BasePythonServableModel
from dlhub_sdk.models.types import compose_argument_block, simplify_numpy_dtype

__all__ = ["MLflowModel"]

_FRAME = "pandas.DataFrame"


class MLflowModel(BasePythonServableModel):
    """A folder that ``mlflow.<flavour>.save_model`` wrote, run through its flavour ``python_function``."""

    _shim: ClassVar[str | None] = "mlflow.MLflowServable"
    _kind: ClassVar[str | None] = "MLflow Model"

    @classmethod
    def create_model(cls, model_directory: str | Path) -> Self:  # type: ignore[override]
        """Describe a model folder; its signature gives the types and the parameters.

        A model without a signature takes and gives anything until ``set_inputs`` and
        ``set_outputs`` say more.

        Parameters
        ----------
        model_directory
            The folder with the file ``MLmodel``.

        Raises
        ------
        ModelFileError
            If there is none, or an unreadable one.
        """
        models = import_framework("mlflow.models", "mlflow-skinny")
        folder = Path(model_directory)
        if not folder.is_dir():
            raise ModelFileError(f"{folder} is not a folder.", remedy="Give the folder that holds MLmodel.")
        marker = readable_file(folder / "MLmodel")
        try:
            described = models.Model.load(str(folder))
            function = described.flavors["python_function"]
        except Exception as error:  # yaml's and MLflow's own errors, and what a cut file lacks
            raise unreadable(marker, "MLflow", error) from error
        model = super().create_model("predict")
        model.dlhub.files["model"] = list_directory(model_directory)
        flavours = sorted(set(described.flavors) - {"python_function"})
        model.servable.options = {
            "loader_module": function["loader_module"],
            "flavors": flavours,
            "mlflow_version": described.mlflow_version,
        }
        model.servable.model_type = f"MLflow {', '.join(flavours) or 'python function'}"
        model.servable.model_summary = _summary(described)
        model._set_types_from(described.signature)
        model._require_libraries(folder, described)
        return model

    def _set_types_from(self, signature: Any) -> None:
        run = self.servable.methods["run"]
        given = _schema_block(getattr(signature, "inputs", None), "Input of the model", as_input=True)
        run.input = ArgumentTypeMetadata.parse_obj(given)
        for parameter in getattr(getattr(signature, "params", None), "params", []):
            default = parameter.default
            run.parameters[parameter.name] = default.item() if isinstance(default, np.generic) else default
        returned = _schema_block(getattr(signature, "outputs", None), "Output of the model", as_input=False)
        # Column types do not tell whether an array or a table comes back; a trial run does.
        seen = None
        if given["type"] == "ndarray" and isinstance(given["shape"], list) and returned["type"] != "ndarray":
            inner = [size if isinstance(size, int) else 1 for size in given["shape"][1:]]
            kind = given.get("dtype", "float64")
            seen = observe(self, lambda rows: np.zeros((rows, *inner), kind))
        run.output = ArgumentTypeMetadata.parse_obj(seen or returned)

    def _require_libraries(self, folder: Path, described: Any) -> None:
        from dlhub_sdk.environment.installed import find_distribution

        for name in ("mlflow-skinny", "mlflow"):
            if find_distribution(name) is not None:
                self.add_requirement(name, "detect")
                break
        self.add_requirement("pandas", "detect")
        listed = folder / "requirements.txt"
        lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
        for line in lines:
            name = _name(line)
            if name and name not in ("mlflow", "mlflow-skinny") and find_distribution(name) is not None:
                self.add_requirement(name, "detect")
        # What has columns is a table to whoever calls it, and tables travel through Arrow.
        schemas = [getattr(described.signature, side, None) for side in ("inputs", "outputs")]
        if any(schema is not None and not schema.is_tensor_spec() for schema in schemas):
            self.add_requirement("pyarrow", "detect")


def _name(line: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line.partition("#")[0].strip()).name
    except InvalidRequirement:
        return ""


def _schema_block(schema: Any, description: str, *, as_input: bool) -> dict[str, Any]:
    """Return the block of an MLflow schema: tensors become arrays, columns a table."""
    if schema is None:
        return compose_argument_block("any", description)
    if schema.is_tensor_spec():
        blocks = {spec.name or str(i): _tensor(spec, description) for i, spec in enumerate(schema.inputs)}
        if schema.has_input_names():
            return compose_argument_block("dict", description, properties=blocks)
        return next(iter(blocks.values()))
    names = schema.input_names() if schema.has_input_names() else []
    columns = [
        {"name": name, "type": _type_name(each)}
        for name, each in zip(names, schema.input_types(), strict=False)
    ]
    details: dict[str, Any] = {"columns": columns} if columns else {}
    kinds = {_type_name(each) for each in schema.input_types()}
    # Columns of numbers arrive as one array too: the shim makes the table from it.
    if as_input and kinds <= {"integer", "float"}:
        width = len(schema.inputs)
        block = array_block(description, [BATCH, width])
        return {**block, "item_type": {"type": "float" if "float" in kinds else "integer"}, **details}
    if as_input:
        return compose_argument_block("python object", description, python_type=_FRAME, **details)
    return compose_argument_block("any", description, **details)


def _tensor(spec: Any, description: str) -> dict[str, Any]:
    shape = [
        BATCH if axis == 0 and size == -1 else None if size == -1 else size
        for axis, size in enumerate(spec.shape)
    ]
    return array_block(spec.name or description, shape, np.dtype(spec.type))


def _type_name(kind: Any) -> str:
    if not hasattr(kind, "to_numpy"):  # nested objects and arrays
        return "any"
    name = simplify_numpy_dtype(kind.to_numpy())
    return "string" if name == "python object" else name


def _summary(described: Any) -> str:
    lines = [f"made with MLflow {described.mlflow_version}"]
    for name, flavour in sorted(described.flavors.items()):
        lines.append(f"{name}: {', '.join(f'{key}={value}' for key, value in sorted(flavour.items()))}")
    return "\n".join(lines)
