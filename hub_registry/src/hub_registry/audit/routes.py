"""GET /audit, and the records of refused requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from hub_registry.accounts.routes import PRINCIPAL_KEY, CurrentPrincipal
from hub_registry.accounts.service import Accounts
from hub_registry.audit.interface import ANONYMOUS
from hub_registry.audit.service import Audit
from hub_registry.errors import RegistryError

logger = structlog.get_logger(__name__)

router = APIRouter(tags=["audit"])


class AuditRecordView(BaseModel):
    """Who did what, or was refused."""

    id: int
    at: float = Field(description="Seconds since the epoch.")
    actor: str
    tag: str = Field(description="source:subject:action")
    subject: str
    outcome: Literal["done", "refused", "failed"]
    detail: dict[str, Any]
    request_id: str | None
    address: str | None
    count: int = Field(description="Attempts this record stands for: refusals that repeat are counted.")


class AuditPage(BaseModel):
    """Audit records, newest first."""

    records: list[AuditRecordView]
    next: int | None = Field(description="Send as `before` for the next page; null at the end.")


@router.get("/audit")
def list_audit_records(
    request: Request,
    caller: CurrentPrincipal,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    actor: str | None = None,
    tag: Annotated[str | None, Query(description="The beginning of the tag.")] = None,
    outcome: Literal["done", "refused", "failed"] | None = None,
) -> AuditPage:
    """List audit records, newest first. Administrators only."""
    Accounts.require_admin(caller, "read the audit")
    audit: Audit = request.app.state.hub.audit
    records = audit.list_records(
        before=before, limit=limit + 1, actor=actor, tag_prefix=tag, outcome=outcome
    )  # one more tells if there is more
    page = records[:limit]
    return AuditPage(
        records=[AuditRecordView.model_validate(vars(record)) for record in page],
        next=page[-1].id if len(records) > limit else None,
    )


async def record_refusal(request: Request, error: RegistryError) -> None:
    """Write down that a request was refused; the caller gets the refusal even where that fails."""
    audit: Audit = request.app.state.hub.audit
    principal = request.scope.get(PRINCIPAL_KEY)
    try:
        await run_in_threadpool(
            audit.record,
            principal.name if principal else ANONYMOUS,
            f"api:request:{error.kind}",
            f"{request.method} {request.url.path}",
            {"reason": error.message},
            outcome="refused",
        )
    except Exception:
        logger.exception("a refusal could not be written to the audit", path=request.url.path)
