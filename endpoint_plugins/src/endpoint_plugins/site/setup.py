"""``init``: from what was found and answered to a profile on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from endpoint_plugins.credentials import Credentials, normal_url
from endpoint_plugins.errors import ProfileError, SiteError
from endpoint_plugins.places import PROFILE_NAME, endpoint_dir, make_private, write_whole
from endpoint_plugins.profiles import SiteProfile, find_profile, parse_profile
from endpoint_plugins.profiles.providers import check_software
from endpoint_plugins.site.answers import Answers
from endpoint_plugins.site.findings import Findings
from endpoint_plugins.site.proposal import Proposal, Question, adopt, propose, set_dotted
from endpoint_plugins.site.writing import write_profile

NO_SITE = "none"

_HEADING = """\
Site profile of the endpoint {name}, written by `dlhub-endpoint init`. It is yours to edit.
`dlhub-endpoint check {name}` tries it; `dlhub-endpoint profile --help` tells of every setting."""

_CREDENTIALS = (
    Question("gateway_url", "Address of the hub's gateway, like https://hub.example.org:5000"),
    Question("client_id", "Id of this site's client, from `dlhub clients create`"),
    Question("client_secret", "Its secret"),
)


@dataclass(frozen=True)
class Plan:
    """A profile that is ready to be written.

    Attributes
    ----------
    text
        The YAML.
    profile
        The same, read.
    fields, reasons
        Settings, and why.
    notes
        What a person should know.
    """

    text: str
    profile: SiteProfile
    fields: Mapping[str, Any]
    reasons: Mapping[str, str]
    notes: tuple[str, ...]


def plan(
    name: str,
    findings: Findings,
    answers: Answers,
    settings: Mapping[str, Any],
    *,
    site: str | None = None,
    queue: str | None = None,
) -> Plan:
    """Make the profile; questions that nobody answers are in ``answers.missing``.

    Parameters
    ----------
    name
        Of the endpoint.
    findings
        What was found.
    answers
        Answers the questions.
    settings
        Settings in place of those found, by dotted name.
    site
        A known machine, by name, `NO_SITE` for none, None for the one that this is.
    queue
        The partition or queue to use.

    Raises
    ------
    ProfileError
        The settings are no profile.
    UnknownNameError
        There is no profile of that site.
    """
    proposal = _proposal(name, findings, answers, site, queue)
    for question in proposal.questions:
        if question.key not in settings:
            value = answers.get(question)
            if value is not None:
                proposal.put(
                    question.key, value, "your answer" if value != question.default else "the default"
                )
    for setting, value in settings.items():
        proposal.put(setting, value, "you said so")
    _settle(proposal)
    text = write_profile(proposal.fields, proposal.reasons, heading=_HEADING.format(name=name))
    profile = parse_profile(text, where="the profile to be written", complete=False)
    try:
        check_software(profile)
    except ProfileError as error:
        proposal.notes.append(str(error))
    return Plan(text, profile, proposal.fields, proposal.reasons, tuple(proposal.notes))


def credentials(given: Mapping[str, str], answers: Answers) -> tuple[Credentials, bool]:
    """What the hub knows this site by, and whether something of it is new and to be stored.

    Raises
    ------
    ProfileError
        What there is cannot be used.
    """
    found = Credentials.load()
    told = {key: value for key, value in given.items() if value}
    for question in _CREDENTIALS:
        if question.key not in told and not getattr(found, question.key):
            answer = answers.get(question)
            if answer is not None:
                told[question.key] = str(answer)
    for key in ("gateway_url", "url"):
        if key in told:
            told[key] = normal_url(told[key])
    return dataclasses.replace(found, **told), bool(told)


def write(name: str, text: str, *, force: bool = False) -> Path:
    """Write the profile of an endpoint; returns the file.

    Raises
    ------
    ProfileError
        There is one already, and `force` is not set.
    SiteError
        It cannot be written.
    """
    path = endpoint_dir(name) / PROFILE_NAME
    if path.exists() and not force:
        raise ProfileError(
            f"The endpoint {name} has a profile already: {path}.",
            remedy="Edit it, give another name, or write a new one in its place with --force.",
        )
    try:
        make_private(path.parent)
    except OSError as error:
        raise SiteError(f"The directory {str(path.parent)!r} cannot be made: {error.strerror}.") from error
    write_whole(path, text)
    return path


def _proposal(
    name: str, findings: Findings, answers: Answers, site: str | None, queue: str | None
) -> Proposal:
    if site is None and findings.known_sites:
        text = f"A profile of this machine is at hand; which one ({NO_SITE}: what was found here)"
        options = (*findings.known_sites, NO_SITE)
        site = str(answers.get(Question("site", text, findings.known_sites[0], options)))
    if site is None or site == NO_SITE:
        return propose(name, findings, queue=queue)
    content = yaml.safe_load(find_profile(site).read_text("utf-8"))
    proposal = adopt(name, content, site, findings)
    if queue is not None:
        proposal.put("partition" if content["scheduler"] == "slurm" else "queue", queue, "you named it")
    return proposal


def _settle(proposal: Proposal) -> None:
    """Let what was asked fit together with what was found."""
    fields = proposal.fields
    choices = fields.get("choices")
    limits = (("max_walltime_s", "walltime_s"),)
    for limit, own in limits:
        most = choices.get(limit) if isinstance(choices, dict) else None
        value = fields.get(own)
        if isinstance(most, int) and isinstance(value, int) and value > most:
            set_dotted(fields, f"choices.{limit}", value)
    if "address" in fields and fields.get("interface") and proposal.reasons.get("address") == "you said so":
        del fields["interface"]
