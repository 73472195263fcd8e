"""Distributed runs: gloo without CUDA, and one GPU for each local rank."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from compsrt_basicsr.basicsr_compat.slurm import environment_int, export_environment
from compsrt_basicsr.errors import CompSRTError, first_line

JOIN_TIMEOUT = timedelta(minutes=10)  # until all processes have started
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # that of torch


def init_dist(original: Callable[..., None], launcher: str, backend: str | None = None, **kwargs: Any) -> None:
    """Joins the process group; BasicSR's function knows only NCCL and divides by the number of GPUs.

    Args:
        original: BasicSR's `init_dist`, called for other launchers. That for Slurm needs the tool `scontrol`, which
            containers lack.
        launcher: 'pytorch' (torchrun) or 'slurm'.
        backend: None for NCCL with CUDA and gloo without.
        kwargs: For `torch.distributed.init_process_group`; for slurm `port`.

    Raises:
        CompSRTError: If the launcher's environment variables are missing, a local rank has no GPU, or the processes do
            not find each other in time.
    """
    if launcher not in ('pytorch', 'slurm'):
        original(launcher, **kwargs)
        return
    cuda = torch.cuda.is_available()
    if backend is None or (backend == 'nccl' and not cuda):
        backend = 'nccl' if cuda else 'gloo'
    if mp.get_start_method(allow_none=True) is None:
        mp.set_start_method('spawn')
    if launcher == 'slurm':
        export_environment(kwargs.pop('port', None))
    rank = environment_int('RANK', launcher)
    if cuda:
        local_rank = int(os.environ.get('LOCAL_RANK', rank % torch.cuda.device_count()))
        torch.cuda.set_device(_local_device(local_rank, launcher))
    _join(backend, kwargs)


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


def _join(backend: str, options: dict[str, Any]) -> None:
    """Joins the process group; what it waits for must come within `JOIN_TIMEOUT`."""
    try:
        if not {'init_method', 'store'} & options.keys():
            store, rank, world_size = next(rendezvous('env://', timeout=JOIN_TIMEOUT))
            store.set_timeout(options.get('timeout', COLLECTIVE_TIMEOUT))
            options = {**options, 'store': store, 'rank': rank, 'world_size': world_size}
        dist.init_process_group(backend=backend, **options)
    except (RuntimeError, ValueError) as error:  # `DistError` is a RuntimeError
        count, host, port = (os.environ.get(name) for name in ('WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'))
        raise CompSRTError(
            f'The {count} processes of this run did not find each other at {host}:{port} ({first_line(error)}): '
            'check that all were started, that every node can reach this host, and that the port is free; set '
            'MASTER_ADDR and MASTER_PORT to choose others.'
        ) from error


def _local_device(local_rank: int, launcher: str) -> int:
    count = torch.cuda.device_count()
    if launcher == 'slurm':  # which may give each task a view of its own GPU only
        return local_rank % count
    if local_rank >= count:
        raise CompSRTError(
            f'Local rank {local_rank} has no GPU, this node has {count}: start torchrun with --nproc_per_node={count}.'
        )
    return local_rank
