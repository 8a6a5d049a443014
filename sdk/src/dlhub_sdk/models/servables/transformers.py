"""Describes Hugging Face transformers models that lie in a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from dlhub_sdk.models.argument import ArgumentTypeMetadata
from dlhub_sdk.models.errors import DescriptionError, ModelFileError
from dlhub_sdk.models.files import list_directory
from dlhub_sdk.models.servables.model_file import limited, readable_file, unreadable
from dlhub_sdk.models.servables.python import BasePythonServableModel
from dlhub_sdk.models.types import compose_argument_block

__all__ = ["TransformersModel"]

# The task of a pipeline, by the end of the architecture's name in config.json.
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "Model": "feature-extraction",
}
_TEXT_TASKS = {
    "text-classification": {"label": "string", "score": "float"},
    "token-classification": None,
    "fill-mask": {"score": "float", "token": "integer", "token_str": "string", "sequence": "string"},
    "text-generation": {"generated_text": "string"},
}


class TransformersModel(BasePythonServableModel):
    """A folder that ``save_pretrained`` of a model and its tokenizer wrote, run as a pipeline."""

    _shim: ClassVar[str | None] = "transformers.TransformersServable"
    _kind: ClassVar[str | None] = "Transformers Model"

    @classmethod
    def create_model(cls, model_directory: str | Path, task: str | None = None) -> Self:  # type: ignore[override]
        """Describe a model folder.

        Parameters
        ----------
        model_directory
            The folder with ``config.json``, the weights and the tokenizer's files.
        task
            The pipeline's task, such as ``"text-classification"``; told from the architecture
            when not given.

        Raises
        ------
        ModelFileError
            If the folder is incomplete.
        DescriptionError
            If the architecture does not tell the task.
        """
        folder = Path(model_directory)
        if not folder.is_dir():
            raise ModelFileError(f"{folder} is not a folder.", remedy="Give the folder of save_pretrained.")
        config_file = readable_file(folder / "config.json")
        try:
            config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise unreadable(config_file, "transformers", error) from error
        architecture = str((config.get("architectures") or ["unknown"])[0])
        found = task or next((name for end, name in _TASKS.items() if architecture.endswith(end)), None)
        if found is None:
            raise DescriptionError(
                f"The architecture {architecture!r} does not tell what the model is for.",
                remedy="Give task=, such as 'text-classification'.",
            )
        model = super().create_model("__call__")
        model.dlhub.files["model"] = list_directory(model_directory)
        options: dict[str, Any] = {"task": found, "architecture": architecture}
        if found.endswith("classification") and config.get("id2label"):
            labels = {int(number): str(label) for number, label in config["id2label"].items()}
            options["classes"] = [labels[number] for number in sorted(labels)]
        model.servable.options = options
        model._set_types_of(found)
        model.servable.model_type = architecture
        model._summarise(folder, config)
        for library in ("transformers", "torch"):
            model.add_requirement(library, "detect")
        return model

    def _set_types_of(self, task: str) -> None:
        run = self.servable.methods["run"]
        given = compose_argument_block("any", f"Input of the {task} pipeline")
        returned = compose_argument_block("any", f"Output of the {task} pipeline")
        if task in _TEXT_TASKS:
            given = compose_argument_block("string", "Text")
            fields = _TEXT_TASKS[task]
            properties = {key: {"type": kind} for key, kind in (fields or {}).items()}
            item = compose_argument_block("dict", "", properties=properties)
            returned = compose_argument_block("list", f"Result of {task}", item_type=item)
        elif task == "question-answering":
            text = {"type": "string"}
            given = compose_argument_block(
                "dict",
                "Question and the text with its answer",
                properties={"question": text, "context": text},
            )
        run.input = ArgumentTypeMetadata.parse_obj(given)
        run.output = ArgumentTypeMetadata.parse_obj(returned)

    def _summarise(self, folder: Path, config: dict[str, Any]) -> None:
        shown = {key: value for key, value in sorted(config.items()) if isinstance(value, (str, int, float))}
        self.servable.model_summary = limited("\n".join(f"{key}: {value}" for key, value in shown.items()))
        weights = sorted(folder.glob("*.safetensors"))
        if weights:
            self.servable.parameter_count = sum(_parameters(readable_file(each)) for each in weights)


def _parameters(path: Path) -> int:
    """Count the numbers in a safetensors file by its header.

    The header is JSON after eight bytes of its length: https://github.com/huggingface/safetensors.
    """
    with path.open("rb") as stream:
        try:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, 100_000_000)))
            shapes = [value["shape"] for name, value in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unreadable(path, "safetensors", error) from error
    return sum(math.prod(shape) for shape in shapes)
