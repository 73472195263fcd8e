"""CompSRT for BasicSR: importing this package repairs BasicSR 1.4.2 and registers our networks, losses and models."""

from compsrt_basicsr.basicsr_compat import patches

patches.install()  # before anything imports basicsr

from compsrt_basicsr import archs, losses, models  # noqa: E402, F401
from compsrt_basicsr.version import __version__  # noqa: E402

__all__ = ['__version__']
