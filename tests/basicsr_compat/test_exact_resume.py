"""A resumed run sees the batches that an unbroken one would see."""

import logging
import random

import numpy as np
import pytest
import torch
from basicsr import train
from basicsr.data.prefetch_dataloader import CPUPrefetcher

from compsrt_basicsr.basicsr_compat import dataloaders
from compsrt_basicsr.basicsr_compat.dataloaders import consumed_samples
from compsrt_basicsr.basicsr_compat.exact_resume import ResumableSampler, SeededDataset, sample_seed, seeded
from compsrt_basicsr.errors import CompSRTError

EPOCHS = 3


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """Treats a run of BasicSR's own network as one of this package."""
    monkeypatch.setattr(dataloaders, 'is_ours', lambda opt: True)


@pytest.fixture
def run_options(stock_options):
    """Options as parse_options would leave them."""
    stock_options.update(dist=False, rank=0, world_size=1, num_gpu=0)
    for phase, dataset in stock_options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    return stock_options


def stream(opt, first_epoch=0):
    """Yields (epoch, batch) in the way of BasicSR's training loop."""
    loader, sampler, *_ = train.create_train_val_dataloader(opt, logging.getLogger('test'))
    prefetcher = CPUPrefetcher(loader)
    for epoch in range(first_epoch, EPOCHS):
        sampler.set_epoch(epoch)
        prefetcher.reset()
        while (batch := prefetcher.next()) is not None:
            yield epoch, batch


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for (epoch, batch), (other_epoch, other) in zip(first, second):
        assert epoch == other_epoch
        assert batch['gt_path'] == other['gt_path']
        assert torch.equal(batch['lq'], other['lq']) and torch.equal(batch['gt'], other['gt'])


@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('done', [2, 3, 4])
def test_resumed_batches_equal_those_of_an_unbroken_run(run_options, done, rank):
    """Three batches an epoch: in the middle, at the end, and just after the start of an epoch."""
    run_options.update(rank=rank, world_size=2)
    run_options['datasets']['train']['dataset_enlarge_ratio'] = 2
    unbroken = list(stream(run_options))
    assert len(unbroken) == 3 * EPOCHS
    epoch = unbroken[done - 1][0]
    random.seed(99)  # the resumed process has drawn other numbers
    run_options['resume_from'] = {'epoch': epoch, 'iter': done}
    assert_same(unbroken[done:], list(stream(run_options, epoch)))


@pytest.mark.parametrize(
    ('workers', 'prefetch', 'persistent'), [(2, None, False), (2, None, True), (1, 'cpu', False), (0, 'cpu', False)]
)
def test_workers_and_prefetching_change_nothing(run_options, workers, prefetch, persistent):
    unbroken = list(stream(run_options))
    run_options['datasets']['train'].update(
        num_worker_per_gpu=workers, prefetch_mode=prefetch, persistent_workers=persistent
    )
    run_options['resume_from'] = {'epoch': 1, 'iter': 4}
    assert_same(unbroken[4:], list(stream(run_options, 1)))


def test_epochs_ranks_seeds_and_positions_draw_differently(run_options):
    batches = [batch['lq'] for _, batch in stream(run_options)]
    assert not torch.equal(batches[0], batches[3])
    seeds = {sample_seed(*key) for key in np.ndindex(3, 3, 3, 3)}
    assert len(seeds) == 81 and all(0 <= seed < 2**63 for seed in seeds)


def test_order_of_an_epoch_is_that_of_basicsr(run_options):
    from basicsr.data.data_sampler import EnlargedSampler

    ours, theirs = ResumableSampler(range(7), 2, 1, 3), EnlargedSampler(range(7), 2, 1, 3)
    for epoch in (0, 4):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert [index for _, _, index in ours] == list(theirs)


def test_skipping_is_for_one_epoch_and_repeatable():
    sampler = ResumableSampler(range(6), 1, 0)
    sampler.skip(1, 4)
    assert len(list(sampler)) == 6
    sampler.set_epoch(1)
    assert [position for _, position, _ in sampler] == [4, 5] == [position for _, position, _ in sampler]
    sampler.set_epoch(2)
    assert len(list(sampler)) == 6


def test_seeding_leaves_the_callers_random_states_alone():
    with seeded(5):
        first = random.random(), np.random.rand(), torch.rand(1).item()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with seeded(5):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_iterating_draws_nothing_from_the_training_stream(run_options):
    """Else the number of validations before a resume would change dropout after it."""
    loader, _, val_loaders, *_ = train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    before = torch.get_rng_state()
    for each in (loader, *val_loaders):
        next(iter(each))
    assert torch.equal(before, torch.get_rng_state())


def test_wrapper_forwards_what_the_loop_asks(run_options):
    loader, *_ = train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    assert isinstance(loader.dataset, SeededDataset)
    assert loader.dataset.opt['name'] == 'Tiny' and len(loader.dataset) == 6
    assert torch.equal(loader.dataset[3]['lq'], loader.dataset[(0, 3, 3)]['lq'])
    assert train.EnlargedSampler.__name__ == 'EnlargedSampler'  # restored


@pytest.mark.parametrize(
    ('epoch', 'iteration', 'expected'),
    [(0, 0, (0, True)), (0, 3, (6, True)), (1, 4, (2, True)), (1, 9, (6, False)), (2, 4, (0, False))],
)
def test_consumed_samples(epoch, iteration, expected):
    assert consumed_samples(epoch, iteration, batches=3, batch_size=2) == expected


def test_a_state_that_does_not_fit_is_warned_about(run_options, caplog):
    run_options['resume_from'] = {'epoch': 0, 'iter': 50}
    with caplog.at_level(logging.WARNING):
        train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    assert 'does not fit 3 iterations per epoch' in caplog.text


def test_less_than_one_batch_is_an_error(run_options):
    run_options['datasets']['train']['batch_size_per_gpu'] = 7
    with pytest.raises(CompSRTError, match='fewer than one batch of 7'):
        train.create_train_val_dataloader(run_options, logging.getLogger('test'))


def test_dropped_partial_batches_do_not_end_the_run_early(run_options):
    """Six samples in batches of four are one iteration an epoch; BasicSR counts two."""
    run_options['datasets']['train']['batch_size_per_gpu'] = 4
    run_options['train']['total_iter'] = 10
    *_, epochs, iterations = train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    assert (epochs, iterations) == (10, 10)


def test_cuda_prefetch_falls_back_without_cuda(run_options, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    run_options['datasets']['train']['prefetch_mode'] = 'cuda'
    with caplog.at_level(logging.WARNING):
        train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    assert run_options['datasets']['train']['prefetch_mode'] is None
    assert 'needs CUDA' in caplog.text


def test_other_runs_get_basicsrs_parts(run_options, monkeypatch):
    monkeypatch.setattr(dataloaders, 'is_ours', lambda opt: False)
    loader, sampler, *_ = train.create_train_val_dataloader(run_options, logging.getLogger('test'))
    assert type(sampler).__name__ == 'EnlargedSampler' and not isinstance(loader.dataset, SeededDataset)
