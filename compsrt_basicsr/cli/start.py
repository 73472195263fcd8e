"""Entry points of the commands. From here on signals end them cleanly, so nothing else is imported before."""

import signal
import sys
from types import FrameType


def _end(number: int, _frame: 'FrameType | None') -> None:
    """Ends the process by Ctrl-C until `interruption` is imported."""
    sys.stderr.write('Interrupted: give the same command again.\n')
    raise SystemExit(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

from compsrt_basicsr.utils import before_torch, interruption  # noqa: E402
from compsrt_basicsr.utils.threads import THREADS  # noqa: E402

before_torch.prepare()
THREADS.watch()  # until torch is imported, which takes long enough for a measurement


def compsrt() -> None:
    """Runs `compsrt` with the arguments of the process, and ends it."""

    def command() -> None:
        from compsrt_basicsr.cli.compsrt import main

        main(prog_name='compsrt')

    interruption.run(command, is_last=True)


def basicsr() -> int:
    """Runs `basicsr` with the arguments of the process; returns the exit status."""

    def command() -> int:
        from compsrt_basicsr.cli.basicsr import main

        return main()

    return interruption.run(command, is_last=True)
