"""The package's logger: a child of BasicSR's, so that its lines reach the same console and file."""

from __future__ import annotations

import logging

# Before BasicSR sets up its logger (which must not be touched until then), Python prints warnings on stderr.
logger = logging.getLogger('basicsr.compsrt')
