"""``s3:`` references, through boto3: fetched by ranges, sent in parts.

The site's credentials are used for the buckets that its rules list. What is elsewhere is read without any, as
public data sets are, and not written to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from home_run.errors import FileFetchError, HomeRunError
from home_run.staging.errors import FileSendError, ReferenceRefusedError
from home_run.staging.places import CHUNK_BYTES, Found, Site, Stream, broke_off, gone, load_library
from home_run.staging.references import Reference

__all__ = ["S3Place", "open_place"]

#: Of a part of an upload; four are in memory at a time.
PART_BYTES = 16 << 20
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})


def open_place(reference: Reference, site: Site) -> S3Place:
    """See `home_run.staging.places.open_place`."""
    if reference.port is not None or not reference.path.strip("/"):
        raise FileFetchError(
            f"The reference {reference.shown!r:.200} names no object.", remedy="Give it as s3://bucket/key."
        )
    load_library("boto3", "boto3", "s3")
    return S3Place(reference, site)


class S3Place:
    """An object in a bucket; see `home_run.staging.places.Place`."""

    def __init__(self, reference: Reference, site: Site) -> None:
        self._reference = reference
        self._site = site
        self._bucket, self._key = reference.host, reference.path[1:]
        self._signed = site.rules.lists_bucket(self._bucket, self._key)
        self._client: Any = None
        self._version = ""

    def look(self) -> Found:
        head = self._call("head_object")
        self._version = head["ETag"]
        return Found(head["ContentLength"], f"{self._version} {head.get('VersionId', '')}")

    @contextmanager
    def read(self, start: int) -> Iterator[Stream]:
        if not self._version:
            size = self.look().size
            if size is not None and start >= size:
                yield Stream(start if start == size else 0, size, iter(()))
                return
        wanted: dict[str, str] = {"IfMatch": self._version}
        if start:
            wanted["Range"] = f"bytes={start}-"
        answer = self._call("get_object", **wanted)
        body = answer["Body"]
        try:
            yield Stream(start, start + answer["ContentLength"], self._chunks(body))
        finally:
            body.close()

    def _chunks(self, body: Any) -> Iterator[bytes]:
        try:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk
        except Exception as exc:  # of urllib3 and botocore, each with its own
            raise broke_off(self._reference, f"{type(exc).__name__}: {exc}") from exc

    def write(self, path: Path, sha256: str) -> str | None:
        if not self._signed:
            raise ReferenceRefusedError(
                f"The output {self._reference.shown!r:.200} is in no bucket that this site writes to.",
                remedy="Ask the site to add the bucket to the buckets of its staging rules.",
            )
        transfer = load_library("boto3.s3.transfer", "boto3", "s3")
        config = transfer.TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4
        )
        try:
            self._connected().upload_file(
                str(path), self._bucket, self._key, Config=config, ExtraArgs={"Metadata": {"sha256": sha256}}
            )
            stored = self._call("head_object")["ContentLength"]
        except HomeRunError as exc:
            raise FileSendError(exc.message, remedy=exc.remedy, transient=exc.transient) from exc
        except Exception as exc:  # boto3.exceptions.S3UploadFailedError, and what botocore lets through
            raise FileSendError(
                f"The output cannot be written to {self._reference.shown!r:.200}: {exc}.",
                remedy="Look whether the site's credentials may write there.",
                transient="AccessDenied" not in str(exc) and "NoSuchBucket" not in str(exc),
            ) from exc
        if stored != path.stat().st_size:
            raise FileSendError(
                f"Of the output {self._reference.shown!r:.200} {stored} of {path.stat().st_size} bytes "
                "arrived.",
                remedy="Run it again.",
                transient=True,
            )
        return None

    def local_path(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()

    def _call(self, name: str, **arguments: str) -> Any:
        errors = load_library("botocore.exceptions", "boto3", "s3")
        try:
            method = getattr(self._connected(), name)
            return method(Bucket=self._bucket, Key=self._key, **arguments)
        except errors.ClientError as exc:
            raise self._translated(exc.response) from exc
        except errors.BotoCoreError as exc:
            raise broke_off(self._reference, exc) from exc

    def _translated(self, response: Any) -> FileFetchError:
        code = str(response.get("Error", {}).get("Code"))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _MISSING:
            return gone(self._reference)
        if status >= 500 or status in (408, 429):
            return broke_off(self._reference, f"{code}, HTTP status {status}")
        if status == 412:
            return broke_off(self._reference, "it was replaced while it was fetched")
        how = (
            "with the site's credentials"
            if self._signed
            else "without credentials, as it is no bucket of the site"
        )
        return FileFetchError(
            f"The file {self._reference.shown!r:.200} was refused ({code}, HTTP status {status}); it was "
            f"asked for {how}.",
            remedy="Ask the site to add the bucket to its staging rules, or its owner for the right.",
        )

    def _connected(self) -> Any:
        if self._client is None:
            boto3 = load_library("boto3", "boto3", "s3")
            botocore = load_library("botocore", "boto3", "s3")
            kept = self._site.keys.service("s3")
            options: dict[str, Any] = {
                "retries": {"total_max_attempts": 1},  # whoever calls tries again, from where it broke off
                "connect_timeout": 20,
                "read_timeout": 60,
            }
            if not self._signed:
                options["signature_version"] = botocore.UNSIGNED
            session = boto3.session.Session(
                aws_access_key_id=kept.get("access_key_id"),
                aws_secret_access_key=kept.get("secret_access_key"),
                aws_session_token=kept.get("session_token"),
            )
            self._client = session.client(
                "s3",
                endpoint_url=self._site.rules.s3_endpoint or None,
                region_name=kept.get("region") or session.region_name or "us-east-1",
                config=load_library("botocore.config", "boto3", "s3").Config(**options),
            )
        return self._client
