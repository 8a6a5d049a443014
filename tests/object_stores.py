"""S3 for tests: moto's server on a free port. Fixtures `s3_url` and `s3`, for a module to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: What the tests' site has for credentials.
KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """moto's S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str) -> Iterator[Callable[[str], Any]]:
    """``s3(bucket)`` makes a bucket and returns a client; everything goes with the test."""
    import boto3

    session = boto3.session.Session(
        aws_access_key_id=KEYS["access_key_id"], aws_secret_access_key=KEYS["secret_access_key"]
    )
    client = session.client("s3", endpoint_url=s3_url, region_name="us-east-1")
    made: list[str] = []

    def make(bucket: str) -> Any:
        client.create_bucket(Bucket=bucket)
        made.append(bucket)
        return client

    yield make
    for bucket in made:
        for each in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=each["Key"])
        client.delete_bucket(Bucket=bucket)
    client.close()
