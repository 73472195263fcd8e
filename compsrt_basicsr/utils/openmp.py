"""How threads of OpenMP wait between two parallel loops, set for the commands.

A waiting thread first asks again and again, then sleeps. Where the processor has nothing else to do, asking is faster;
beside another program it takes the core that its own process needs. GNU's OpenMP, which torch's wheels for Linux have,
asks 300,000 times, which is milliseconds; those of Intel and LLVM ask for 200 ms.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# scripts/benchmark_threads.py measures them; docs/results/threads.json has the figures.
SETTINGS = {'GOMP_SPINCOUNT': '3000', 'KMP_BLOCKTIME': '1'}  # times of asking; milliseconds
_OWN = (*SETTINGS, 'OMP_WAIT_POLICY', 'KMP_LIBRARY')


def wait_briefly(environment: MutableMapping[str, str] | None = None) -> None:
    """Lets threads sleep early in this process and those that it starts. Call it before torch is imported.

    Args:
        environment: where it is set; None: that of this process. If it says already how threads wait, nothing changes.
    """
    environment = os.environ if environment is None else environment
    if not any(name in environment for name in _OWN):
        environment.update(SETTINGS)
