"""Distillation of a quantized network from its full-precision self, inside BasicSR's training and testing loops."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from os import path as osp
from typing import Any, cast

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.archs.routing import same_noise
from compsrt_basicsr.config.methods.expand import method_of, overridden
from compsrt_basicsr.config.networks import has_own_weights
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.execution import AUTO, FAKE, execute_, way
from compsrt_basicsr.models.code_counts import codes_used_on, report_codes
from compsrt_basicsr.models.devices import require_one_process_per_gpu
from compsrt_basicsr.models.distillation import DistillationTerms
from compsrt_basicsr.models.gate_phase import gate_phase_of
from compsrt_basicsr.models.nan_checks import check_is_due, require_finite
from compsrt_basicsr.models.parameter_groups import freeze_, parameter_groups
from compsrt_basicsr.models.pruning import prune_on_schedule, pruned_share, report_sparsity, schedule_of
from compsrt_basicsr.models.resumable import ExactResumeMixin
from compsrt_basicsr.models.run_options import prepare_run
from compsrt_basicsr.models.student_calibration import calibrate_student
from compsrt_basicsr.models.teacher import build_teacher, start_from_teacher
from compsrt_basicsr.models.validation import ImageValidationMixin
from compsrt_basicsr.models.weights import load_weights
from compsrt_basicsr.quant.code_usage import CodeUsage, counting_codes
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.torch_io import atomic_save

_SEED_STEP = 1_000_003  # more than the iterations of a run


@MODEL_REGISTRY.register()
class CompSRTModel(ExactResumeMixin, ImageValidationMixin):
    """Trains the quantizers of `network_g` towards the outputs and features of `network_t` (CompSRT, arXiv 2601.21069).

    `network_g` starts from the teacher's weights unless `path.pretrain_network_g` is given, and is calibrated unless it
    already is. The ground truth is never used. The options are described in `docs/options.md`.

    Args:
        opt: the options of the run, as BasicSR's `parse_options` returns them.

    Raises:
        CompSRTError: if the options, the weights or the machine do not fit the run.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        prepare_run(opt)
        if opt['is_train']:
            require_one_process_per_gpu(opt)
        self._terms: OrderedDict[str, Tensor] = OrderedDict()
        super().__init__(opt)

    def choose_way(self) -> str:
        """Chooses how the network computes in tests, unless `quant.execution` says it; returns it in words.

        Integer codes are taken where the kernels compute all layers that can run on them, unless codes are counted on
        all images.
        """
        network = self.get_bare_model(self.net_g)
        quant = self.opt['network_g'].get('quant') or {}
        is_alone = network is self.net_g  # replicas would share one executor
        counts_all = (self.opt.get('val') or {}).get('count_codes') == 'all'
        chosen = quant.get('execution') or (AUTO if is_alone and not counts_all else FAKE)
        return way(bool(quantizers(network)), execute_(network, chosen))

    # Networks

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Freezes what does not train, before the network is wrapped for distributed training."""
        if not self.is_train:
            return super().model_to_device(net)
        freeze_(net, self._trainable)
        return net.to(self.device) if self._trainable == 'none' else super().model_to_device(net)

    @property
    def _trainable(self) -> str:
        return self.opt['train'].get('trainable', 'quantizers')

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Loads a weight file of any kind into a network, see `load_weights`.

        Raises:
            CompSRTError: if the file is missing, damaged, or does not fit the network.
        """
        load_weights(self.get_bare_model(net), load_path, strict, param_key, skip_misfits=False)

    # Training

    def init_training_settings(self) -> None:
        """Builds the teacher, calibrates the student, and sets up losses, optimizer and schedule.

        Raises:
            CompSRTError: if a network, its weights or an option does not fit.
        """
        student = self.get_bare_model(self.net_g)
        if not quantizers(student):
            raise CompSRTError(
                '`network_g` has no quantizers: use CompSRTSwinIR or CompSRTNet with a `quant:` section.'
            )
        self._log_method()
        self.prune_schedule = schedule_of(self.opt['train'], student)
        self.gate_phase = gate_phase_of(self.opt['train'], student)
        self.net_t = build_teacher(self.opt, self.device)
        if self.opt['path'].get('pretrain_network_g') is None and not has_own_weights(self.opt['network_g']):
            start_from_teacher(student, self.net_t)
        if not all(quantizer.is_calibrated for quantizer in quantizers(student).values()):
            self._calibrate(student)
        self._init_ema(student)
        self.distillation = DistillationTerms(self.opt['train'], student, self.net_t, self.device)
        # Batch norms, dropout and stochastic depth of foreign code would undo the calibration in training mode.
        self.net_g.train(isinstance(student, CompSRTSwinIR))
        self.setup_optimizers()
        self.setup_schedulers()

    def _log_method(self) -> None:
        method = method_of(self.opt)
        if method is not None:
            changes = '; '.join(overridden(self.opt))
            get_root_logger().info(
                f'Method {method.name}: {method.title} ({method.source}); '
                + (f'the options change {changes}.' if changes else 'unchanged.')
            )

    def _calibrate(self, student: nn.Module) -> None:
        scheduled = self.prune_schedule is not None
        patches = calibrate_student(student, self.opt, self.device, self.input_multiple, unpruned=scheduled)
        if self.opt['rank'] == 0:
            atomic_save({'lq': patches.cpu()}, osp.join(self.opt['path']['experiments_root'], 'calibration.pth'))
            self.save_network(student, 'net_g', 'calibrated')

    def _init_ema(self, student: nn.Module) -> None:
        self.ema_decay = self.opt['train'].get('ema_decay', 0)
        if self.ema_decay <= 0:
            return
        self.net_g_ema = deepcopy(student).eval().requires_grad_(False)
        if self.opt['path'].get('resume_state'):
            self.load_network(self.net_g_ema, self.opt['path']['pretrain_network_g'], True, 'params_ema')

    def setup_optimizers(self) -> None:
        """Builds one optimizer over all that requires a gradient, or none for `train.trainable: none`."""
        if self._trainable == 'none':
            return
        train = self.opt['train']
        groups = parameter_groups(self.get_bare_model(self.net_g), train.get('weight_lr'), train.get('unquantized_lr'))
        arguments = dict(train['optim_g'])
        kind = arguments.pop('type')
        if kind in ('Adam', 'AdamW'):
            arguments.setdefault('fused', True)  # 1536 scalars: one call in place of thousands
        self.optimizer_g = self.get_optimizer(kind, groups, **arguments)
        self.optimizers.append(self.optimizer_g)
        tensors = self._trained()
        count = sum(parameter.numel() for parameter in tensors)
        get_root_logger().info(f'Training {len(tensors)} tensors, {count:,} numbers; the rest is frozen.')

    def parameters_under(self, train: Mapping[str, Any] | None) -> list[nn.Parameter]:
        """Returns what trains, in the order that other rates of the weights would give it."""
        rates = self.opt['train'] if train is None else train
        groups = parameter_groups(self.get_bare_model(self.net_g), rates.get('weight_lr'), rates.get('unquantized_lr'))
        return [parameter for group in groups for parameter in group['params']]

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer_g.param_groups for parameter in group['params']]

    def optimize_parameters(self, current_iter: int) -> None:
        """Takes one step: teacher and student forward, distillation loss, backward, update.

        Raises:
            CompSRTError: if the loss or a gradient is NaN or infinite.
        """
        train = self.opt['train']
        network = self.get_bare_model(self.net_g)
        prune_on_schedule(self.prune_schedule, current_iter, network, self.net_g_ema if self.ema_decay > 0 else None)
        bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=train.get('amp') == 'bf16')
        with bf16, same_noise(self._noise_seed(current_iter), self.net_t, network):
            with torch.no_grad():
                target = self.net_t(self.lq)
            self.output = self.net_g(self.lq)
        self._terms = self.distillation(self.output.float(), target.float())
        total = cast(Tensor, sum(self._terms.values()))
        self.optimizer_g.zero_grad()
        total.backward()
        if check_is_due(self.opt['logger'], self.device, current_iter):
            require_finite(network, self.lq, total, self._trained(), current_iter)
        if train.get('grad_clip_value'):
            torch.nn.utils.clip_grad_value_(self._trained(), train['grad_clip_value'])
        if self.gate_phase is not None:
            self.gate_phase.restrict(self.optimizer_g, current_iter)
        self.optimizer_g.step()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _noise_seed(self, current_iter: int) -> int:
        """Returns a seed that each iteration and each process has alone."""
        seed = int(self.opt.get('manual_seed') or 0) * _SEED_STEP + current_iter
        return (seed * int(self.opt.get('world_size', 1)) + int(self.opt['rank'])) % 2**63

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Updates the averaged network.

        BasicSR does so through `.data`, which would hide the change from the cache of transformed weights.

        Args:
            decay: weight of the present average, in [0, 1].
        """
        trained = dict(self.get_bare_model(self.net_g).named_parameters())
        for name, average in self.net_g_ema.named_parameters():
            average.mul_(decay).add_(trained[name], alpha=1 - decay)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Returns the loss terms, the features' share of the loss, the codes used on the last batch, and the sparsity.

        BasicSR's loop calls it when it logs; nothing is copied from the device in between.
        """
        log = self.reduce_loss_dict(self._terms)
        total = sum(log.values())
        if len(log) > 1:
            log['feature_share'] = log['l_feature'] / total if total else 0.0
        if self.opt['rank'] == 0:
            network = self.get_bare_model(self.net_g)
            log.update(codes_used_on(network, self.lq))
            self.distillation.forget_features()
            log.update(pruned_share(network))
        self.log_dict = log
        return log

    # Testing

    def test(self) -> None:
        """Runs the network as `ImageValidationMixin.test` does, and forgets the features of the pass."""
        super().test()
        if self.is_train:
            self.distillation.forget_features()

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Validates on one data set; `metrics.json` also gets the codes used, in a test, and the sparsity."""
        name = dataloader.dataset.opt['name']
        network = self.get_bare_model(self.net_g)
        counts_on = self.opt['val'].get('count_codes', 'first')
        if self.is_train or not quantizers(network):
            counts_on = 'skip'
        counts: dict[str, CodeUsage] = {}
        with ExitStack() as counting:
            if counts_on == 'all':
                counts = counting.enter_context(counting_codes(network))
            images = self.validate_images(dataloader, current_iter, tb_logger, save_img)
        if counts_on == 'first':
            self.feed_data({'lq': dataloader.dataset[0]['lq'][None]})
            with counting_codes(network) as counts:
                self.test()
        codes = report_codes(counts, f'{"all images" if counts_on == "all" else "the first image"} of {name}')
        sparsity = report_sparsity(getattr(self, 'net_g_ema', network))
        used = {quantizer: count.used for quantizer, count in counts.items()}
        self.write_validation(name, current_iter, images, {**codes, **sparsity}, used)
