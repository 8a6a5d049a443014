"""The part of a description that names the libraries a servable needs."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import Self

from dlhub_sdk.models.dlhub import DLHubMetadata

__all__ = ["RequirementList", "requirement_lines"]


class RequirementList:
    """Chainable methods that fill ``dlhub.dependencies``."""

    dlhub: DLHubMetadata

    def add_requirement(self, library: str, version: str | None = None) -> Self:
        """Add a Python library that the servable needs.

        Parameters
        ----------
        library
            Its name on the package index, or ``git+https://…`` of a repository. With
            ``"detect"`` the name of a module does too.
        version
            A version; ``"detect"`` for the one installed here; ``"latest"`` for the newest one
            that the package index has; ``None`` for the one installed here when the servable is
            published.

        Raises
        ------
        RequirementError
            If the version cannot be detected, or the package index does not answer.
        """
        from dlhub_sdk import environment

        if version == "detect":
            found, version = environment.installed_version(library)
            if library.lower() != found.lower():
                library = found
        elif version == "latest":
            version = environment.latest_version(library)
        self.dlhub.dependencies.setdefault("python", {})[library] = version
        return self

    def add_requirements(self, requirements: Mapping[str, str | None]) -> Self:
        """Add several libraries: name to version."""
        for library, version in requirements.items():
            self.add_requirement(library, version)
        return self


def requirement_lines(dependencies: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    """Return a ``dlhub.dependencies`` block as lines of a requirements file."""
    lines = []
    for library, version in dependencies.get("python", {}).items():
        exact = version is not None and version[:1].isdigit()
        lines.append(library if not version else f"{library}{'==' if exact else ''}{version}")
    return lines
