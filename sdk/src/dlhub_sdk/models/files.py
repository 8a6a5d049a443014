"""The part of a description that lists the publisher's files."""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from typing_extensions import Self

from dlhub_sdk.models import layout
from dlhub_sdk.models.dlhub import DLHubMetadata
from dlhub_sdk.models.errors import BundleError, DescriptionError, DescriptionWarning

__all__ = ["FileList", "file_paths"]

# https://repo2docker.readthedocs.io/en/latest/config_files.html
_REPO2DOCKER = (
    "environment.yml",
    "Pipfile",
    "Pipfile.lock",
    "requirements.txt",
    "setup.py",
    "Project.toml",
    "REQUIRE",
    "install.R",
    "apt.txt",
    "DESCRIPTION",
    "manifest.xml",
    "postBuild",
    "start",
    "runtime.txt",
    "default.nix",
    "Dockerfile",
)


def file_paths(files: dict[str, str | list[str] | dict[str, str]]) -> list[str]:
    """Return every path that a ``dlhub.files`` block names."""
    paths: list[str] = []
    for value in files.values():
        paths.extend(_listed(value))
    return paths


def _listed(value: str | list[str] | dict[str, str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    return list(value.values()) if isinstance(value, dict) else value


class FileList:
    """Chainable methods that add files to the block ``dlhub.files``."""

    dlhub: DLHubMetadata
    _targets: dict[str, str]

    def add_file(
        self, file: str | os.PathLike[str], name: str | None = None, *, target: str | None = None
    ) -> Self:
        """Add a file that is published with the servable.

        Parameters
        ----------
        file
            Path of the file here.
        name
            What the file is for, where its shim asks for it by name, such as ``"model"``.
        target
            Its path inside the servable, where the usual place (see
            :mod:`dlhub_sdk.models.layout`) is not the right one.
        """
        path = os.fspath(file)
        if Path(path).is_dir():
            raise DescriptionError(
                f"{path} is a folder.", remedy=f"Add its files with add_directory({path!r}, recursive=True)."
            )
        if target is not None:
            self._targets[path] = layout.check_target(target, path)
        if name is None or name == "other":
            others = _listed(self.dlhub.files.get("other", []))
            self.dlhub.files["other"] = others if path in others else [*others, path]
        else:
            self.dlhub.files[name] = path
        return self

    def add_files(self, files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Self:
        """Add several files."""
        for file in [files] if isinstance(files, (str, os.PathLike)) else files:
            self.add_file(file)
        return self

    def add_directory(
        self,
        directory: str | os.PathLike[str],
        include: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        recursive: bool = False,
    ) -> Self:
        """Add the files of a folder; hidden files and ``__pycache__`` stay out.

        Parameters
        ----------
        directory
            Path of the folder.
        include
            One or more patterns such as ``"*.py"``; only files with such a name are added.
        exclude
            One or more patterns; files with such a name are left out.
        recursive
            Whether to go into the folders inside.
        """
        return self.add_files(list_directory(directory, include, exclude, recursive))

    def parse_repo2docker_configuration(self, directory: str | os.PathLike[str] | None = None) -> Self:
        """Add the repo2docker configuration files of a folder (the working folder by default).

        See https://repo2docker.readthedocs.io/en/latest/config_files.html.
        """
        folder = Path.cwd() / (directory or ".")
        return self.add_files([folder / name for name in _REPO2DOCKER if (folder / name).is_file()])

    def list_files(self) -> list[str]:
        """Return the paths of all files, as they were added."""
        return file_paths(self.dlhub.files)

    def get_zip_file(self, path: str | os.PathLike[str]) -> str:
        """Write the listed files into a new zip archive, each at its place in the servable.

        Returns
        -------
        str
            The folder that the places are relative to.

        Raises
        ------
        FileExistsError
            If the archive is there already.
        BundleError
            If a listed file is missing; no archive is left behind then.
        """
        placed = self._places()
        with ZipFile(path, "x", ZIP_DEFLATED) as archive:
            try:
                for file, target in placed.items():
                    archive.write(file, arcname=target)
            except FileNotFoundError as error:
                Path(path).unlink()
                raise BundleError(
                    f"The file {error.filename} is listed and does not exist.",
                    remedy="Create it, or take it out of model.dlhub.files.",
                ) from error
        return self._get_common_path()

    def _places(self) -> dict[str, str]:
        """Return the path of every listed file inside the servable, by its path here."""
        return layout.place(list(dict.fromkeys(self.list_files())), self._targets)

    def _get_common_path(self) -> str:
        return layout.base_directory(self.list_files())


def list_directory(
    directory: str | os.PathLike[str],
    include: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    recursive: bool = True,
) -> list[str]:
    """Return the paths of the files of a folder, sorted; see :meth:`FileList.add_directory`."""
    root = Path(directory)
    if not root.is_dir():
        raise DescriptionError(f"{root} is not a folder.", remedy="Give the path of a folder that exists.")
    wanted = [include] if isinstance(include, str) else list(include)
    unwanted = [exclude] if isinstance(exclude, str) else list(exclude)
    found = []
    for path in sorted(root.rglob("*") if recursive else root.iterdir()):
        inner = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inner.parts)
        included = not wanted or any(fnmatch.fnmatch(path.name, pattern) for pattern in wanted)
        excluded = any(fnmatch.fnmatch(path.name, pattern) for pattern in unwanted)
        if path.is_file() and included and not hidden and not excluded:
            found.append(str(path))
    if not found:
        warnings.warn(f"No file in {root} matches, so none is added.", DescriptionWarning, stacklevel=3)
    return found
