"""Reads the forms in which a PyTorch model is saved.

Imports torch only inside its functions; `pytorch.TorchServable` is what the rest of the package sees.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from home_run.errors import ShimError
from home_run.shims._base import load_framework
from home_run.shims._consent import require_consent
from home_run.shims._source import import_attribute
from home_run.shims._torch_export import find_code, weights_only

if TYPE_CHECKING:
    from home_run.shims._base import BaseServable

__all__ = ["FORMATS", "find_format"]

_SAFE_WEIGHTS_ONLY = (2, 10)
"""The first torch whose ``weights_only=True`` no file is known to get around: CVE-2025-32434 (below 2.6)
runs code, CVE-2026-24747 (below 2.10) corrupts memory."""


def find_format(path: Path) -> str:
    """Tell how a model was saved from what the file is, for documents that do not say.

    Returns
    -------
    str
        A key of `FORMATS`; ``"module"``, what DLHub documents always meant, when nothing tells.
    """
    if path.suffix == ".pt2":
        return "export"
    if path.suffix == ".safetensors":
        return "state_dict"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                return "torchscript"
    return "module"


def load_torchscript(servable: BaseServable, path: Path, torch: ModuleType, device: Any) -> Any:
    """Load what ``torch.jit.save`` wrote."""
    with warnings.catch_warnings():
        # torch advises whoever saves models to export them; whoever calls one cannot.
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
        model = torch.jit.load(str(path), map_location=device)
    return model.eval()


def load_export(servable: BaseServable, path: Path, torch: ModuleType, device: Any) -> Any:
    """Load what ``torch.export.save`` wrote. It was exported in the mode it runs in."""
    program = _program(servable, path, torch)
    if device.type != "cpu":
        # A program names the device of what it makes itself, so moving its weights would not do.
        program = load_framework("torch.export.passes", distribution="torch").move_to_device_pass(
            program, device
        )
    return program.module()


def _program(servable: BaseServable, path: Path, torch: ModuleType) -> Any:
    if not zipfile.is_zipfile(path):  # torch prints a page of traceback before it says so
        raise zipfile.BadZipFile("it is not a complete .pt2 archive")
    if servable.allow_pickle:
        return torch.export.load(str(path))
    _require_safe_weights(servable, path, torch)
    code = find_code(path)
    if code is not None:
        require_consent(servable, path, code)
    with weights_only():
        return torch.export.load(str(path))


def load_state_dict(servable: BaseServable, path: Path, torch: ModuleType, device: Any) -> Any:
    """Build the class that options name and fill it with the saved weights."""
    dotted = servable.options.get("class")
    if not dotted:
        raise ShimError(
            f"{path.name!r} holds weights only, and the document does not say of which class.",
            remedy="Name it in options.class as 'module.Class', with options.args and options.kwargs for "
            "its constructor, and add the module's file to the servable.",
        )
    weights = _weights(servable, path, torch)
    factory = import_attribute(servable.directory, str(dotted))
    try:
        model = factory(*servable.options.get("args", ()), **servable.options.get("kwargs", {}))
    except Exception as exc:  # the constructor is the publisher's code
        raise ShimError(
            f"{dotted} cannot be constructed from options.args and options.kwargs: "
            f"{type(exc).__name__}: {exc}.",
            remedy="Give the arguments the model was trained with.",
        ) from exc
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        raise ShimError(
            f"The weights in {path.name!r} do not fit {dotted} as options.args and options.kwargs build it: "
            f"{' '.join(str(exc).split())}.",
            remedy="Give the arguments the model was trained with, or publish the weights that belong to it.",
        ) from exc
    return model.to(device).eval()


def load_module(servable: BaseServable, path: Path, torch: ModuleType, device: Any) -> Any:
    """Load a whole module that ``torch.save`` pickled."""
    servable._require_pickle(path, "a whole PyTorch module is saved as a pickle")
    try:
        model = torch.load(str(path), map_location=device, weights_only=False)
    except (AttributeError, ModuleNotFoundError) as exc:
        raise ShimError(
            f"The module in {path.name!r} needs code that is not here: {exc}.",
            remedy="Add the file that defines its class to the servable (a class of a notebook cannot be "
            "found again), or publish it with torch.export instead.",
        ) from exc
    if isinstance(model, Mapping):
        raise ShimError(
            f"{path.name!r} holds a state dict, not a module.",
            remedy="Set options.format to 'state_dict' and name the class in options.class.",
        )
    return model.eval()


FORMATS: dict[str, Callable[[BaseServable, Path, ModuleType, Any], Any]] = {
    "torchscript": load_torchscript,
    "export": load_export,
    "state_dict": load_state_dict,
    "module": load_module,
}
"""``options.format`` → the function that loads it, as ``f(servable, path, torch, device)``."""


def _weights(servable: BaseServable, path: Path, torch: ModuleType) -> Any:
    if path.suffix == ".safetensors":
        return load_framework("safetensors.torch", distribution="safetensors").load_file(str(path))
    _require_safe_weights(servable, path, torch)
    return torch.load(str(path), map_location="cpu", weights_only=True)


def _require_safe_weights(servable: BaseServable, path: Path, torch: ModuleType) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _SAFE_WEIGHTS_ONLY:
        require_consent(
            servable, path, f"torch {torch.__version__} can be made to by weights alone; 2.10 cannot"
        )
