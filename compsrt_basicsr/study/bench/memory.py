"""Peak memory of one run, in its own process."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.bench.modes import in_mode
from compsrt_basicsr.utils.process_memory import forget_peak, resident

_RUSAGE_UNIT = 1 if sys.platform == 'darwin' else 1024  # macOS reports bytes


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        mode: way of computing, see `modes.in_mode`.
        size: side of the LR image in pixels.
        threads: number of CPU threads.
        device: 'cpu', 'cuda' and so on.
    """

    mode: str
    size: int
    threads: int
    device: str


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a run.

    Attributes:
        process: memory of the whole process, with Python and torch; on a GPU everything that is allocated there.
        run: memory of the run beyond the loaded network; None if the system does not report it.
    """

    process: int
    run: int | None


def peak_memory(source: str, case: Case, folder: Path) -> Memory:
    """Runs a case once and returns its peak.

    Args:
        source: of the model, as `load_network` takes it.
        case: what to run.
        folder: with the files of engines, see `modes.in_mode`.

    Raises:
        CompSRTError: if the process failed, most likely because memory ran out.
    """
    command = [
        sys.executable,
        '-m',
        'compsrt_basicsr.study.bench.memory',
        source,
        json.dumps(asdict(case)),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f'status {done.returncode}'
        raise CompSRTError(
            f'`{case.mode}` at {case.size}x{case.size} could not be run ({reason}): take a smaller size.'
        )
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


@torch.no_grad()
def _run_once(source: str, case: Case, folder: Path) -> Memory:
    torch.set_num_threads(case.threads)
    model = load_network(source)
    network = in_mode(model, case.mode, folder).to(case.device)
    image = torch.rand(1, model.channels, case.size, case.size, device=case.device)
    del model
    gc.collect()
    if case.device != 'cpu':
        allocated = torch.cuda.memory_allocated(case.device)
        torch.cuda.reset_peak_memory_stats(case.device)
        network(image)
        peak = torch.cuda.max_memory_allocated(case.device)
        return Memory(peak, peak - allocated)
    before = resident('VmRSS')
    resettable = forget_peak()
    network(image)
    highest = resident('VmHWM') or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RUSAGE_UNIT
    return Memory(highest, highest - before if resettable and before else None)


if __name__ == '__main__':
    print(json.dumps(asdict(_run_once(sys.argv[1], Case(**json.loads(sys.argv[2])), Path(sys.argv[3])))))
