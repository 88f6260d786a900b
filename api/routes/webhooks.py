"""Webhooks: the log of what they were told, and telling it again."""

from typing import Annotated

from fastapi import Path, Query

from api import routing
from api.parameters import Cursor, Limit
from api.problems import described
from api.schemas.webhooks import Delivery, DeliveryPage, delivery
from api.services import Here
from db.queries import webhooks
from db.queries.paging import DEFAULT_LIMIT
from db.queries.webhooks import State
from videomoments_dagster.errors import NotFound

router = routing.router(prefix="/api/webhooks", tags=["Webhooks"])


@router.get("/deliveries", summary="List webhook deliveries", responses=described())
def list_webhook_deliveries(
    here: Here,
    request_id: Annotated[str | None, Query(max_length=36, description="Only of this request")] = None,
    video: Annotated[str | None, Query(max_length=100, description="Only of requests about this video")] = None,
    state: Annotated[State | None, Query(description="Only those in this state")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> DeliveryPage:
    """What webhooks are told of requests that have ended, newest first; kept for 30 days, or until the video is
    deleted."""
    with here.database.read() as session:
        page = webhooks.page(session, request_id=request_id, video=video, state=state, limit=limit, cursor=cursor)
    return DeliveryPage.model_construct(items=[delivery(each) for each in page.items], next_cursor=page.next_cursor)


@router.post(
    "/deliveries/{delivery}/redeliver", summary="Deliver to a webhook again", status_code=202, responses=described(404)
)
def redeliver_webhook(
    here: Here,
    identifier: Annotated[str, Path(alias="delivery", pattern="^msg_[0-9a-f]{32}$", description="The delivery's `id`")],
) -> Delivery:
    """Tells it again within seconds, under the same `Webhook-Id`, and as often as the first time if it is not heard."""
    with here.database.session() as session:
        view = webhooks.redeliver(session, identifier)
    if view is None:
        raise NotFound(f"There is no delivery {identifier!r}.", hint="/api/webhooks/deliveries lists them.")
    return delivery(view)
