"""`make bench`: every row against a baseline measured in the same run. Read the ratios, not the seconds."""

import os
import platform

from benchmarks import latency, run_overhead

if __name__ == "__main__":
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}")
    run_overhead.main()
    latency.main()
