"""What type checkers say of the SDK's public functions; checked by mypy, never run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from dlhub_sdk.async_client import AsyncDLHubClient
from dlhub_sdk.client import DLHubClient
from dlhub_sdk.models.servables.sklearn import ScikitLearnModel
from dlhub_sdk.publish import PublicationPlan
from dlhub_sdk.records import Account, ClientRecord, EndpointRecord, PublicationRecord, TaskRecord
from dlhub_sdk.references import Reference


def check_client(dl: DLHubClient, model: ScikitLearnModel) -> None:
    assert_type(dl.publish_servable(model), str)
    assert_type(dl.publish_servable(model, wait=True), str)
    assert_type(dl.publish_servable(model, dry_run=True), PublicationPlan)
    assert_type(dl.get_publication("id"), PublicationRecord)
    assert_type(dl.get_task("id"), TaskRecord)
    assert_type(dl.whoami(), Account)
    assert_type(dl.get_username(), str)
    assert_type(dl.list_servables(), list[str])
    assert_type(dl.map("owner/name", [1]), Iterator[Any])
    assert_type(dl.endpoints(), list[EndpointRecord])
    assert_type(dl.create_client("site"), ClientRecord)
    assert_type(dl.upload("scan.h5"), Reference)
    assert_type(dl.download(Reference("hub:data/x")), Path)
    with dl as same:
        assert_type(same, DLHubClient)


def check_builders() -> None:
    model = ScikitLearnModel.create_model("model.skops")
    assert_type(model, ScikitLearnModel)
    assert_type(model.set_title("Title").set_name("name").add_requirement("numpy"), ScikitLearnModel)


async def check_async_client(dl: AsyncDLHubClient) -> None:
    assert_type(await dl.get_task("id"), TaskRecord)
    async with dl as same:
        assert_type(same, AsyncDLHubClient)
