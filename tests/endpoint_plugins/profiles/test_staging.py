"""The rules for data in a profile are those that workers read."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from pydantic import ValidationError

from endpoint_plugins.profiles import SiteProfile, worker_init
from endpoint_plugins.profiles.parts import Staging
from endpoint_plugins.profiles.schedulers import LocalProfile
from endpoint_plugins.profiles.staging import staging_variables
from home_run.remote.settings import files_bytes
from home_run.staging.rules import Rules, parse_rules

EVERYTHING: dict[str, Any] = {
    "schemes": ["hub", "file", "s3", "globus"],
    "hosts": ["*.example.org", "data.example.com:8443"],
    "private_hosts": ["minio.local:9000"],
    "roots": ["/projects/its-shared"],
    "writable_roots": ["$SCRATCH/out"],
    "in_place": True,
    "buckets": ["beamline-7/raw/"],
    "s3_endpoint": "https://minio.local:9000",
    "collections": ["6c54cade-bde5-45c1-bdea-f4bd71dba2cc"],
    "globus_collection": "b782400e-3e59-412c-8f73-56cd0782301f",
    "globus_root": "/projects/globus",
    "credentials": "~/staging.json",
    "max_gib": 0.5,
    "cache_gib": 1.5,
}


def local(**staging: Any) -> SiteProfile:
    return LocalProfile.model_validate({"name": "laptop", "scheduler": "local", "staging": staging})


def test_a_site_without_rules_has_those_of_workers() -> None:
    assert staging_variables(local()) == {}
    assert worker_init(local()) == ""
    assert parse_rules("").schemes == Staging().schemes
    assert files_bytes() == Staging().cache_gib * 2**30


def test_workers_read_what_the_profile_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    printed = subprocess.run(
        [
            "sh",
            "-c",
            f'{worker_init(local(**EVERYTHING))}\nprintf "%s %s" "$DLHUB_FILES_BYTES" "$DLHUB_STAGING"',
        ],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    ).stdout
    size, _, printed = printed.partition(" ")
    monkeypatch.setenv("DLHUB_FILES_BYTES", size)
    assert files_bytes() == 3 << 29
    assert printed == staging_variables(local(**EVERYTHING))["DLHUB_STAGING"]
    assert parse_rules(printed) == Rules(
        schemes=("hub", "file", "s3", "globus"),
        hosts=("*.example.org", "data.example.com:8443"),
        private_hosts=("minio.local:9000",),
        roots=("/projects/its-shared",),
        writable_roots=("/scratch/me/out",),
        in_place=True,
        buckets=("beamline-7/raw/",),
        s3_endpoint="https://minio.local:9000",
        collections=("6c54cade-bde5-45c1-bdea-f4bd71dba2cc",),
        globus={"collection": "b782400e-3e59-412c-8f73-56cd0782301f", "root": "/projects/globus"},
        credentials="/home/me/staging.json",
        max_bytes=1 << 29,
    )


@pytest.mark.parametrize(
    "staging",
    [
        {"schemes": ["file"]},
        {"globus_root": "/x"},
        {"globus_collection": "b782400e-3e59-412c-8f73-56cd0782301f"},
        {"hosts": ["a b"]},
        {"s3_endpoint": "minio"},
        {"buckets": ["../x"]},
    ],
)
def test_rules_that_cannot_be_are_refused(staging: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        local(**staging)
