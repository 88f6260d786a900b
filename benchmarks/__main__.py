"""`make bench`: every row against a baseline measured in the same run. Read the ratios, not the seconds.

`python -m benchmarks NAME...` prints only the tables that are named.
"""

import os
import platform
import sys

from benchmarks import api, growth, latency, run_overhead, tunnels, workers

TABLES = {
    "run_overhead": run_overhead,
    "latency": latency,
    "workers": workers,
    "growth": growth,
    "tunnels": tunnels,
    "api": api,
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(TABLES)
    if unknown := set(names) - set(TABLES):
        sys.exit(f"No table {', '.join(sorted(unknown))}: there are {', '.join(TABLES)}.")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}")
    for name in names:
        TABLES[name].main()
