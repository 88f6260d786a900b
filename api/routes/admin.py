"""Administration: the temporary files of the API's host. Each worker's host has, and looks after, its own."""

from api import routing
from api.problems import described
from api.schemas.admin import Removed, TempFolder, removed, temp_folder
from api.services import Here
from videomoments_dagster.temp_files import TempFiles

router = routing.router(prefix="/api/admin", tags=["Administration"])


@router.get("/temp-stats", summary="Measure the temporary files", responses=described())
def get_temp_stats(here: Here) -> TempFolder:
    """What lies in the temp folder of this host, by purpose, and how much of it is in use."""
    return temp_folder(TempFiles.of(here.settings).stats(), here.settings.temp_bytes)


@router.post("/cleanup-temp", summary="Remove unused temporary files", responses=described())
def cleanup_temp(here: Here) -> Removed:
    """Removes what nobody works with: leftovers at once, interrupted downloads when they are older than a day or too
    large together. It happens by itself every six hours; answers what was removed."""
    return removed(TempFiles.of(here.settings).clean())
