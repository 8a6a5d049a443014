"""The official client of Globus Compute, as far as the fabric `globus` needs it.

This module imports globus_compute_sdk, which takes about as long as the rest of the hub: import it when the
fabric is started. Everything but `submit` blocks.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import DeserializationError, TaskExecutionFailed
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.serialize import (
    ComputeSerializer,
    JSONData,
    PureSourceTextInspect,
    SerializationStrategy,
)
from globus_sdk import (
    BaseClient,
    ClientApp,
    ConfidentialAppAuthClient,
    GlobusAPIError,
    GlobusAppConfig,
    NetworkError,
)

from hub_registry.fabrics import wire
from hub_registry.fabrics.errors import EndpointLostError, FabricError
from hub_registry.fabrics.wire_errors import SiteError, error_of_result

#: The service allows 20 requests in 10 s. So many submissions are free, then they come at the rate of the
#: two; whatever is submitted between two of them goes together.
BURST = 8
BURST_WINDOW_S = 5
#: Most batches in one submission.
BATCH_SIZE = 128
#: Seconds that the service may take to answer a request.
TIMEOUT_S = 20.0
#: Seconds that `close` waits for the SDK's threads.
CLOSE_S = 5.0


class TransientServiceError(EndpointLostError):
    """The service does not answer now; the same request may be answered later."""


class UnknownFunctionError(FabricError):
    """The service does not know the hub's function, or the endpoint."""


@dataclass(frozen=True)
class Status:
    """Whether an endpoint is online, and its last report."""

    online: bool
    report: Mapping[str, Any]


class JsonSerializer(ComputeSerializer):
    """Reads nothing but JSON: results of other strategies would run code that a site has chosen."""

    def __init__(self) -> None:
        super().__init__(strategy_code=PureSourceTextInspect, strategy_data=JSONData)

    def assert_deserializer_allowed(self, strategy: SerializationStrategy) -> None:
        """Refuse every strategy but one."""
        if not isinstance(strategy, JSONData):
            name = type(strategy).__name__
            raise DeserializationError(f"{name} is not read by a hub")  # type: ignore[no-untyped-call]


