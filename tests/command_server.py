"""Runs Python modules as commands in forks of one process, since importing takes longer than a tiny training.

Reads one JSON job a line from stdin ({module, arguments, cwd, environment, outputs: [stdout, stderr]}, where module may
be the path of a script); writes the process id, then the exit status, negative for a signal. Each command starts from a
process that has imported everything and done nothing.
"""

import atexit
import json
import os
import runpy
import signal
import sys
import traceback

import compsrt_basicsr

compsrt_basicsr.register()
import basicsr.test  # noqa: E402
import basicsr.train  # noqa: E402, F401

import compsrt_basicsr.cli.basicsr  # noqa: E402
from compsrt_basicsr.checkpoints import load  # noqa: E402, F401


def run(job: dict) -> None:
    """Runs a job in this process and ends it."""
    os.setsid()  # so that a signal to its group reaches the processes that it starts, and no others
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.chdir(job['cwd'])
    os.environ.clear()
    os.environ.update(job['environment'])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in zip((1, 2), job['outputs']):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    module = job['module']
    sys.argv = [module, *job['arguments']]
    status = 0
    try:
        if module.endswith('.py'):
            sys.path[0] = os.path.dirname(os.path.abspath(module))
            runpy.run_path(module, run_name='__main__')
        else:
            runpy.run_module(module, run_name='__main__', alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        status = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == '__main__':
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
