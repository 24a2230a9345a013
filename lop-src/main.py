"""The command line without installing: `python lop-src/main.py mnist -c CONFIG`; installed, it is `lop`."""

import sys

from lop.cli import main

if __name__ == "__main__":
    sys.exit(main())
