"""`python -m compsrt_basicsr` is the command `basicsr`."""

import sys

from compsrt_basicsr.cli.start import basicsr

if __name__ == '__main__':
    sys.exit(basicsr())