class GlobusService:
    """One service with one client identity. Thread-safe.

    Parameters
    ----------
    client_id, client_secret
        Of the client identity.
    service_url
        Of another service than the hosted one. It is then also asked for tokens, unless
        ``GLOBUS_SDK_SERVICE_URL_AUTH`` names another authority.
    notes
        File in which the function's id is kept, so that a site can allow it for good.
    user_endpoint_config
        For all endpoints.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        service_url: str,
        notes: Path,
        user_endpoint_config: Mapping[str, Any],
    ) -> None:
        self._identity = client_id
        self._service_url = service_url.rstrip("/")
        self._notes = notes
        self._config = dict(user_endpoint_config)
        self._lock = threading.Lock()
        self._registering = threading.Lock()
        self._executors: dict[str, Executor] = {}
        self.function_id = ""
        self._client = self._make_client(client_id, client_secret)

    def check(self) -> None:
        """Log in and ask for the service's version.

        Raises
        ------
        FabricError
            See `error_of`; also `globus_compute_sdk.errors.VersionMismatch` as one.
        """
        try:
            self._client.version_check()
            self.register()
        except Exception as error:
            raise error_of(error, self.function_id) from error

    def register(self, *, again: bool = False) -> str:
        """The id of the hub's function, registered once for all starts of the hub."""
        with self._registering:
            if self.function_id and not again:
                return self.function_id
            about = {
                "service": self._service_url,
                "client": self._identity,
                "code": hashlib.sha256(wire.FUNCTION_CODE.encode()).hexdigest(),
            }
            noted = None if again else self._read_note(about)
            self.function_id = noted or self._client.register_source_code(
                wire.FUNCTION_SOURCE,
                wire.FUNCTION_NAME,
                description="Runs a batch of events on a servable of a DLHub.",
            )
            if noted is None:
                self._notes.write_text(json.dumps({**about, "function": self.function_id}))
            return self.function_id

    def status(self, endpoint_id: str) -> Status:
        """Whether an endpoint is online now."""
        content = self._client.get_endpoint_status(endpoint_id)
        report = content.get("details")
        return Status(content.get("status") == "online", report if isinstance(report, Mapping) else {})

    def describe(self, endpoint_id: str) -> Mapping[str, Any]:
        """What an endpoint was registered with."""
        content: Mapping[str, Any] = self._client.get_endpoint_metadata(endpoint_id)
        return content

    def submit(self, endpoint_id: str, request: str) -> Future[str]:
        """Send a batch; its future must not be cancelled. Does not block."""
        with self._lock:
            executor = self._executors.get(endpoint_id) or self._new_executor(endpoint_id)
            try:
                return self._submit(executor, request)
            except RuntimeError:  # it ends for good with its first failed submission
                return self._submit(self._new_executor(endpoint_id), request)

    def close(self) -> None:
        """Let the SDK's threads end, whatever they still wait for."""
        with self._lock:
            executors, self._executors = list(self._executors.values()), {}
        for executor in executors:
            _shut_down(executor)

    def _make_client(self, client_id: str, client_secret: str) -> Client:
        config = GlobusAppConfig(token_storage="memory")  # noqa: S106 - not a password
        app = ClientApp("DLHub", config=config, login_client=self._login_client(client_id, client_secret))
        client = Client(app=app, do_version_check=False)
        if self._service_url:
            client.web_service_address = self._service_url
            for web in (client._compute_web_client.v2, client._compute_web_client.v3):
                web.base_url = self._service_url
        for web in (client._compute_web_client.v2, client._compute_web_client.v3):
            _make_impatient(web)
        client.fx_serializer = JsonSerializer()
        return client

    def _login_client(self, client_id: str, client_secret: str) -> ConfidentialAppAuthClient:
        elsewhere = self._service_url if "GLOBUS_SDK_SERVICE_URL_AUTH" not in os.environ else ""
        client = ConfidentialAppAuthClient(client_id, client_secret, base_url=elsewhere or None)
        _make_impatient(client)
        return client

    def _new_executor(self, endpoint_id: str) -> Executor:
        executor = self._executors[endpoint_id] = Executor(
            endpoint_id,
            client=self._client,
            user_endpoint_config=self._config or None,
            label=f"dlhub {endpoint_id}",
            batch_size=BATCH_SIZE,
            api_burst_limit=BURST,
            api_burst_window_s=BURST_WINDOW_S,
            result_serializers=[JSONData],
        )
        return executor

    def _submit(self, executor: Executor, request: str) -> Future[str]:
        future: Future[str] = executor.submit_to_registered_function(self.function_id, args=(request,))
        return future

    def _read_note(self, about: Mapping[str, str]) -> str | None:
        try:
            noted = json.loads(self._notes.read_text())
            return str(noted["function"]) if all(noted[name] == about[name] for name in about) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def error_of(error: BaseException, function_id: str) -> FabricError:
    """What the SDK raises, as an error of fabrics."""
    if isinstance(error, FabricError):
        return error
    if isinstance(error, TaskExecutionFailed):
        return error_of_result(error.remote_data, function_id)
    if isinstance(error, GlobusAPIError):
        return _error_of_status(error)
    if isinstance(error, NetworkError):
        return TransientServiceError(f"The Globus Compute service does not answer: {error}.")
    if isinstance(error.__cause__, DeserializationError):
        return FabricError(
            f"The endpoint's result cannot be read: {error.__cause__.reason}.",
            remedy="The site can update globus-compute-endpoint.",
        )
    return EndpointLostError(f"The batch got lost on its way: {type(error).__name__}: {str(error)[:500]}.")


def _error_of_status(error: GlobusAPIError) -> FabricError:
    said = f"{error.http_status} {error.code or ''} {str(error.message or error.text)[:500]}".strip()
    if error.http_status >= 500 or error.http_status in (408, 429):
        return TransientServiceError(f"The Globus Compute service cannot take the batch now: {said}.")
    if error.http_status == 404:
        return UnknownFunctionError(
            f"The Globus Compute service does not know what it was asked for: {said}."
        )
    if error.http_status in (401, 403):
        return SiteError(
            f"The Globus Compute service refuses the hub: {said}.",
            remedy="The operator can look at globus_client_id, and the endpoint's owner at who may use it.",
            everything=True,
        )
    return FabricError(
        f"The Globus Compute service refuses the batch: {said}.",
        remedy="The operator finds out more with the SDK and the hub's client identity.",
    )


def _make_impatient(client: BaseClient) -> None:
    # Whoever asks here can try again by itself, and has to be able to end.
    client.retry_config.max_retries = 1
    client.transport.http_timeout = TIMEOUT_S


def _shut_down(executor: Executor) -> None:
    executor.shutdown(wait=False, cancel_futures=True)  # type: ignore[no-untyped-call]
    # The thread that watches for results belongs to the task group; the executor leaves it to wait for
    # results that may never come, and the process could not end before.
    watcher = sdk_executor._RESULT_WATCHERS.get(executor.task_group_id)
    if watcher is not None:
        watcher.shutdown(wait=False, cancel_futures=True)  # type: ignore[no-untyped-call]
        watcher.join(CLOSE_S)
