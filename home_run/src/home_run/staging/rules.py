"""What a site allows: the variable ``DLHUB_STAGING``, a JSON object or the path of a file with one.

====================== ====================================================================================
``schemes``            Kinds of references; default ``["hub"]``. ``http`` has to be named by itself.
``roots``              Directories that ``file`` references may be read in. Symbolic links may not lead out.
``writable_roots``     Directories that outputs may be written to.
``in_place``           Hand out files below the roots as they are, rather than a copy that nobody changes
                       meanwhile. Only where everybody who can write there is trusted. Default: false.
``hosts``              Hosts of ``https``, ``http`` and ``sftp``, ``*.example.org`` for all below one,
                       ``host:port`` for a port that is not the usual one; default: every one with a public
                       address.
``private_hosts``      Hosts, in the same form, that may have an address of a private network.
``buckets``            ``bucket`` or ``bucket/prefix`` that the site's own credentials are used for. Others
                       are read without any, and never written to.
``s3_endpoint``        Address of an S3 service that is not Amazon's.
``globus``             ``{"collection": id, "root": directory}``: the site's own collection, to which Transfer
                       brings files, and where that is on the worker. Without it they come by HTTPS.
``collections``        Globus collections; default: every one that the site's identity can read.
``stores``             ``{"name": {"connector": "module.Class", "config": {…}}}``: the site's ProxyStores.
``max_bytes``          Largest file; default ``DLHUB_MAX_FILE_BYTES``.
``caller_credentials`` Take https URLs with a user or a signature, and headers, from callers. Default: false.
``credentials``        File with the site's credentials; see `home_run.staging.keys`.
====================== ====================================================================================

Paths may begin with ``~`` and have variables of the worker's environment in them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from home_run.errors import FileFetchError
from home_run.files import max_file_bytes
from home_run.remote.errors import SiteSetupError
from home_run.staging.errors import ReferenceRefusedError
from home_run.staging.references import SCHEMES, Reference

__all__ = ["Rules", "parse_rules", "read_rules"]

_NAME = "DLHUB_STAGING"
_PATHS = ("roots", "writable_roots", "credentials")
_PORTS = {"https": 443, "http": 80, "sftp": 22}


@dataclass(frozen=True)
class Rules:
    """The rules of a site; see the module's description."""

    schemes: tuple[str, ...] = ("hub",)
    roots: tuple[str, ...] = ()
    writable_roots: tuple[str, ...] = ()
    in_place: bool = False
    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    s3_endpoint: str = ""
    globus: Mapping[str, str] | None = None
    collections: tuple[str, ...] = ()
    stores: Mapping[str, Any] | None = None
    max_bytes: int = 0
    caller_credentials: bool = False
    credentials: str = ""

    def check(self, reference: Reference) -> None:
        """Let a reference pass, or not.

        Raises
        ------
        ReferenceRefusedError
            If the site takes none of that kind, or it carries credentials.
        FileFetchError
            If it says itself that it is too large.
        """
        if reference.scheme == "file" and "file" not in self.schemes:
            raise ReferenceRefusedError(
                f"The file {reference.path!r:.200} is a path on the worker, and this site does not read "
                "those.",
                remedy="Send the content, or a reference of a kind that the site takes: "
                f"{', '.join(self.schemes) or 'none'}.",
            )
        if reference.scheme not in self.schemes:
            raise ReferenceRefusedError(
                f"The file {reference.shown!r:.200} has the scheme {reference.scheme!r}, and this site takes "
                f"{', '.join(self.schemes) or 'no references'}.",
                remedy=f"Ask the site to add {reference.scheme!r} to the schemes of its staging rules.",
            )
        allowed = self.caller_credentials and reference.scheme in ("https", "http")
        if reference.scheme != "hub" and reference.carries_credentials and not allowed:
            raise ReferenceRefusedError(
                f"The reference to {reference.shown!r:.200} carries credentials (a user, a signed query, or "
                "headers), which have no place in a task.",
                remedy="Leave them out: the site can hold them in its credentials file, or allow "
                "caller_credentials.",
            )
        self.check_size(reference.size or 0, reference)

    def check_size(self, size: int, reference: Reference) -> None:
        """Raise `FileFetchError` for a file of more bytes than the site takes."""
        limit = self.max_bytes or max_file_bytes()
        if size > limit:
            raise FileFetchError(
                f"The file {reference.shown!r:.200} has {size} bytes, more than the {limit} this site takes.",
                remedy="Name a smaller file, or ask the site to raise max_bytes of its staging rules.",
            )

    def check_host(self, reference: Reference) -> int:
        """Return the port of an allowed host.

        Raises
        ------
        ReferenceRefusedError
            If the site does not allow it.
        """
        usual = _PORTS[reference.scheme]
        port = reference.port or usual
        if self.is_private_host(reference.host, port, usual):
            return port
        if self.hosts and not _matches(self.hosts, reference.host, port, usual):
            problem = f"this site takes data from {', '.join(self.hosts)}"
        elif not self.hosts and port != usual:
            problem = f"this site takes data from port {usual} only"
        else:
            return port
        raise ReferenceRefusedError(
            f"The file {reference.shown!r:.200} is refused: {problem}.",
            remedy=f"Ask the site to add '{reference.host}{'' if port == usual else f':{port}'}' to the "
            "hosts of its staging rules.",
        )

    def is_private_host(self, host: str, port: int, usual: int) -> bool:
        """Whether a host may have an address of a private network."""
        return _matches(self.private_hosts, host, port, usual)

    def lists_bucket(self, bucket: str, key: str) -> bool:
        """Whether the site's own credentials are for an object."""
        for entry in self.buckets:
            name, _, prefix = entry.partition("/")
            if name == bucket and key.startswith(prefix):
                return True
        return False


