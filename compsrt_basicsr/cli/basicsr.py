"""The command `basicsr`: BasicSR's training and testing, with this package in it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from compsrt_basicsr.basicsr_compat.command_line import flag_parser
from compsrt_basicsr.basicsr_compat.error_messages import sentence
from compsrt_basicsr.utils import interruption
from compsrt_basicsr.utils.threads import THREADS
from compsrt_basicsr.version import __version__

USAGE = """Usage: basicsr COMMAND -opt FILE [OPTIONS]

Trains and tests super-resolution networks with BasicSR 1.4.2 and compsrt_basicsr.

Commands:
  train      train as the option file says; writes experiments/ and tb_logger/ in the working directory
  test       test as the option file says; writes results/ in the working directory

Options of both (basicsr train --help explains them):
  -opt FILE  --launcher {none,pytorch,slurm}  --auto_resume  --debug  --force_yml KEY:KEY=VALUE ...

  --help     show this text
  --version  show the version

On several processes: torchrun --nproc_per_node=2 -m compsrt_basicsr train -opt FILE --launcher pytorch
"""
_REMEDY = {'train': 'continue from the last saved state with --auto_resume', 'test': 'give the same command again'}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name; None takes `sys.argv`.

    Returns:
        The exit status: 0, 1 after an error, 2 for wrong usage, 130 or 143 when interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = arguments[0] if arguments else None
    if command in ('--help', '-h'):
        sys.stdout.write(USAGE)
        return 0
    if command == '--version':
        sys.stdout.write(f'basicsr (compsrt_basicsr {__version__}, BasicSR 1.4.2)\n')
        return 0
    if command not in ('train', 'test'):
        problem = f'unknown command `{command}`' if command else 'a command is missing'
        sys.stderr.write(f'Error: {problem}: use `basicsr train` or `basicsr test` (see basicsr --help).\n')
        return 2
    sys.argv = [f'basicsr {command}', *arguments[1:]]  # BasicSR's pipelines read their flags from here
    flags = flag_parser().parse_args()  # wrong flags end here, before anything heavy is imported

    def run() -> int:
        if flags.launcher != 'none':  # a rank may wait for others in C++, where a handler is not called
            interruption.leave_alone(signal.SIGTERM)
        logging.raiseExceptions = False  # a log on a full disk would print a traceback for each line
        return _guarded(_pipeline(command))

    try:
        return interruption.run(run, _REMEDY[command])
    except interruption.Interruption as stop:
        return 128 + stop.number


def _pipeline(command: str) -> Callable[[], None]:
    """Returns the pipeline as a function without arguments."""

    def run() -> None:
        from compsrt_basicsr.basicsr_compat.register import register

        register()
        from basicsr import test, train

        THREADS.choose()

        pipeline = train.train_pipeline if command == 'train' else test.test_pipeline
        pipeline(os.getcwd())
        _leave_process_group()

    return run


def _guarded(run: Callable[[], None]) -> int:
    """Runs a pipeline and reports errors that the user can fix in one sentence; others keep their traceback."""
    try:
        run()
    except Exception as error:
        text = sentence(error)
        if text is None:
            raise
        sys.stderr.write(f'Error: {text}\n')
        return 1
    return 0


def _leave_process_group() -> None:
    """Ends a distributed run. After an error the launcher does it, since waiting for dead ranks would hang."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == '__main__':
    from compsrt_basicsr.cli import start

    sys.exit(start.basicsr())
