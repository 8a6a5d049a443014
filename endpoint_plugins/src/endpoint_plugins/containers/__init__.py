"""Images of servables, and the containers that workers run in.

::

    document, files ── recipe ──> context ── builders ──> image ── trial ──> tested ──> store: moved, pruned
                                                                                          │
    profile, command ───────────── runtimes.wrap ──> the same command in a container <────┘

Nothing here is needed where workers run in virtual environments.
"""
