"""Numbers for monitoring, in Prometheus' text format."""

from fastapi import Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api import routing
from api.problems import described
from api.services import Here

router = routing.router(tags=["Health"])
_EXAMPLE = "# HELP videomoments_queue_depth Requests without an end.\n# TYPE videomoments_queue_depth gauge\n"
_EXAMPLE += 'videomoments_queue_depth{state="queued"} 3.0\n'


@router.get(
    "/metrics",
    summary="Measure the platform",
    response_class=Response,
    responses={**described(), 200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
)
def get_metrics(here: Here, request: Request) -> Response:
    """For Prometheus. 200 with what can be told, even while PostgreSQL or Redis is away: `videomoments_up` says so."""
    return Response(request.app.state.metrics.text(here), media_type=CONTENT_TYPE_PLAIN_0_0_4)
