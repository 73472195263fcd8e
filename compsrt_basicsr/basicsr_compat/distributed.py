"""Distributed runs: gloo without CUDA, and one GPU for each local rank."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from compsrt_basicsr.errors import CompSRTError


def init_dist(original: Callable[..., None], launcher: str, backend: str | None = None, **kwargs: Any) -> None:
    """Joins the process group; BasicSR's function knows only NCCL and divides by the number of GPUs.

    Args:
        original: BasicSR's `init_dist`, called where it works.
        launcher: 'pytorch' (torchrun) or 'slurm'.
        backend: None for NCCL with CUDA and gloo without.
        kwargs: For `torch.distributed.init_process_group`; for slurm `port`.

    Raises:
        CompSRTError: If the launcher's environment variables are missing, or a local rank has no GPU.
    """
    if launcher not in ('pytorch', 'slurm'):
        original(launcher, **kwargs)
        return
    cuda = torch.cuda.is_available()
    if backend is None or (backend == 'nccl' and not cuda):
        backend = 'nccl' if cuda else 'gloo'
    if launcher == 'slurm' and cuda:
        original(launcher, backend, **kwargs)
        return
    if mp.get_start_method(allow_none=True) is None:
        mp.set_start_method('spawn')
    if launcher == 'slurm':
        _export_slurm_environment(kwargs.pop('port', None))
    rank = _environment_int('RANK', launcher)
    if cuda:
        torch.cuda.set_device(_local_device(int(os.environ.get('LOCAL_RANK', rank % torch.cuda.device_count()))))
    dist.init_process_group(backend=backend, **kwargs)


def model_to_device(original: Callable[[Any, nn.Module], nn.Module], model: Any, net: nn.Module) -> nn.Module:
    """Wraps a network for distributed training on the CPU; on GPUs BasicSR's method does it.

    Args:
        original: `BaseModel.model_to_device`.
        model: The BasicSR model, with `opt` and `device`.
        net: The network.

    Returns:
        The network, wrapped where the run is distributed.
    """
    if not model.opt['dist'] or model.device.type != 'cpu':
        return original(model, net)
    find_unused = model.opt.get('find_unused_parameters', False)
    return DistributedDataParallel(net.to(model.device), find_unused_parameters=find_unused)


def _local_device(local_rank: int) -> int:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise CompSRTError(
            f'Local rank {local_rank} has no GPU, this node has {count}: start torchrun with --nproc_per_node={count}.'
        )
    return local_rank


def _environment_int(name: str, launcher: str) -> int:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError) as error:
        remedy = 'start the command with torchrun' if launcher == 'pytorch' else 'start the command with srun'
        raise CompSRTError(
            f'--launcher {launcher} needs the environment variable {name}: {remedy}, or leave --launcher out.'
        ) from error


def _export_slurm_environment(port: int | None) -> None:
    """Sets the environment variables of torch.distributed from those of Slurm."""
    rank = _environment_int('SLURM_PROCID', 'slurm')
    nodes = os.environ.get('SLURM_NODELIST', 'localhost')
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ['MASTER_ADDR'] = _first_host(nodes)
    os.environ['WORLD_SIZE'] = str(_environment_int('SLURM_NTASKS', 'slurm'))
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')
    os.environ['RANK'] = str(rank)


def _first_host(nodes: str) -> str:
    """Returns the first host of Slurm's compressed list, which Slurm's own tool expands."""
    import subprocess

    try:
        shown = subprocess.run(
            ['scontrol', 'show', 'hostname', nodes], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        shown = []
    return shown[0] if shown else nodes
