"""The base of all builders: a description that grows by chained calls and becomes a document."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import Self

from dlhub_sdk.models import layout
from dlhub_sdk.models.citation import CitationSetters
from dlhub_sdk.models.datacite import Datacite
from dlhub_sdk.models.dlhub import DLHubMetadata
from dlhub_sdk.models.document import ServableDocument
from dlhub_sdk.models.errors import DescriptionError, InvalidDocumentError
from dlhub_sdk.models.files import FileList
from dlhub_sdk.models.requirements import RequirementList

__all__ = ["BaseMetadataModel"]


class BaseMetadataModel(CitationSetters, FileList, RequirementList):
    """A description of something that a hub publishes.

    Descriptions are made with ``create_model(…)`` of the class for the kind of model, which reads
    what the model's files say about it. A title and a name are up to the publisher; so are an
    abstract, authors, and papers to cite. Every setter returns the description::

        model = ScikitLearnModel.create_model("model.skops")
        model.set_title("Iris species").set_name("iris").add_requirement("scikit-learn", "detect")

    The parts are the attributes ``datacite``, ``dlhub`` and ``servable``, and the keys of the
    same names: ``model["datacite"]["titles"][0]["title"]``.
    """

    _blocks: ClassVar[tuple[str, ...]] = ("datacite", "dlhub")

    def __init__(self) -> None:
        self._document = ServableDocument()
        self._targets: dict[str, str] = {}
        self._attachments: dict[str, bytes] = {}

    @property
    def datacite(self) -> Datacite:
        """The citation."""
        return self._document.datacite

    @datacite.setter
    def datacite(self, value: Datacite | Mapping[str, Any]) -> None:
        self._document["datacite"] = value

    @property
    def dlhub(self) -> DLHubMetadata:
        """What the hub needs to know."""
        return self._document.dlhub

    @dlhub.setter
    def dlhub(self, value: DLHubMetadata | Mapping[str, Any]) -> None:
        self._document["dlhub"] = value

    @property
    def name(self) -> str | None:
        """The name, or None as long as none is set."""
        return self.dlhub.name

    def __getitem__(self, key: str) -> Any:
        if key not in self._blocks and key not in (self._document.model_extra or {}):
            raise KeyError(key)
        return self._document[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._document[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._blocks

    @classmethod
    def create_model(cls, *args: Any, **kwargs: Any) -> Self:
        """Start a description; each kind of model has its own arguments."""
        return cls()

    def to_dict(self, simplify_paths: bool = False, save_class_data: bool = False) -> dict[str, Any]:
        """Return the description as JSON-able dictionaries.

        Parameters
        ----------
        simplify_paths
            Whether to write the place of each file inside the servable in place of its path here.
        save_class_data
            Whether to add the name of this class, as ``"@class"``.

        Raises
        ------
        InvalidDocumentError
            If something is missing or wrong; the error says all of it in sentences.
        """
        plain = {key: value for key, value in self._document.dict().items() if key != "servable"}
        if "servable" in self._blocks:
            plain["servable"] = self._document.servable.dict()
        checked = ServableDocument.parse_obj(plain)
        found = self._find_problems(checked)
        if found:
            raise InvalidDocumentError(found)
        out = checked.to_dict()
        if "servable" not in self._blocks:
            del out["servable"]
        if simplify_paths:
            out["dlhub"]["files"] = _map_paths(out["dlhub"]["files"], self._places())
        if save_class_data:
            out["@class"] = f"{type(self).__module__}.{type(self).__qualname__}"
        return out

    def _find_problems(self, document: ServableDocument) -> list[str]:
        return [text for text in document.find_problems() if not text.startswith("servable.")]

    def dict(self, **options: Any) -> Any:
        """Return the parts as dictionaries, complete or not; ``exclude_none=True`` cuts empty fields."""
        return {block: self._document[block].dict(**options) for block in self._blocks}

    def json(self, **options: Any) -> str:
        """Return :meth:`to_dict` as JSON text; the options are those of ``json.dumps``."""
        return json.dumps(self.to_dict(), **options)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a description from dictionaries, of this or an earlier release."""
        from dlhub_sdk.models.document import load_document

        model = cls()
        values = {key: value for key, value in data.items() if key != "@class"}
        model._document = load_document(values)
        return model

    def save(self, path: str | os.PathLike[str] = "dlhub.json") -> Path:
        """Write the description, and the arrays of its test, next to the files it names.

        Parameters
        ----------
        path
            The file to write, or the folder to write ``dlhub.json`` into. File paths in it are
            relative to that folder, so all files must lie in it;
            ``Bundle.from_model(model).write(folder)`` copies them there where they do not.

        Returns
        -------
        Path
            The file that was written.
        """
        file = _document_path(path)
        places = {each: _relative(each, file.parent) for each in self.list_files()}
        document = self.to_dict()
        document["dlhub"]["files"] = _map_paths(document["dlhub"]["files"], places)
        for target, content in self._attachments.items():
            (file.parent / target).parent.mkdir(parents=True, exist_ok=True)
            (file.parent / target).write_bytes(content)
        file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str] = "dlhub.json") -> Self:
        """Read a description that :meth:`save` wrote, or a ``dlhub.json`` of an earlier release.

        Called on a base class, it returns the builder for the document's shim.
        """
        file = _document_path(path)
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DescriptionError(
                f"There is no file {file}.", remedy="Write one with model.save()."
            ) from error
        except ValueError as error:
            raise DescriptionError(f"{file} is not JSON: {error}.", remedy="Write it anew.") from error
        model = cls._builder_for(data).from_dict(data)
        named = model.list_files()
        model.dlhub.files = _map_paths(model.dlhub.files, {each: str(file.parent / each) for each in named})
        model._targets = {str(file.parent / each): layout.check_target(each, each) for each in named}
        for each in _attached(model.dlhub.test):
            model._attachments[each] = (file.parent / each).read_bytes()
        return model

    @classmethod
    def _builder_for(cls, data: Mapping[str, Any]) -> type[Self]:
        return cls


def _attached(test: Any) -> list[str]:
    """Return the frame files that a test names."""
    values = [test.inputs, test.outputs] if test is not None else []
    return [value["file"] for value in values if isinstance(value, dict) and set(value) == {"file"}]


def _document_path(path: str | os.PathLike[str]) -> Path:
    return Path(path) / "dlhub.json" if Path(path).is_dir() else Path(path)


def _relative(file: str, folder: Path) -> str:
    inner = Path(os.path.relpath(file, folder))
    if ".." in inner.parts or inner.is_absolute():
        raise DescriptionError(
            f"The file {file} lies outside {folder}, where the description is written.",
            remedy="Copy it there, or write everything with Bundle.from_model(model).write(folder).",
        )
    return inner.as_posix()


def _map_paths(files: Any, places: Mapping[str, str]) -> Any:
    """Return a ``dlhub.files`` block with every path replaced."""
    if isinstance(files, str):
        return places[files]
    if isinstance(files, Mapping):
        return {key: _map_paths(value, places) for key, value in files.items()}
    return [_map_paths(value, places) for value in files]
