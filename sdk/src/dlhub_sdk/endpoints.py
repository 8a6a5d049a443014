"""The part of the client for endpoints: where servables run, for whom, and the clients that they use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dlhub_sdk import requests
from dlhub_sdk.errors import EndpointNotFoundError, InvalidRequestError, ProtocolError
from dlhub_sdk.records import ClientRecord, EndpointRecord, HistoryLine
from dlhub_sdk.responses import check
from dlhub_sdk.session import Session

__all__ = ["EndpointMethods", "choose_endpoint", "read_list"]

#: In `EndpointRecord.serves`: every user of the hub.
PUBLIC = "public"


def read_list(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return a list out of an answer of the hub."""
    found = answer.get(name)
    if not isinstance(found, list):
        raise ProtocolError(f"The hub answered with {sorted(answer)}, not with {name}.")
    return found


def choose_endpoint(found: Iterable[EndpointRecord], wanted: str) -> EndpointRecord:
    """Return the endpoint with this name or id.

    Raises
    ------
    EndpointNotFoundError
        There is none.
    InvalidRequestError
        There are several of that name.
    """
    every = list(found)
    named = [each for each in every if wanted in (each.name, each.display_name)]
    chosen = [each for each in every if each.id == wanted] or named
    if not chosen:
        raise EndpointNotFoundError(f"There is no endpoint {wanted!r} that you may see.")
    if len(chosen) > 1:
        ids = ", ".join(each.id for each in chosen)
        raise InvalidRequestError(
            f"There are {len(chosen)} endpoints called {wanted!r}.", remedy=f"Give the id of one: {ids}."
        )
    return chosen[0]


class EndpointMethods(Session):
    """Looking at endpoints, and saying whom one's own serve."""

    def endpoints(self, own: bool = False) -> list[EndpointRecord]:
        """Return the endpoints that this account may see, by name.

        Parameters
        ----------
        own
            Only those that this account has registered.

        Raises
        ------
        NotFoundError
            The hub runs everything on its own machine.
        """
        answer = self._object(requests.endpoints("owner" if own else "any"))
        return [EndpointRecord.from_json(one) for one in read_list(answer, "endpoints")]

    def get_endpoint(self, endpoint: str) -> EndpointRecord:
        """Return what is known of an endpoint, named by its name or id, and of its processes."""
        found = choose_endpoint(self.endpoints(), endpoint)
        return EndpointRecord.from_json(self._object(requests.endpoint(found.id)))

    def get_endpoint_history(self, endpoint: str, limit: int = 100) -> list[HistoryLine]:
        """Return changes of state of an endpoint and its processes, newest first; for its owner."""
        found = choose_endpoint(self.endpoints(), endpoint)
        answer = self._object(requests.endpoint_history(found.id, limit=limit))
        return [HistoryLine.from_json(one) for one in read_list(answer, "history")]

    def share_endpoint(self, endpoint: str, serves: Iterable[str]) -> EndpointRecord:
        """Set whose calls of servables may run at an endpoint, beside its owner's.

        Parameters
        ----------
        serves
            Names of users, or ``public`` for all of the hub. They replace those that were set.
        """
        found = choose_endpoint(self.endpoints(), endpoint)
        names = [serves] if isinstance(serves, str) else list(serves)
        return EndpointRecord.from_json(self._object(requests.change_endpoint(found.id, serves=names)))

    def configure_endpoint(self, endpoint: str, config: Mapping[str, Any]) -> EndpointRecord:
        """Set the configuration with which the hub starts its process at an endpoint.

        Parameters
        ----------
        config
            What the endpoint's template takes (its ``user_endpoint_config``): a partition for
            instance. It replaces the one that was set.
        """
        found = choose_endpoint(self.endpoints(), endpoint)
        return EndpointRecord.from_json(self._object(requests.change_endpoint(found.id, config=config)))

    def delete_endpoint(self, endpoint: str) -> None:
        """Remove an endpoint: what it runs is ended, and tasks that wait for it fail; for its owner."""
        found = choose_endpoint(self.endpoints(), endpoint)
        request = requests.delete_endpoint(found.id)
        check(request, self._transport.send(request))

    def clients(self, everyone: bool = False) -> list[ClientRecord]:
        """Return the OAuth clients of this account, oldest first; of all, for an administrator."""
        answer = self._object(requests.clients(everyone))
        return [ClientRecord.from_json(one) for one in read_list(answer, "clients")]

    def create_client(
        self,
        name: str,
        *,
        kind: str = "confidential",
        redirect_uris: Iterable[str] = (),
        introspects: bool = False,
    ) -> ClientRecord:
        """Make an OAuth client, with which an endpoint or another program acts as this account.

        Returns
        -------
        ClientRecord
            With the secret, which the hub does not show again.
        """
        request = requests.create_client(
            name, kind=kind, redirect_uris=list(redirect_uris), introspects=introspects
        )
        return ClientRecord.from_json(self._object(request))

    def rotate_client(self, client_id: str, overlap_s: float = 0.0) -> ClientRecord:
        """Give a client another secret.

        Parameters
        ----------
        overlap_s
            Seconds for which the former secrets still work.
        """
        return ClientRecord.from_json(self._object(requests.rotate_client(client_id, overlap_s)))

    def revoke_client(self, client_id: str) -> None:
        """End a client and its tokens. Idempotent."""
        request = requests.revoke_client(client_id)
        check(request, self._transport.send(request))
