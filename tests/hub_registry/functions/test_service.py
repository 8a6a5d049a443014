from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from globus_compute_sdk.sdk.client import FunctionRegistrationData, FunctionRegistrationMetadata
from people import caller

from hub_registry.errors import (
    ConcealedError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
)
from hub_registry.functions.service import Functions, describe

ADA, BOB, ADMIN = caller("ada"), caller("bob"), caller("root", "admin")
OWN = str(uuid.uuid4())

#: As in `conftest`.
MAX_CODE_BYTES = 100_000


def double(x: int) -> int:
    """Give twice the number."""
    return 2 * x


def body(**members: Any) -> dict[str, Any]:
    """What the SDK's Client sends to register `double`, with other members."""
    sent: dict[str, Any] = FunctionRegistrationData(function=double).to_dict()
    return sent | members


def test_what_the_sdk_registers_is_kept_as_it_is(functions: Functions) -> None:
    sent = body()
    made = functions.register(ADA, sent)
    assert describe(functions.get(ADA, made.id)) == {
        "function_uuid": str(uuid.UUID(made.id)),
        "function_name": "double",
        "function_code": sent["function_code"],
        "description": "Give twice the number.",
        "metadata": sent["meta"],
        "public": False,
        "group": None,
        "owner": "ada",
    }


def test_the_second_version_of_the_interface_says_metadata(functions: Functions) -> None:
    sent = body(metadata={"python_version": "3.10.4", "sdk_version": "2.3.2", "something": "new"})
    del sent["meta"]
    assert functions.register(ADA, sent).metadata == {"python_version": "3.10.4", "sdk_version": "2.3.2"}


def test_a_function_is_its_owners_and_administrators_alone(functions: Functions) -> None:
    made = functions.register(ADA, body())
    assert functions.get(ADMIN, made.id) == functions.get_to_run(ADA, made.id)
    with pytest.raises(ConcealedError) as concealed:
        functions.get(BOB, made.id)
    with pytest.raises(NotFoundError) as unknown:
        functions.get(BOB, unused := str(uuid.uuid4()))
    assert concealed.value.message == unknown.value.message.replace(unused, made.id)
    assert concealed.value.kind == unknown.value.kind


def test_a_public_function_is_everyones_to_run_and_its_owners_to_delete(functions: Functions) -> None:
    made = functions.register(ADA, body(public=True))
    assert functions.get_to_run(BOB, made.id).code == made.code
    with pytest.raises(ForbiddenError, match="belongs to ada"):
        functions.delete(BOB, made.id)


def test_a_group_is_kept_and_gives_nobody_a_right(functions: Functions) -> None:
    group = str(uuid.uuid4())
    made = functions.register(ADA, body(group=group))
    assert describe(functions.get(ADA, made.id))["group"] == group
    with pytest.raises(ConcealedError):
        functions.get(BOB, made.id)


def test_a_deleted_function_takes_no_new_task_and_explains_old_ones(
    functions: Functions, tags: Callable[[], list[tuple[str, str]]]
) -> None:
    made = functions.register(ADA, body(public=True))
    functions.delete(ADA, made.id)
    for attempt in (functions.get, functions.get_to_run, functions.delete):
        with pytest.raises(GoneError, match=r"double.* was deleted"):
            attempt(BOB, made.id)
    assert functions.load(made.id).code == made.code
    assert functions.load(made.id).deleted_at == 1_000_000.0
    assert tags() == [("ada", "functions:function:register"), ("ada", "functions:function:delete")]


def test_a_private_function_that_was_deleted_stays_concealed(functions: Functions) -> None:
    made = functions.register(ADA, body())
    functions.delete(ADA, made.id)
    with pytest.raises(ConcealedError):
        functions.get(BOB, made.id)


def test_the_hubs_own_function_has_a_fixed_id_and_only_the_hub_runs_it(
    functions: Functions, tags: Callable[[], list[tuple[str, str]]]
) -> None:
    source = "def dlhub_run(request):\n    return request\n"
    made = functions.register_own(OWN, "dlhub_run", source)
    assert functions.register_own(OWN, "dlhub_run", source) == made
    assert "dlhub_run:def dlhub_run(request)" in functions.get(BOB, OWN).code
    with pytest.raises(ForbiddenError, match="only the hub calls it"):
        functions.get_to_run(BOB, OWN)
    with pytest.raises(ForbiddenError):
        functions.delete(ADMIN, OWN)
    with pytest.raises(ConflictError, match="other code"):
        functions.register_own(OWN, "dlhub_run", source + "#")
    assert tags() == [("hub", "functions:function:register")]


def test_a_users_function_cannot_take_the_hubs_id(functions: Functions) -> None:
    made = functions.register(ADA, body(function_uuid=OWN))
    assert made.id != OWN


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"function_name": ""}, "function_name"),
        ({"function_name": "x" * 257}, "function_name"),
        ({"function_name": "a\0b"}, r"function_name: .*U\+0000"),
        ({"function_name": 7}, "function_name"),
        ({"function_name": "\ud800"}, "function_name"),
        ({"function_code": None}, "function_code"),
        ({"function_code": "no buffer"}, "not packed as the SDK packs it"),
        ({"function_code": "-1\n"}, "not packed"),
        ({"function_code": "9\nab"}, "not packed"),
        ({"function_code": "1\na1\nb"}, "has 2 packed buffers"),
        ({"function_code": "3\na\0b"}, r"function_code: .*U\+0000"),
        ({"description": "\ud800"}, "description"),
        ({"meta": {"python_version": ["3"]}}, "meta.python_version"),
        ({"meta": {"python_version": "\0"}}, r"meta.python_version: .*U\+0000"),
        ({"group": "everyone"}, "group"),
        ({"public": "perhaps"}, "public"),
        ({"ha_endpoint_id": OWN}, "no high-assurance endpoints"),
        ({"serialized": False, "function_name": "f:g"}, "called by that name"),
    ],
)
def test_what_breaks_a_rule_is_named(local_functions: Functions, members: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        local_functions.register(ADA, body(**members))


@pytest.mark.parametrize("data", [[], "text", None, {}])
def test_a_body_that_is_no_registration_is_refused(local_functions: Functions, data: Any) -> None:
    with pytest.raises(InvalidRequestError):
        local_functions.register(ADA, data)


def test_code_over_the_limit_is_refused(functions: Functions) -> None:
    def code(size: int) -> str:
        header = f"{size - 6}\n"
        return header + "é" * ((size - len(header)) // 2) + "x" * ((size - len(header)) % 2)

    with pytest.raises(TooLargeError, match=str(MAX_CODE_BYTES)):
        functions.register(ADA, body(function_code=code(MAX_CODE_BYTES + 1)))
    source = "#" * (MAX_CODE_BYTES - 20) + "\ndef f(): pass"
    assert functions.register(
        ADA, body(function_code=source, function_name="f", serialized=False)
    ).code.endswith(source)


def test_source_from_the_sdk_is_packed(functions: Functions) -> None:
    sent = FunctionRegistrationData(
        function_name="f",
        function_code="def f(): pass",
        metadata=FunctionRegistrationMetadata("3.11.7", "4.19.0"),
        serialized=False,
    )
    assert functions.register(ADA, sent.to_dict()).code == "18\nst\nf:def f(): pass"
