"""`python -m videomoments_dagster.stack.start MODULE ARGUMENTS...`: as `python -m MODULE`, sooner.

Dagster's import makes some hundred thousand objects that stay. Python looks through all of them for garbage again and
again meanwhile, which is a sixth of the start. Our own processes go back to Python's numbers once they work.
"""

import runpy
import sys

from videomoments_dagster import garbage


def main() -> None:
    garbage.seldom()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
