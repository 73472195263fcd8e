"""Peak memory of one run, in a process of its own."""

from __future__ import annotations

import gc
import json
import re
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.bench.modes import in_mode

_STATUS, _RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')


@dataclass(frozen=True)
class Case:
    """What is measured: a mode, the LR side in pixels, the threads, and the device."""

    mode: str
    size: int
    threads: int
    device: str


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a run.

    Attributes:
        process: all of the process, Python and torch included; on a GPU all that is allocated there.
        run: what the run took beyond the loaded network; None where the system does not tell.
    """

    process: int
    run: int | None


def peak_memory(source: str, case: Case) -> Memory:
    """Runs a case once and returns its peak.

    Raises:
        CompSRTError: the process failed, most likely for want of memory.
    """
    command = [sys.executable, '-m', 'compsrt_basicsr.study.bench.memory', source, json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f'status {done.returncode}'
        raise CompSRTError(
            f'`{case.mode}` at {case.size}x{case.size} could not be run ({reason}): take a smaller size.'
        )
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


@torch.no_grad()
def _run_once(source: str, case: Case) -> Memory:
    torch.set_num_threads(case.threads)
    model = load_network(source)
    network = in_mode(model, case.mode).to(case.device)
    picture = torch.rand(1, model.channels, case.size, case.size, device=case.device)
    del model
    gc.collect()
    if case.device != 'cpu':
        before = torch.cuda.memory_allocated(case.device)
        torch.cuda.reset_peak_memory_stats(case.device)
        network(picture)
        peak = torch.cuda.max_memory_allocated(case.device)
        return Memory(peak, peak - before)
    before = _resident('VmRSS')
    resettable = _forget_peak()
    network(picture)
    peak = _resident('VmHWM') or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RUSAGE_UNIT
    return Memory(peak, peak - before if resettable and before else None)


_RUSAGE_UNIT = 1 if sys.platform == 'darwin' else 1024  # macOS counts bytes


def _resident(key: str) -> int | None:
    """Resident bytes now (VmRSS) or at the peak (VmHWM), where Linux tells them."""
    try:
        found = re.search(rf'^{key}:\s+(\d+) kB$', _STATUS.read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _forget_peak() -> bool:
    """Lets Linux count the peak from now on; without that, loading would hide a small run."""
    try:
        _RESET.write_text('5')
    except OSError:
        return False
    return True


if __name__ == '__main__':
    print(json.dumps(asdict(_run_once(sys.argv[1], Case(**json.loads(sys.argv[2]))))))
