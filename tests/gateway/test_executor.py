"""The official Executor against the gateway, with an unmodified endpoint at the other end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from pathlib import Path

import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer, JSONData
from globus_sdk import ComputeAPIError

from gateway_process import ClientIdentity, GatewayProcess, addresses, credentials
from stock_endpoint import StockEndpoint

#: Seconds that a process at the site may take to start and answer on a busy machine.
PATIENCE_S = 120


def double(number: int) -> int:
    return 2 * number


def where() -> tuple[int, str]:
    """Process id of the endpoint, and the flavour that its template was given."""
    import os

    return os.getppid(), os.environ["DLHUB_TEST_FLAVOUR"]


def fail() -> None:
    raise LookupError("no such thing as a free lunch")


def test_functions_run_at_the_site_and_their_results_come_back(executor: Executor) -> None:
    futures = [executor.submit(double, number) for number in range(50)]
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(50)]
    assert executor.task_count_submitted == 50
    assert {future.task_id is not None for future in futures} == {True}


def test_an_exception_comes_back_with_its_traceback(executor: Executor) -> None:
    with pytest.raises(TaskExecutionFailed, match="LookupError: no such thing as a free lunch"):
        executor.submit(fail).result(PATIENCE_S)
    # And disturbs nobody.
    assert executor.submit(double, 4).result(PATIENCE_S) == 8


def test_results_are_serialised_as_the_caller_wants(site: StockEndpoint, client: Client) -> None:
    with Executor(
        site.id, client=client, task_group_id=uuid.uuid4(), result_serializers=[JSONData()]
    ) as executor:
        future = executor.submit(dict, answer=42)
        assert future.result(PATIENCE_S) == {"answer": 42}
        raw = client._compute_web_client.v2.get_task(future.task_id)["result"]
        assert raw.startswith(JSONData.identifier)
        with pytest.raises(TaskExecutionFailed, match="strategies failed"):
            executor.submit(set, [1]).result(PATIENCE_S)


def test_a_large_result_comes_back_whole_and_a_too_large_one_is_told(executor: Executor) -> None:
    assert executor.submit(bytes, 2_000_000).result(PATIENCE_S) == bytes(2_000_000)
    with pytest.raises(TaskExecutionFailed, match="MaxResultSizeExceeded"):
        executor.submit(bytes, 12_000_000).result(PATIENCE_S)


def test_each_configuration_has_a_process_of_its_own(executor: Executor) -> None:
    flavours = {}
    for flavour in ("vanilla", "mint"):
        executor.user_endpoint_config = {"flavour": flavour, "workers": 1}
        flavours[flavour] = [executor.submit(where) for _ in range(3)]
    found = {
        flavour: {future.result(PATIENCE_S) for future in futures} for flavour, futures in flavours.items()
    }
    assert all(len(processes) == 1 for processes in found.values())
    (vanilla,), (mint,) = found.values()
    assert (vanilla[1], mint[1]) == ("vanilla", "mint")
    assert vanilla[0] != mint[0]


def test_a_process_that_cannot_start_fails_the_tasks_with_the_sites_words(executor: Executor) -> None:
    executor.user_endpoint_config = {"broken": True}
    futures = [executor.submit(double, number) for number in range(2)]
    for future in futures:
        with pytest.raises(TaskExecutionFailed, match="'this_is_not_defined' is undefined"):
            future.result(PATIENCE_S)


def test_what_the_service_refuses_is_raised_with_its_reason(
    executor: Executor, site: StockEndpoint, client: Client
) -> None:
    future = executor.submit_to_registered_function(str(uuid.uuid4()))
    with pytest.raises(ComputeAPIError, match="There is no function") as refused:
        future.result(PATIENCE_S)
    assert (refused.value.http_status, refused.value.code) == (404, "FUNCTION_NOT_FOUND")
    another = Executor(site.id, client=client, task_group_id=uuid.uuid4())
    with pytest.raises(ComputeAPIError, match="takes up to") as refused:
        another.submit(len, bytes(12_000_000)).result(PATIENCE_S)
    assert (refused.value.http_status, refused.value.code) == (413, "PAYLOAD_TOO_LARGE")


def test_a_registered_function_runs_by_its_id_and_so_does_source_code(
    executor: Executor, client: Client
) -> None:
    function_id = client.register_function(double, public=True)
    assert executor.submit_to_registered_function(function_id, args=(21,)).result(PATIENCE_S) == 42
    source = "def shout(text):\n    return text.upper() + '!'\n"
    source_id = executor.register_source_code(source, "shout")
    assert executor.submit_to_registered_function(source_id, args=("hub",)).result(PATIENCE_S) == "HUB!"


def test_cancelling_at_shutdown_cancels_what_was_not_sent_and_leaves_what_was(
    site: StockEndpoint, client: Client
) -> None:
    import time

    executor = Executor(site.id, client=client, task_group_id=uuid.uuid4(), batch_size=1, api_burst_limit=1)
    sent = executor.submit(double, 1)
    assert sent.result(PATIENCE_S) == 2
    # The SDK's own limit of requests holds these back.
    held = [executor.submit(time.sleep, 0) for _ in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    done = wait(held, PATIENCE_S).done
    assert len(done) == 5
    cancelled = [future for future in held if future.cancelled()]
    assert cancelled
    with pytest.raises(CancelledError):
        cancelled[0].result()
    for future in set(held) - set(cancelled):
        assert future.result(PATIENCE_S) is None


def test_what_a_process_left_behind_is_reloaded_by_another(
    gateway: GatewayProcess, site: StockEndpoint, client: Client, ada: ClientIdentity, tmp_path: Path
) -> None:
    group_id = uuid.uuid4()
    script = f"""
        import os, time
        from globus_compute_sdk import Client, Executor

        def double(number):
            return 2 * number

        def fail():
            raise LookupError("no such thing as a free lunch")

        executor = Executor("{site.id}", Client(local_compute_services=True), task_group_id="{group_id}")
        done, failed = executor.submit(double, 5), executor.submit(fail)
        assert done.result({PATIENCE_S}) == 10 and failed.exception({PATIENCE_S})
        running = executor.submit(time.sleep, 4)
        while running.task_id is None:
            time.sleep(0.01)
        print(done.task_id, failed.task_id, running.task_id, flush=True)
        os._exit(0)  # without a word to anybody
    """
    first = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        env={
            "PATH": "/usr/bin:/bin",
            **addresses(gateway.gateway_url),
            **credentials(ada, tmp_path / "first"),
        },
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert first.returncode == 0, first.stderr
    done, failed, running = first.stdout.split()
    with Executor(client=client) as executor:
        futures = {future.task_id: future for future in executor.reload_tasks(group_id)}
        assert set(futures) == {done, failed, running}
        assert futures[done].result(PATIENCE_S) == 10
        assert futures[running].result(PATIENCE_S) is None
        with pytest.raises(TaskExecutionFailed, match="no such thing as a free lunch"):
            futures[failed].result(PATIENCE_S)


def test_two_executors_of_one_group_get_their_own_results(site: StockEndpoint, client: Client) -> None:
    group_id = uuid.uuid4()
    with (
        Executor(site.id, client=client, task_group_id=group_id) as one,
        Executor(site.id, client=client, task_group_id=group_id) as other,
    ):
        ones = [one.submit(double, number) for number in range(10)]
        others = [other.submit(double, -number) for number in range(10)]
        assert [future.result(PATIENCE_S) for future in ones] == [2 * number for number in range(10)]
        assert [future.result(PATIENCE_S) for future in others] == [-2 * number for number in range(10)]


def test_somebody_elses_private_endpoint_and_group_are_refused(
    site: StockEndpoint,
    executor: Executor,
    client_of: Callable[[ClientIdentity], Client],
    eve: ClientIdentity,
) -> None:
    assert executor.submit(double, 1).result(PATIENCE_S) == 2
    stranger = client_of(eve)
    with pytest.raises(ComputeAPIError) as refused:
        Executor(site.id, client=stranger, task_group_id=uuid.uuid4()).submit(double, 1).result(PATIENCE_S)
    assert refused.value.http_status == 403
    with pytest.raises(ComputeAPIError) as refused:
        Executor(site.id, client=stranger).reload_tasks(executor.task_group_id)
    assert refused.value.http_status == 404


def test_arguments_travel_as_the_client_serialised_them(site: StockEndpoint, client: Client) -> None:
    with Executor(
        site.id,
        client=client,
        task_group_id=uuid.uuid4(),
        serializer=ComputeSerializer(AllCodeStrategies(), JSONData()),
    ) as executor:
        assert executor.submit(double, 8).result(PATIENCE_S) == 16
