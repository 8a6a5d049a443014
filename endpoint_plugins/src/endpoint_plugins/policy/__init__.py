"""What a site lets run: its administrator's rules, and what they come to for the agent.

`rules` is ``policy.yaml`` as people write it, with names; `compiled` is ``policy.compiled.json`` as the agent
reads it, with digests; `terms` is what workers have, held against that. `endpoint_plugins.site` makes the one
from the other, which takes the hub.
"""

from __future__ import annotations

from endpoint_plugins.policy.compiled import COMPILED_NAME, CompiledPolicy, Grant, PolicyFile, ServableGrants
from endpoint_plugins.policy.rules import POLICY_NAME, Policy, Rule, load_policy
from endpoint_plugins.policy.terms import Terms

__all__ = [
    "COMPILED_NAME",
    "POLICY_NAME",
    "CompiledPolicy",
    "Grant",
    "Policy",
    "PolicyFile",
    "Rule",
    "ServableGrants",
    "Terms",
    "load_policy",
]
