"""`create_train_val_dataloader`: exact resuming for runs of this package, and no CUDA prefetch without CUDA."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from compsrt_basicsr.basicsr_compat.datasets import check_metrics
from compsrt_basicsr.basicsr_compat.spawning import make_portable
from compsrt_basicsr.config.is_compsrt_run import is_ours
from compsrt_basicsr.errors import CompSRTError

if TYPE_CHECKING:
    from compsrt_basicsr.basicsr_compat.exact_resume import ResumableSampler


def create_train_val_dataloader(
    original: Callable[..., tuple[Any, ...]], opt: MutableMapping[str, Any], logger: logging.Logger
) -> tuple[DataLoader, ResumableSampler, list[DataLoader], int, int]:
    """Builds the loaders as BasicSR does; in runs of this package a sample depends on its place in the run alone.

    Args:
        original: BasicSR's function.
        opt: The parsed options, changed in place; `resume_from` has epoch and iteration of a resumed run.
        logger: BasicSR's logger.

    Returns:
        Training loader and sampler, validation loaders, number of epochs, number of iterations.

    Raises:
        CompSRTError: If the training set is smaller than one batch, or a validation set does not fit the metrics.
    """
    for dataset_opt in opt['datasets'].values():
        _without_cuda_prefetch(dataset_opt, logger)
    if not is_ours(opt):
        built = original(opt, logger)
        make_portable(built[0].dataset)
        _check_validation(opt, built[2])
        return built
    _without_shared_prefetch(opt['datasets']['train'], logger)
    with _resumable_parts(opt):
        loader, sampler, val_loaders, epochs, iterations = original(opt, logger)
    _check_validation(opt, val_loaders)
    if len(loader) == 0:
        raise CompSRTError(
            f'`datasets.train` has {len(sampler)} samples for each process, fewer than one batch of '
            f'{loader.batch_size}: raise `dataset_enlarge_ratio` or lower `batch_size_per_gpu`.'
        )
    # BasicSR counts the last partial batch, which its loader drops, and would stop before total_iter.
    epochs = max(epochs, math.ceil(iterations / len(loader)))
    for each in (loader, *val_loaders):  # iterating a loader draws a seed, by default from the training's own stream
        each.generator = torch.Generator().manual_seed(opt['manual_seed'] + opt['rank'])
    if not _skip_consumed(opt, loader, sampler, logger):
        resumed = opt['resume_from']  # the epochs before were longer or shorter: enough must be left
        epochs = max(epochs, resumed['epoch'] + math.ceil((iterations - resumed['iter']) / len(loader)))
    return loader, sampler, val_loaders, epochs, iterations


def _check_validation(opt: MutableMapping[str, Any], loaders: list[DataLoader]) -> None:
    """Raises CompSRTError before the training if an image of a validation set does not fit a metric."""
    for loader in loaders:
        check_metrics(loader.dataset, (opt.get('val') or {}).get('metrics'))


def consumed_samples(epoch: int, iteration: int, batches: int, batch_size: int) -> tuple[int, bool]:
    """Returns how many samples of `epoch` one process has seen after `iteration`, and whether that is plausible.

    Args:
        epoch: The epoch, counted from 0.
        iteration: Iterations done since the start of the run.
        batches: Batches of an epoch.
        batch_size: Samples of a batch in one process.
    """
    done = iteration - epoch * batches
    clipped = min(max(done, 0), batches)
    return clipped * batch_size, done == clipped


def _skip_consumed(
    opt: MutableMapping[str, Any], loader: DataLoader, sampler: ResumableSampler, logger: logging.Logger
) -> bool:
    """Skips what a resumed epoch has seen; returns whether the run continues in the middle of its own order."""
    resumed = opt.get('resume_from')
    if not resumed:
        return True
    count, plausible = consumed_samples(resumed['epoch'], resumed['iter'], len(loader), loader.batch_size or 1)
    if not plausible:
        logger.warning(
            f'The saved state (epoch {resumed["epoch"]}, iteration {resumed["iter"]}) does not fit {len(loader)} '
            'iterations per epoch: data set, batch size or number of processes have changed, so the order of the '
            'samples does not continue exactly.'
        )
    sampler.skip(resumed['epoch'], count)
    return plausible


@contextlib.contextmanager
def _resumable_parts(opt: MutableMapping[str, Any]) -> Iterator[None]:
    """Makes BasicSR's function build the resumable sampler and data set while the block runs."""
    from basicsr import train

    from compsrt_basicsr.basicsr_compat.exact_resume import ResumableSampler, SeededDataset

    sampler, build_dataset = train.EnlargedSampler, train.build_dataset

    def build(dataset_opt: MutableMapping[str, Any]) -> Any:
        dataset = build_dataset(dataset_opt)
        if dataset_opt['phase'] != 'train':
            return dataset
        return SeededDataset(dataset, opt['manual_seed'], opt['rank'])

    train.EnlargedSampler, train.build_dataset = ResumableSampler, build
    try:
        yield
    finally:
        train.EnlargedSampler, train.build_dataset = sampler, build_dataset


def _without_cuda_prefetch(dataset_opt: MutableMapping[str, Any], logger: logging.Logger) -> None:
    if dataset_opt.get('prefetch_mode') == 'cuda' and not torch.cuda.is_available():
        logger.warning('`prefetch_mode: cuda` needs CUDA: batches are loaded without prefetching.')
        dataset_opt['prefetch_mode'] = None


def _without_shared_prefetch(dataset_opt: MutableMapping[str, Any], logger: logging.Logger) -> None:
    """Turns off two uses of BasicSR's prefetch thread that share state with the training loop."""
    if dataset_opt.get('prefetch_mode') != 'cpu':
        return
    if dataset_opt.get('num_worker_per_gpu') == 0:
        logger.warning('`prefetch_mode: cpu` without workers would share random numbers with training: it is off.')
        dataset_opt['prefetch_mode'] = None
    elif dataset_opt.get('persistent_workers'):
        logger.warning('`prefetch_mode: cpu` cannot keep workers between epochs: `persistent_workers` is off.')
        dataset_opt['persistent_workers'] = False
