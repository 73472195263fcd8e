"""Runs `basicsr` commands in forks of one process, since importing takes longer than a tiny training.

Reads one JSON job a line from stdin ({arguments, cwd, outputs: [stdout, stderr]}); writes the process id, then the exit
status, negative for a signal. Each command starts from a process that has imported everything and done nothing.
"""

import json
import os
import sys
import traceback

import compsrt_basicsr
from compsrt_basicsr.cli.basicsr import main


def run(job: dict) -> None:
    """Runs a job in this process and ends it."""
    os.chdir(job['cwd'])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in zip((1, 2), job['outputs']):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    status = 1
    try:
        status = main(job['arguments'])
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


compsrt_basicsr.register()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
