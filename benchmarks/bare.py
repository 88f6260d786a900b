"""The baseline of the API's benchmark: a FastAPI application with one endpoint, which returns a constant of a size.

`python -m benchmarks.bare PORT BYTES...`: `/0` answers with the first size, `/1` with the second.
"""

import sys

import uvicorn
from fastapi import FastAPI, Response


def main() -> None:
    port, *sizes = map(int, sys.argv[1:])
    bodies = [b'{"text":"' + b"x" * (size - 11) + b'"}' for size in sizes]
    app = FastAPI()

    @app.get("/{number}")
    def constant(number: int) -> Response:
        return Response(bodies[number], media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
