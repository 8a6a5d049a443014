"""The sites of all fabrics, by their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hub_registry.fabrics.interface import Fabric, Site


class Sites:
    """What can be reached now. Lives on the event loop.

    Parameters
    ----------
    fabrics
        Started and closed by whoever uses this; the sites of all of them are one list here.
    """

    def __init__(self, fabrics: Sequence[Fabric]) -> None:
        self._fabrics = fabrics
        self._by_id: dict[str, Site] = {}
        self._watchers: list[Callable[[], None]] = []
        for fabric in fabrics:
            fabric.watch(self._changed)
        self._read()

    async def start(self) -> None:
        """Start the fabrics, in order.

        Raises
        ------
        ConfigurationError
            One cannot work, as the hub is set up; those before it are closed.
        """
        started: list[Fabric] = []
        try:
            for fabric in self._fabrics:
                started.append(fabric)
                await fabric.start()
        except BaseException:
            for fabric in reversed(started):
                await fabric.close()
            raise
        self._changed()

    async def close(self) -> None:
        """Close the fabrics, the last first."""
        for fabric in reversed(self._fabrics):
            await fabric.close()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` when a site has come or gone."""
        self._watchers.append(changed)

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self._by_id) > 1

    def find(self, site_id: str) -> Site | None:
        """The site, where it can be reached now."""
        return self._by_id.get(site_id)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._by_id.values())

    def _read(self) -> None:
        self._by_id = {site.id: site for fabric in self._fabrics for site in fabric.sites()}

    def _changed(self) -> None:
        self._read()
        for changed in self._watchers:
            changed()
