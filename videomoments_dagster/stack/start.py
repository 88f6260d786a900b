"""`python -m videomoments_dagster.stack.start MODULE ARGUMENTS...`: as `python -m MODULE`, sooner.

Dagster's import makes some hundred thousand objects that stay. Python looks through all of them for garbage again and
again meanwhile, which is a sixth of the start, and seldom finds any later.
"""

import gc
import runpy
import sys

_OBJECTS = 50_000  # new ones until the next look; Python's own number is 700


def main() -> None:
    gc.set_threshold(_OBJECTS, 20, 20)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
