"""Site profiles: one cluster's settings, checked, and everything that is made of them.

::

    profile.yaml ── load_profile ──> SiteProfile ── choose(Choice) ──> SiteProfile for one servable
                                         │
                                         ├── make_provider   what the agent's workers run on
                                         ├── render_parsl    a parsl.Config, for scripts
                                         └── render_stock    what an unmodified globus-compute-endpoint loads
"""

from __future__ import annotations

from endpoint_plugins.profiles.base import SiteProfile
from endpoint_plugins.profiles.bundled import bundled_profiles, find_profile, known_profiles
from endpoint_plugins.profiles.choice import Choice
from endpoint_plugins.profiles.dump import dump_profile
from endpoint_plugins.profiles.engine import engine_document
from endpoint_plugins.profiles.fields import profile_schema
from endpoint_plugins.profiles.load import load_profile, parse_profile
from endpoint_plugins.profiles.providers import make_provider, worker_init
from endpoint_plugins.profiles.render_parsl import render_parsl
from endpoint_plugins.profiles.render_stock import StockFiles, render_stock

__all__ = [
    "Choice",
    "SiteProfile",
    "StockFiles",
    "bundled_profiles",
    "dump_profile",
    "engine_document",
    "find_profile",
    "known_profiles",
    "load_profile",
    "make_provider",
    "parse_profile",
    "profile_schema",
    "render_parsl",
    "render_stock",
    "worker_init",
]
