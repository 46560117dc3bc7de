"""Run the command line: ``python -m numpy_norms COMMAND``."""

from numpy_norms.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
