"""Hugging Face transformers models in a local directory, run as a pipeline. Nothing is downloaded.

Files: the files that ``save_pretrained`` of the model and of its tokenizer or processor wrote, with the
weights in safetensors. Other weights are pickles and need consent.

method_details
    ``task``: the pipeline's task where a method has another than the servable.
options
    ``task``: for example ``text-classification``.
    ``directory``: where the model is, if the document's files do not tell.
    ``pipeline``: further arguments of ``transformers.pipeline``.

A method's parameters are arguments of the pipeline's call, such as ``top_k`` or ``max_new_tokens``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from home_run.errors import HomeRunError, ShimError
from home_run.shims._base import BaseServable, load_framework
from home_run.shims._directories import model_directory

__all__ = ["TransformersServable"]

_NEVER = ("model", "task", "trust_remote_code", "device_map")


class TransformersServable(BaseServable):
    """Runs a transformers pipeline; every task that a method names is one pipeline."""

    def _build(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self._transformers = load_framework("transformers", distribution="transformers")
        load_framework("torch", distribution="torch")
        directory = model_directory(self, "config.json", "transformers model")
        weights = self._weights(directory)
        self.pipelines: dict[str, Any] = {}
        for name in self.servable["methods"]:
            task = self._method_details(name).get("task") or self.options.get("task")
            if not task:
                raise ShimError(
                    f"The document does not say which task the method {name!r} performs.",
                    remedy="Name it in options.task, for example 'text-classification'.",
                )
            if task not in self.pipelines:
                self.pipelines[task] = self._pipeline(str(task), directory, weights)
            self._set_function(name, self._caller(self.pipelines[task]))

    def _weights(self, directory: Path) -> Path:
        """Find the weights, safe ones first.

        A directory may hold both; transformers is told below to read the safe ones.
        """
        for pattern in ("*.safetensors", "*.bin", "*.pt"):
            found = sorted(directory.glob(pattern))
            if found and pattern != "*.safetensors":
                self._require_pickle(found[0], "the weights are a pickle, not safetensors")
            for path in found:
                if path.stat().st_size == 0:
                    raise ShimError(
                        f"The model file {path.name!r} is empty.",
                        remedy="Save the model again and publish the whole directory.",
                    )
            if found:
                return found[0]
        raise ShimError(
            f"The model directory {directory.name!r} has no weights: no file ends in .safetensors.",
            remedy="Publish every file that save_pretrained wrote.",
        )

    def _pipeline(self, task: str, directory: Path, weights: Path) -> Any:
        arguments = {k: v for k, v in (self.options.get("pipeline") or {}).items() if k not in _NEVER}
        safe = weights.suffix == ".safetensors"
        arguments["model_kwargs"] = {**(arguments.get("model_kwargs") or {}), "use_safetensors": safe}
        self._transformers.utils.logging.disable_progress_bar()
        report = _LoadReport()
        log = logging.getLogger("transformers")
        log.addHandler(report)
        try:
            found = self._transformers.pipeline(task, model=str(directory), **arguments)
        except KeyError as exc:
            if "task" in str(exc):
                raise ShimError(
                    f"transformers {self._transformers.__version__} knows no task {task!r}.",
                    remedy="Correct options.task; the message of transformers lists the tasks: "
                    f"{' '.join(str(exc).split())[:600]}",
                ) from exc
            raise self._load_failed(weights, exc) from exc
        except HomeRunError:
            raise
        except Exception as exc:  # transformers and tokenizers raise OSError, ValueError, bare Exception, …
            raise self._load_failed(_at_fault(directory, weights, exc), exc) from exc
        finally:
            log.removeHandler(report)
        if report.made_up:
            raise ShimError(
                f"{weights.name!r} lacks weights that the task {task!r} needs; transformers would make them "
                f"up at random. {' '.join(report.made_up.split())[:600]}",
                remedy="Name the task it was trained for in options.task, or publish the trained model.",
            )
        return found

    @staticmethod
    def _caller(pipeline: Any) -> Callable[..., Any]:
        def call(inputs: Any, /, **parameters: Any) -> Any:
            return _plain(pipeline(inputs, **parameters))

        return call


class _LoadReport(logging.Handler):
    """Listens for the one warning that makes every answer meaningless: weights that were not in the file."""

    made_up = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "newly initialized" in text:
            self.made_up = text


def _at_fault(directory: Path, weights: Path, exc: Exception) -> Path:
    """Name the file that an error is about, where it says so; else the weights."""
    text = f"{type(exc).__name__}: {exc}".lower()
    for name, sign in (
        ("config.json", "config file"),
        ("tokenizer.json", "tokenizer"),
        ("tokenizer.json", "jsondecode"),
    ):
        if sign in text:
            return directory / name
    return weights


def _plain(value: Any) -> Any:
    """Turn tensors into arrays and scalars of numpy into Python's, through lists and dicts."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else [_plain(v) for v in value]
    return value
