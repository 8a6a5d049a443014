"""What can go wrong between the router and the workers.

::

    RegistryError
    └── FabricError
        ├── EndpointStartError   operator    the endpoint could not be started
        ├── EndpointLostError    operator    it ended with batches on it (transient)
        ├── WorkerLostError      publisher   a worker died on a batch (transient: once more, then it counts)
        ├── NoSiteError          site        none of the sites where it may run can run it
        ├── RefusedBySiteError   site        a site's own rules do not let this caller run it there
        └── DeadlineError        caller      the caller's deadline was over before it had ended
"""

from __future__ import annotations

from hub_registry.errors import RegistryError


class FabricError(RegistryError):
    """Root of what a fabric raises."""

    kind = "fabric"


class EndpointStartError(FabricError):
    """The endpoint could not be started."""

    kind = "endpoint-start"


class EndpointLostError(FabricError):
    """The endpoint ended, or was closed, while batches were on it."""

    kind = "endpoint-lost"
    transient = True


class WorkerLostError(FabricError):
    """A worker process died while it ran a batch: out of memory, or a crash in compiled code."""

    who = "publisher"
    kind = "worker-lost"
    transient = True


class NoSiteError(FabricError):
    """None of the sites where a call may run can run it; the message has each one's reason."""

    who = "site"
    kind = "no-site"


class DeadlineError(FabricError):
    """A task had not ended when its deadline was over."""

    who = "caller"
    kind = "deadline-exceeded"


class RefusedBySiteError(FabricError):
    """The rules of a site do not let this caller run this servable there, or not with as much."""

    who = "site"
    kind = "refused-by-site"
