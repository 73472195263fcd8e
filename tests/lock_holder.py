"""A process that holds a lock until it is told to end, for tests: `python lock_holder.py FILE [fork]`.

With `fork` a child process of it prints its id and outlives it.
"""

import os
import sys
import time

from compsrt_basicsr.utils.lock import locked

with locked(sys.argv[1], 'it'):
    if sys.argv[2:] == ['fork']:
        forgotten, forgets = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(forgets, b'.')  # only now the lock is not its own too
            time.sleep(60)
            os._exit(0)
        os.read(forgotten, 1)
        print(child, flush=True)
    print('held', flush=True)
    sys.stdin.read()