def _matches(patterns: tuple[str, ...], host: str, port: int, usual: int) -> bool:
    for pattern in patterns:
        name, _, allowed = pattern.lower().partition(":")
        if port == int(allowed or usual) and (
            host == name or (name.startswith("*.") and host.endswith(name[1:]))
        ):
            return True
    return False


def read_rules() -> Rules:
    """Read the site's rules from ``DLHUB_STAGING``.

    Raises
    ------
    SiteSetupError
        If they cannot be read; what is wrong is named.
    """
    return parse_rules(os.environ.get(_NAME, ""))


def parse_rules(text: str) -> Rules:
    """Read rules: a JSON object, the path of a file with one, or nothing.

    Raises
    ------
    SiteSetupError
        If they cannot be read; what is wrong is named.
    """
    text = text.strip()
    try:
        if text and not text.startswith("{"):
            text = Path(text).expanduser().read_text(encoding="utf-8")
        content = json.loads(text or "{}")
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        return Rules(**_checked(content))
    except (OSError, ValueError) as exc:
        raise SiteSetupError(
            f"The site's staging rules cannot be read: {exc}.",
            remedy=f"The site can correct {_NAME}: a JSON object, or the path of a file with one.",
        ) from exc


def _expanded(value: Any) -> Any:
    """Fill in the home directory and variables of the machine in a path, or in several."""
    if isinstance(value, tuple):
        return tuple(map(_expanded, value))
    return os.path.expandvars(Path(value).expanduser()) if value else value


def _checked(content: Mapping[str, Any]) -> dict[str, Any]:
    known = {each.name: each.default for each in fields(Rules)}
    out: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
        default = known[name]
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
                raise ValueError(f"{name} is {value!r:.80}, not a list of texts")
            value = tuple(value)
        elif default is None:
            if not isinstance(value, dict):
                raise ValueError(f"{name} is {value!r:.80}, not an object")
        elif type(value) is not type(default):
            raise ValueError(f"{name} is {value!r:.80}, not {type(default).__name__}")
        out[name] = _expanded(value) if name in _PATHS else value
    if "globus" in out:
        out["globus"] = {name: _expanded(str(value)) for name, value in out["globus"].items()}
    unknown = [scheme for scheme in out.get("schemes", ()) if scheme not in SCHEMES]
    if unknown:
        raise ValueError(f"the scheme {unknown[0]!r} is none of {', '.join(SCHEMES)}")
    for entry in (*out.get("hosts", ()), *out.get("private_hosts", ())):
        port = entry.partition(":")[2]
        if port and not port.isdigit():
            raise ValueError(f"the host {entry!r} has no number for a port")
    return out
