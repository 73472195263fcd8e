"""The logger of the host side: a child of BasicSR's, so that its lines reach the same console and file."""

from __future__ import annotations

import logging

# Before BasicSR sets its logger up (it must not be touched until then) warnings go to stderr by Python's last resort.
logger = logging.getLogger('basicsr.compsrt')
