"""The client of a hub: ``from dlhub_sdk.client import DLHubClient``.

Source-compatible with the client of the DLHub service, so that scripts written for it run after
a change of the address. Its parts are in :mod:`dlhub_sdk.catalogue` (what there is),
:mod:`dlhub_sdk.running` (run it), :mod:`dlhub_sdk.endpoints` (where it runs),
:mod:`dlhub_sdk.data` (files in its store) and :mod:`dlhub_sdk.publishing` (add to it).
"""

from __future__ import annotations

from typing import Any

from dlhub_sdk import requests
from dlhub_sdk.config import Settings
from dlhub_sdk.credentials import Credentials
from dlhub_sdk.data import DataMethods
from dlhub_sdk.endpoints import EndpointMethods
from dlhub_sdk.futures import DLHubFuture
from dlhub_sdk.publishing import PublishMethods
from dlhub_sdk.records import Account

__all__ = ["DLHubClient", "DLHubFuture", "load_settings"]

#: Arguments of the old client, which logged in through Globus in a browser.
_FORMER = frozenset({"no_local_server", "no_browser", "environment", "app_name", "transport_params"})


def load_settings(**arguments: Any) -> Settings:
    """Read the settings, and the token that was stored for the hub if none is given otherwise."""
    settings = Settings.load(**arguments)
    if settings.token is None:
        token = Credentials().find(settings.url)
        if token:
            settings = Settings.load(**{**arguments, "url": settings.url, "token": token})
    return settings


class DLHubClient(PublishMethods, EndpointMethods, DataMethods):
    """A client of one hub. Thread-safe; a context manager; makes no request before it is used.

    The address and the token come from the arguments, else from ``DLHUB_URL`` and ``DLHUB_TOKEN``,
    else from what ``dlhub login`` stored, else the hub on this machine is used.

    Parameters
    ----------
    dlh_authorizer, search_authorizer, fx_authorizer, openid_authorizer, sl_authorizer
        Without meaning: authorizers of the old service. A hub takes API tokens.
    http_timeout
        Longest silence of the hub in seconds, beyond what it was asked to wait; 60 by default.
    force_login
        Without meaning: `dlhub login` stores another token.
    url
        Address of the hub, such as ``https://hub.example.org``.
    token
        API token.
    allow_pickle
        Let results, and models run with ``local=True``, be unpickled. A pickle can run any code:
        only for publishers you trust.
    **kwargs
        ``base_url`` is another name for `url`. ``no_local_server``, ``no_browser`` and the like
        belonged to the browser login of the old client and have no meaning.

    Examples
    --------
    >>> with DLHubClient() as dl:                                  # doctest: +SKIP
    ...     dl.run("ann/iris", [[5.1, 3.5, 1.4, 0.2]])
    ...     dl["ann/iris"].predict_proba([[5.1, 3.5, 1.4, 0.2]])
    """

    def __init__(
        self,
        dlh_authorizer: Any = None,
        search_authorizer: Any = None,
        fx_authorizer: Any = None,
        openid_authorizer: Any = None,
        sl_authorizer: Any = None,
        http_timeout: float | None = None,
        force_login: bool = False,
        *,
        url: str | None = None,
        token: str | None = None,
        allow_pickle: bool = False,
        **kwargs: Any,
    ) -> None:
        url = url or kwargs.pop("base_url", None)
        unknown = sorted(set(kwargs) - _FORMER)
        if unknown:
            raise TypeError(f"DLHubClient() got an unexpected keyword argument {unknown[0]!r}")
        super().__init__(load_settings(url=url, token=token, timeout_s=http_timeout), allow_pickle)

    def whoami(self) -> Account:
        """Return the account that the hub takes this client for.

        Raises
        ------
        NotAuthenticatedError
            There is no token, or the hub does not accept it.
        """
        value = self._object(requests.whoami())
        return Account(str(value["id"]), str(value["name"]), str(value["role"]))

    def get_username(self) -> str:
        """Return the name of the account: the owner of what it publishes."""
        return self.whoami().name

    def logout(self) -> None:
        """Remove the token for this hub from this machine. The token itself stays valid."""
        Credentials().remove(self.settings.url)

    def close(self) -> None:
        """Close the connections. Futures that are not done end with an error; their tasks go on."""
        self._watcher.close()
        self._transport.close()

    def __enter__(self) -> DLHubClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DLHubClient of {self.settings.url}>"
