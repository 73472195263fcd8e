"""`python -m compsrt_basicsr` is the command `basicsr`."""

import sys

from compsrt_basicsr.cli.basicsr import main

if __name__ == '__main__':
    sys.exit(main())
