"""Checkpoints from which a broken run continues exactly, shared by the model classes."""

from __future__ import annotations

from collections.abc import Mapping
from os import path as osp
from typing import Any

from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from compsrt_basicsr.config.resume_rules import changed_options, options_to_save
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import FAKE, way
from compsrt_basicsr.models import run_state
from compsrt_basicsr.models.nan_checks import require_finite_parameters
from compsrt_basicsr.models.resumed_training import resume_optimizer, resume_schedule
from compsrt_basicsr.utils.threads import THREADS
from compsrt_basicsr.utils.torch_io import atomic_save


class ExactResumeMixin(SRModel):
    """Saves all that a resumed run needs to give the numbers of an unbroken one, and never leaves half a file.

    Beyond BasicSR's state these are the random generators of every process, the best metrics, the number of threads,
    and the options, with which a resumed run compares its own (`config.resume_rules`). The order of the samples is the
    part of `basicsr_compat.dataloaders`.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.run_options = options_to_save(opt)  # before BasicSR takes its parts out of them
        if opt['is_train']:
            get_root_logger().info(f'Computing {THREADS.text()}.')
        super().__init__(opt)
        if not self.is_train:
            where = THREADS.text() if self.device.type == 'cpu' else f'on {self.device}'
            get_root_logger().info(f'Testing {self.choose_way()}, {where}.')

    def choose_way(self) -> str:
        """Chooses how the network computes in tests; returns it in words, such as 'in float32'."""
        return way(False, FAKE)

    # Epoch of a training state that is due, and how many validations it still waits for.
    _state_due: tuple[int, int] | None = None

    def save(self, epoch: int, current_iter: int) -> None:
        """Saves networks and training state.

        Args:
            epoch: the current epoch, -1 at the end of the run.
            current_iter: the current iteration, -1 at the end of the run, which saves no training state.

        Raises:
            CompSRTError: if a parameter is NaN or infinite, or a file could not be written.
        """
        require_finite_parameters(self.get_bare_model(self.net_g), current_iter)
        super().save(epoch, current_iter)

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = 'params',
    ) -> None:
        """Saves networks to `models/LABEL_ITERATION.pth` as BasicSR does, but atomically.

        Args:
            net: one network, or several for one file.
            net_label: start of the file's name, such as 'net_g'.
            current_iter: end of the file's name; -1 stands for 'latest'.
            param_key: key of each network in the file.

        Raises:
            CompSRTError: if the file could not be written. Earlier checkpoints are untouched.
        """
        nets, keys = (value if isinstance(value, list) else [value] for value in (net, param_key))
        label = 'latest' if current_iter == -1 else current_iter
        states = {
            key: {name: value.cpu() for name, value in self.get_bare_model(each).state_dict().items()}
            for each, key in zip(nets, keys)
        }
        atomic_save(states, osp.join(self.opt['path']['models'], f'{net_label}_{label}.pth'))

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Saves the training state, after the validations that are due at the same iteration.

        BasicSR saves before it validates, which would lose the best metrics of that validation to a resumed run.

        Raises:
            CompSRTError: if the file could not be written.
        """
        if current_iter == -1:
            return
        self._state_due = epoch, self._validations_at(current_iter)
        self._save_state_once_validated(current_iter)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Validates on one data set, then saves the training state if it waited for this validation.

        After the end, BasicSR's loop has counted one or two iterations that were not trained.
        """
        if self.is_train and isinstance(current_iter, int):
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        super().validation(dataloader, current_iter, tb_logger, save_img)
        if self._state_due is not None:
            epoch, left = self._state_due
            self._state_due = epoch, left - 1
            self._save_state_once_validated(current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores optimizers, schedules, random generators and best metrics, and logs the options that have changed.

        Args:
            resume_state: a training state, as saved by this class, in this or an earlier version, or by BasicSR.

        Raises:
            CompSRTError: if the state is one of another optimizer, or of other parameters.
        """
        own = resume_state.get('compsrt', {})
        saved, logger = own.get('options'), get_root_logger()
        changes = [] if saved is None else changed_options(saved, self.run_options)
        if saved is None:
            logger.info('The state holds no options: those that have changed since cannot be listed.')
        for change in changes:
            logger.info(f'Resumed with a new value: {change}')
        self._resume_optimizers(resume_state, saved, any(change.place == 'train.warmup_iter' for change in changes))
        if sentence := THREADS.resume(own.get('threads')):
            logger.info(sentence)
        run_state.restore(self, own)

    def parameters_under(self, train: Mapping[str, Any] | None) -> list[nn.Parameter]:
        """Returns what `optimizer_g` trains, in the order that other options of `train` would give it.

        Args:
            train: the section `train` of a saved run; None where it is not known.
        """
        return [parameter for group in self.optimizer_g.param_groups for parameter in group['params']]

    def _resume_optimizers(
        self, resume_state: dict[str, Any], saved: Mapping[str, Any] | None, warmup_changed: bool
    ) -> None:
        optimizers, schedulers = resume_state['optimizers'], resume_state['schedulers']
        if len(optimizers) != len(self.optimizers) or len(schedulers) != len(self.schedulers):
            raise CompSRTError(
                f'The state has {len(optimizers)} optimizers and {len(schedulers)} schedules, the run '
                f'{len(self.optimizers)} and {len(self.schedulers)}: give a state of this model.'
            )
        warmup = int(self.opt['train'].get('warmup_iter', -1))
        for optimizer, scheduler, state, schedule in zip(self.optimizers, self.schedulers, optimizers, schedulers):
            resume_optimizer(optimizer, state, self.parameters_under((saved or {}).get('train')))
            rates = [group['lr'] for group in state['param_groups']]
            if resume_schedule(scheduler, schedule, rates, warmup, warmup_changed):
                now = ', '.join(f'{group["lr"]:.3e}' for group in optimizer.param_groups)
                get_root_logger().info(
                    f'The schedule has changed: the learning rate at iteration {resume_state["iter"]} is {now}.'
                )

    def _validations_at(self, current_iter: int) -> int:
        val = self.opt.get('val')
        due = val is not None and current_iter % val['val_freq'] == 0
        return sum(name.split('_')[0] == 'val' for name in self.opt['datasets']) if due else 0

    def _save_state_once_validated(self, current_iter: int | str) -> None:
        if self._state_due is None or self._state_due[1] > 0:
            return
        epoch, self._state_due = self._state_due[0], None
        own = run_state.collect(self)  # every process takes part
        if self.opt['rank'] == 0:
            state = {
                'epoch': epoch,
                'iter': current_iter,
                'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
                'compsrt': own,
            }
            atomic_save(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))
