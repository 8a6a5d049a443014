"""The policy of an endpoint: what holds, what the rules would change, and telling everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint_plugins.agent.directory import EndpointDirectory
from endpoint_plugins.credentials import Credentials
from endpoint_plugins.errors import HubError, HubNotAuthorisedError, SiteError, UnknownNameError
from endpoint_plugins.places import profile_path, write_whole
from endpoint_plugins.policy import COMPILED_NAME, POLICY_NAME, CompiledPolicy, PolicyFile
from endpoint_plugins.policy.rules import PUBLIC
from endpoint_plugins.profiles import load_profile
from endpoint_plugins.site.hub_api import EndpointSettings, HubApi, Version
from endpoint_plugins.site.policy_compile import Compilation, compile_policy
from endpoint_plugins.site.policy_effect import Row, Standing, compare
from endpoint_plugins.site.stock_config import with_allowed_functions


@dataclass(frozen=True)
class Comparison:
    """What holds now, and what would.

    Attributes
    ----------
    before, after
        What lets calls in.
    rows
        Users and versions.
    compilation
        What the rules come to.
    config_before
        With what the hub starts its workers; None where it was not told.
    problem
        Of what holds now.
    notes
        What the administrator should know.
    hub
        What the hub has set; None where it was not asked.
    """

    before: Standing
    after: Standing
    rows: list[Row]
    compilation: Compilation
    config_before: Mapping[str, Any] | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    hub: EndpointSettings | None = None


@dataclass(frozen=True)
class Site:
    """An endpoint whose policy is looked at. Methods block."""

    directory: EndpointDirectory
    credentials: Credentials

    @classmethod
    def open(cls, name: str) -> Site:
        """The endpoint of that name.

        Raises
        ------
        UnknownNameError
            There is none.
        """
        return cls(EndpointDirectory(profile_path(name).parent), Credentials.load())

    @property
    def rules(self) -> Path:
        """The administrator's file."""
        return self.directory.path / POLICY_NAME

    def holding(self) -> Comparison:
        """What holds now, whatever the rules would change."""
        hub, notes = self._hub_settings()
        file = PolicyFile(self.directory.path)
        now = self._standing(hub, file.current())
        compilation = Compilation(now.policy, now.serves, now.policy.config, None, ())
        config = hub.config if hub else None
        return Comparison(now, now, compare(now, now), compilation, config, file.problem, notes, hub)

    def compare(self) -> Comparison:
        """What the rules would change.

        Raises
        ------
        SiteError
            They are wrong, or names cannot be looked up.
        """
        profile = load_profile(self.directory.path / "profile.yaml")
        compilation = compile_policy(self.rules, _Names(self.credentials), profile)
        hub, notes = self._hub_settings()
        compilation = _with_config(compilation, self._compiled_before())
        # Rules that nobody has compiled yet let nothing in; what they replace is what is to be compared.
        before = self._standing(hub, self._compiled_before())
        serves = before.serves if compilation.serves is None else compilation.serves
        after = Standing(before.owner, serves, compilation.compiled)
        config = hub.config if hub else None
        rows = compare(before, after)
        return Comparison(before, after, rows, compilation, config, "", (*compilation.notes, *notes), hub)

    def differences(self, found: Comparison) -> list[str]:
        """Sentences about what has still to be compiled, or told to the hub."""
        problems = []
        path = self.directory.path / COMPILED_NAME
        if not path.exists():
            problems.append("It was never compiled, so nothing may run: `dlhub-endpoint policy compile`.")
        elif CompiledPolicy.load(path) != found.compilation.compiled:
            problems.append("What was compiled is not up to date: `dlhub-endpoint policy compile`.")
        if found.hub is not None and not _is_told(found.hub, found.compilation):
            problems.append("The hub was told something else: `dlhub-endpoint policy compile --apply`.")
        return problems

    def write(self, found: Comparison) -> Path:
        """Write what the agent reads; returns the file."""
        path = self.directory.path / COMPILED_NAME
        write_whole(path, found.compilation.compiled.model_dump_json(indent=1) + "\n")
        return path

    @staticmethod
    def write_stock(found: Comparison, path: Path) -> Path:
        """Write the allowed functions into a stock endpoint's ``config.yaml``; returns the file."""
        try:
            text = path.read_text("utf-8")
            mode = path.stat().st_mode & 0o777
        except (OSError, UnicodeDecodeError) as error:
            raise SiteError(f"The file {str(path)!r} cannot be read: {error}.") from error
        write_whole(path, with_allowed_functions(text, found.compilation.allowed_functions), mode=mode)
        return path

    def require_hub(self, found: Comparison) -> None:
        """Make sure that the hub can be told.

        Raises
        ------
        HubError
            The endpoint is not registered, or not this account's to change.
        """
        if self.directory.endpoint_id is None:
            raise HubError(
                f"The endpoint {self.directory.name} was never registered, so the hub cannot be told.",
                remedy=f"`dlhub-endpoint check {self.directory.name} --no-block` registers it.",
            )
        if found.hub is None:
            # Says why.
            with HubApi(self.credentials) as hub:
                hub.endpoint(self.directory.endpoint_id)
        elif found.hub.config is None:
            raise HubNotAuthorisedError(
                f"The endpoint {self.directory.name} is {found.hub.owner}'s, not this account's to change.",
                remedy=f"Use a token of {found.hub.owner} as DLHUB_TOKEN.",
            )

    def apply(self, found: Comparison) -> bool:
        """Tell the hub, once `require_hub` was asked."""
        endpoint_id = self.directory.endpoint_id
        assert endpoint_id is not None, "required"
        compilation = found.compilation
        with HubApi(self.credentials) as hub:
            hub.configure(
                endpoint_id,
                serves=None if compilation.serves is None else sorted(compilation.serves),
                config=compilation.config,
            )
        return True

    def _compiled_before(self) -> CompiledPolicy:
        path = self.directory.path / COMPILED_NAME
        return CompiledPolicy.load(path) if path.exists() else CompiledPolicy()

    def _standing(self, hub: EndpointSettings | None, policy: CompiledPolicy) -> Standing:
        return Standing(hub.owner if hub else "", hub.serves if hub else None, policy)

    def _hub_settings(self) -> tuple[EndpointSettings | None, tuple[str, ...]]:
        """What the hub has set, or why that is not known."""
        endpoint_id = self.directory.endpoint_id
        if endpoint_id is None:
            return None, ("The endpoint was never registered, so the hub has nothing set for it.",)
        try:
            with HubApi(self.credentials) as hub:
                return hub.endpoint(endpoint_id), ()
        except (HubError, UnknownNameError) as error:
            return None, (f"What the hub has set is not known: {error}",)


class _Names:
    """Asks the hub for versions, and only where a rule has a name."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def versions(self, owner: str, name: str) -> list[Version]:
        with HubApi(self._credentials) as hub:
            return hub.versions(owner, name)

    def servables(self, owner: str) -> list[str]:
        with HubApi(self._credentials) as hub:
            return hub.servables(owner)


def _with_config(compilation: Compilation, before: CompiledPolicy) -> Compilation:
    """The same, which takes back what an earlier compilation had set."""
    if compilation.config is None and before.config:
        return Compilation(
            compilation.compiled,
            compilation.serves,
            {},
            compilation.allowed_functions,
            compilation.notes,
        )
    return compilation


def _is_told(hub: EndpointSettings, compilation: Compilation) -> bool:
    serves = compilation.serves is None or hub.serves - {hub.owner} == compilation.serves - {hub.owner}
    if compilation.serves is not None and PUBLIC in compilation.serves:
        serves = PUBLIC in hub.serves
    return serves and (compilation.config is None or dict(hub.config or {}) == dict(compilation.config))
