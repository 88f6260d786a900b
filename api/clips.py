"""The clip that a moment plays from: its own, or its parent's when it is refined; none that shows something else."""

from api.services import Services
from db.queries import moments
from db.queries.clips import ClipView
from videomoments_dagster.errors import Conflict, NotFound


class ClipOutdated(Conflict):
    """The moment was moved by hand since its clip was cut."""

    code, title = "clip_outdated", "The clip does not show the moment any more"


def playable_clip(services: Services, moment: str) -> ClipView:
    """Raises NotFound for a moment that is not there or has no clip, ClipOutdated for one that was moved out of it."""
    with services.database.read() as session:
        view = moments.view(session, moment)
    if view is None:
        raise NotFound(f"There is no moment {moment!r}.")
    if view.clip is None:
        raise NotFound(f"Moment {moment!r} has no clip yet.", hint="The pipeline makes it; see its status.")
    if view.playable is None:
        raise ClipOutdated(
            f"Moment {moment!r} was moved since its clip was cut.",
            hint="Cut it again: POST to `clip` of the moment, or to `extract-clips` of the video.",
        )
    return view.playable
