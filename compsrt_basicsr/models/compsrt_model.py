"""Distillation of a quantized network from its full-precision self, inside BasicSR's training and testing loops."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from copy import deepcopy
from os import path as osp
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.models.swinir_model import SwinIRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from compsrt_basicsr.archs.rebuild import geometry
from compsrt_basicsr.archs.state_dicts import without_recomputable_buffers
from compsrt_basicsr.checkpoints.read import read_state
from compsrt_basicsr.config.methods.expand import expand_run, method_of, overridden
from compsrt_basicsr.config.quantization import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models import run_state
from compsrt_basicsr.models.calibration_data import calibration_patches
from compsrt_basicsr.models.features import FeatureTap
from compsrt_basicsr.models.image_metrics import ImageMetrics, recording_images
from compsrt_basicsr.models.metrics_file import write_details, write_metrics
from compsrt_basicsr.models.nan_checks import require_finite, require_finite_parameters
from compsrt_basicsr.models.parameter_groups import TRAINABLE, freeze_, parameter_groups
from compsrt_basicsr.models.pruning import prune_on_schedule, pruned_share, report_sparsity, schedule_of
from compsrt_basicsr.models.teacher import build_teacher, recomputed, start_from_teacher
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import NO_COUNT, LevelCount, counting_levels, summarize
from compsrt_basicsr.quant.functional.padding import PAD_MODES, pad_to_multiple
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.utils.torch_io import atomic_save


@MODEL_REGISTRY.register()
class CompSRTModel(SwinIRModel):
    """Trains the quantizers of `network_g` towards the outputs and features of `network_t` (CompSRT, arXiv 2601.21069).

    Options beyond SwinIRModel's:
        network_t, path.pretrain_network_t: the full-precision teacher; `network_g` starts from its weights unless
            `path.pretrain_network_g` is given.
        calibration: see `CalibrationConfig`; skipped for a network that is already calibrated.
        network_g.quant.method: a method of compsrt_basicsr.config.methods; it completes `calibration` and `train` too.
        train.trainable: 'quantizers' (default), 'all': train the weights too, or 'none': calibrate only.
        train.weight_lr: learning rate of the weights with 'all', in place of the quantizers'.
        train.float_lr: that of the layers that stay in full precision, in place of `weight_lr`.
        train.prune_schedule: see `PruneSchedule`; without it a pruned network is pruned before its calibration.
        train.pixel_opt, train.feature_opt: losses between student and teacher; the ground truth is never used.
        train.grad_clip_value: clip each gradient to this magnitude.
        train.amp: 'bf16': run both networks under bfloat16 autocast; quantizers stay in float32.
        val.pad: 'symmetric' (default, SwinIR's own protocol) or 'reflect' (BasicSR's).
        val.levels: a test run counts the codes used on the 'first' picture of each set, on 'all', or never ('skip').
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt['is_train']:
            expand_run(opt)
        self._check(opt)
        self._terms: OrderedDict[str, Tensor] = OrderedDict()
        self._validations_before_saving: tuple[int, int] | None = None
        self._images: ImageMetrics | None = None
        super().__init__(opt)

    @staticmethod
    def _check(opt: dict[str, Any]) -> None:
        train = opt.get('train') or {}
        for name, value, choices in (
            ('train.trainable', train.get('trainable', 'quantizers'), TRAINABLE),
            ('train.amp', train.get('amp'), (None, False, 'bf16')),
            ('val.pad', (opt.get('val') or {}).get('pad', 'symmetric'), PAD_MODES),
            ('val.levels', (opt.get('val') or {}).get('levels', 'first'), ('skip', 'first', 'all')),
        ):
            if value not in choices:
                raise CompSRTError(f'`{name}` must be one of {", ".join(map(str, choices))}, got {value!r}.')
        quant = opt['network_g'].get('quant') or {}
        counted = (opt.get('val') or {}).get('levels') == 'all'
        if not opt['is_train'] and quant.get('execution') == 'integer' and counted:
            raise CompSRTError(f'`network_g.quant.execution: integer` {NO_COUNT}')
        if opt['is_train'] and not opt['dist'] and opt['num_gpu'] > 1:
            raise CompSRTError(
                f'{opt["num_gpu"]} GPUs need one process each: torchrun --nproc_per_node={opt["num_gpu"]} '
                '-m compsrt_basicsr train -opt FILE --launcher pytorch; or set `num_gpu: 1`.'
            )

    # Networks

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Freezes what does not train before the network is wrapped for distributed training."""
        if not self.is_train:
            return super().model_to_device(net)
        freeze_(net, self._trainable)
        return net.to(self.device) if self._trainable == 'none' else super().model_to_device(net)

    @property
    def _trainable(self) -> str:
        return self.opt['train'].get('trainable', 'quantizers')

    @property
    def _multiple(self) -> int:
        """Height and width of what `network_g` is given must be multiples of it."""
        arguments = dict(self.opt['network_g'])
        try:
            return geometry({'arch': arguments.pop('type'), 'args': arguments}).multiple
        except CompSRTError:  # an architecture that does not tell its scale either
            return arguments.get('window_size', 1)

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Loads a `.pth`, a `.safetensors`, packed too, or a `zoo://` model into a network.

        Raises:
            CompSRTError: the file is missing, damaged, or does not fit the network.
        """
        net = self.get_bare_model(net)
        state = without_recomputable_buffers(read_state(load_path, param_key))
        get_root_logger().info(f'Loading {type(net).__name__} from {load_path} [{param_key}].')
        try:
            if strict:
                net.load_state_dict({**recomputed(net), **state})
            else:
                net.load_state_dict(state, strict=False)
        except (RuntimeError, CompSRTError) as error:
            lines = str(error).splitlines()
            raise CompSRTError(f'{load_path}: {lines[-1].strip()}') from error

    # Training

    def init_training_settings(self) -> None:
        """Builds the teacher, calibrates the student, and sets up losses, optimizer and schedule."""
        train = self.opt['train']
        student = self.get_bare_model(self.net_g)
        if not quantizers(student):
            raise CompSRTError(
                '`network_g` has no quantizers: use CompSRTSwinIR or CompSRTNet with a `quant:` section.'
            )
        self._tell_method()
        self.prune_schedule = schedule_of(train, student)
        self.net_t = build_teacher(self.opt, self.device)
        if self.opt['path'].get('pretrain_network_g') is None:
            start_from_teacher(student, self.net_t)
        if not all(q.is_calibrated for q in quantizers(student).values()):
            self._calibrate(student)
        self._init_ema(student)

        self.cri_pix = build_loss(train['pixel_opt']).to(self.device) if train.get('pixel_opt') else None
        self.cri_feature = build_loss(train['feature_opt']).to(self.device) if train.get('feature_opt') else None
        if self.cri_pix is None and self.cri_feature is None:
            raise CompSRTError('Nothing to learn from: give `train.pixel_opt`, `train.feature_opt`, or both.')
        if self.cri_feature is not None:
            pattern = self.cri_feature.modules_pattern
            self.taps = FeatureTap(student, pattern), FeatureTap(self.net_t, pattern)
        self.net_g.train()
        self.setup_optimizers()
        self.setup_schedulers()

    def _tell_method(self) -> None:
        method = method_of(self.opt)
        if method is not None:
            changes = '; '.join(overridden(self.opt))
            get_root_logger().info(
                f'Method {method.name}: {method.title} ({method.source}); '
                + (f'the options change {changes}.' if changes else 'as the preset has it.')
            )

    def _calibrate(self, student: nn.Module) -> None:
        config = CalibrationConfig.from_opt(self.opt.get('calibration'))
        patches = calibration_patches(config, self.opt)
        patches = pad_to_multiple(patches.to(self.device), self._multiple)
        main = self.opt['rank'] == 0
        get_root_logger().info(f'Calibrating on {len(patches)} LR patches of {patches.shape[-2]}x{patches.shape[-1]}.')
        calibrate(student, patches, config, main, None if self.prune_schedule is None else 0.0)
        if self.opt['dist']:  # every rank saw the same patches; one rank's rounding is to hold for all
            for tensor in student.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
        if main:
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
        """One optimizer over everything that requires a gradient; none where nothing is to train."""
        if self._trainable == 'none':
            return
        train = self.opt['train']
        groups = parameter_groups(self.get_bare_model(self.net_g), train.get('weight_lr'), train.get('float_lr'))
        options = dict(train['optim_g'])
        kind = options.pop('type')
        if kind in ('Adam', 'AdamW'):
            options.setdefault('fused', True)  # 1536 scalars: one call in place of thousands
        self.optimizer_g = self.get_optimizer(kind, groups, **options)
        self.optimizers.append(self.optimizer_g)
        tensors = self._trained()
        count = sum(p.numel() for p in tensors)
        get_root_logger().info(f'Training {len(tensors)} tensors, {count:,} numbers; the rest is frozen.')

    def optimize_parameters(self, current_iter: int) -> None:
        """One step: teacher and student forward, distillation loss, backward, update."""
        train = self.opt['train']
        average = self.net_g_ema if self.ema_decay > 0 else None
        prune_on_schedule(self.prune_schedule, current_iter, self.get_bare_model(self.net_g), average)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=train.get('amp') == 'bf16'):
            with torch.no_grad():
                target = self.net_t(self.lq)
            self.output = self.net_g(self.lq)
        self._terms = self._losses(self.output.float(), target.float())
        total = sum(self._terms.values())
        self.optimizer_g.zero_grad()
        total.backward()
        self._refuse_nan(total, current_iter)
        if train.get('grad_clip_value'):
            torch.nn.utils.clip_grad_value_(self._trained(), train['grad_clip_value'])
        self.optimizer_g.step()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """BasicSR's average, but not through `.data`, which hides a change from the cache of transformed weights."""
        trained = dict(self.get_bare_model(self.net_g).named_parameters())
        for name, average in self.net_g_ema.named_parameters():
            average.mul_(decay).add_(trained[name], alpha=1 - decay)

    def _losses(self, output: Tensor, target: Tensor) -> OrderedDict[str, Tensor]:
        terms: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix is not None:
            terms['l_pix'] = self.cri_pix(output, target)
        if self.cri_feature is not None:
            student, teacher = (tap.take() for tap in self.taps)
            terms['l_feature'] = self.cri_feature(student, teacher)
        return terms

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer_g.param_groups for p in group['params']]

    def _refuse_nan(self, total: Tensor, current_iter: int) -> None:
        """Stops at a NaN: at once on the CPU; on a GPU, where looking costs a wait, at the next log or checkpoint."""
        logger = self.opt['logger']
        looks = (logger['print_freq'], logger['save_checkpoint_freq'])
        if self.device.type == 'cpu' or any(current_iter % int(freq) == 0 for freq in looks):
            require_finite(self.get_bare_model(self.net_g), self.lq, total, self._trained(), current_iter)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Loss terms, the features' share of the loss, the levels used on the last batch, and the pruned share.

        Called by BasicSR's loop when it logs; nothing is copied from the device in between.
        """
        log = self.reduce_loss_dict(self._terms)
        total = sum(log.values())
        if len(log) > 1:
            log['feature_share'] = log['l_feature'] / total if total else 0.0
        if self.opt['rank'] == 0:
            log.update(self._levels(self.lq))
            log.update(pruned_share(self.get_bare_model(self.net_g)))
        self.log_dict = log
        return log

    @torch.no_grad()
    def _levels(self, lq: Tensor) -> dict[str, float]:
        """Largest number of levels any quantizer used on a batch, and how many used more than 2^b."""
        network = self.get_bare_model(self.net_g)
        was_training = network.training
        network.eval()  # so that counting draws no random numbers
        with counting_levels(network) as counts:
            network(lq)
        network.train(was_training)
        if self.cri_feature is not None:
            self.taps[0].take()
        return summarize(counts)

    # Testing

    def test(self) -> None:
        """Pads to what the network can take, runs it, crops; sets `self.output`."""
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.net_g
        height, width = self.lq.shape[-2:]
        scale = self.opt.get('scale', 1)
        was_training = net.training
        net.eval()
        with torch.no_grad():
            padded = pad_to_multiple(self.lq, self._multiple, (self.opt.get('val') or {}).get('pad', 'symmetric'))
            self.output = self.get_bare_model(net)(padded)[..., : height * scale, : width * scale]
        net.train(was_training)
        if self.is_train and self.cri_feature is not None:
            self.taps[0].take()

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch; in a validation, its picture's name too."""
        super().feed_data(data)
        if self._images is not None and 'lq_path' in data:
            self._images.begin(data['lq_path'][0])

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img) -> None:
        """BasicSR's validation; the means go to `metrics.json`, a test's pictures and levels to `test_details.json`."""
        name = dataloader.dataset.opt['name']
        network = self.get_bare_model(self.net_g)
        where = 'skip' if self.is_train or not quantizers(network) else self.opt['val'].get('levels', 'first')
        counts: dict[str, LevelCount] = {}
        with recording_images(self.opt['val'].get('metrics')) as self._images, ExitStack() as counting:
            if where == 'all':
                counts = counting.enter_context(counting_levels(network))
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        images, self._images = self._images.values, None
        if where == 'first':
            self.feed_data({'lq': dataloader.dataset[0]['lq'][None]})
            with counting_levels(network) as counts:
                self.test()
        levels = self._report_levels(counts, f'{"all" if where == "all" else "the first picture"} of {name}')
        sparsity = report_sparsity(getattr(self, 'net_g_ema', network))
        write_metrics(self.opt, name, current_iter, {**getattr(self, 'metric_results', {}), **levels, **sparsity})
        if not self.is_train:
            write_details(self.opt, name, images, {quantizer: count.used for quantizer, count in counts.items()})

    @staticmethod
    def _report_levels(counts: dict[str, LevelCount], where: str) -> dict[str, float]:
        if not counts:
            return {}
        levels = summarize(counts)
        get_root_logger().info(
            f'Levels used on {where}: at most {levels["levels_max"]:.0f}; '
            f'{levels["levels_over"]:.0f} of {len(counts)} quantizers used more than 2^b.'
        )
        return levels

    # Saving

    def save(self, epoch: int, current_iter: int) -> None:
        """Saves networks and training state, unless a parameter is no longer finite.

        Raises:
            CompSRTError: a parameter is NaN or infinite, or a file could not be written.
        """
        require_finite_parameters(self.get_bare_model(self.net_g), current_iter)
        super().save(epoch, current_iter)

    @master_only
    def save_network(self, net, net_label: str, current_iter: int, param_key='params') -> None:
        """Saves networks like BasicSR, but whole or not at all.

        Raises:
            CompSRTError: the file could not be written; earlier checkpoints are untouched.
        """
        nets, keys = (v if isinstance(v, list) else [v] for v in (net, param_key))
        label = 'latest' if current_iter == -1 else current_iter
        states = {
            key: {k: v.cpu() for k, v in self.get_bare_model(n).state_dict().items()} for n, key in zip(nets, keys)
        }
        atomic_save(states, osp.join(self.opt['path']['models'], f'{net_label}_{label}.pth'))

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Saves what a resumed run needs to give the numbers of an unbroken one; before a validation, only after it.

        BasicSR saves first and validates then: best metrics of that validation would be lost to a resumed run.
        """
        if current_iter == -1:
            return
        self._validations_before_saving = epoch, self._validations_at(current_iter)
        self._save_training_state_when_validated(current_iter)

    def validation(self, dataloader, current_iter, tb_logger, save_img=False) -> None:
        """BasicSR's validation, and the training state that waited for it."""
        super().validation(dataloader, current_iter, tb_logger, save_img)
        if self._validations_before_saving is not None:
            epoch, left = self._validations_before_saving
            self._validations_before_saving = epoch, left - 1
            self._save_training_state_when_validated(current_iter)

    def _validations_at(self, current_iter: int) -> int:
        val = self.opt.get('val')
        due = val is not None and current_iter % val['val_freq'] == 0
        return sum(name.split('_')[0] == 'val' for name in self.opt['datasets']) if due else 0

    def _save_training_state_when_validated(self, current_iter: int) -> None:
        epoch, left = self._validations_before_saving
        if left > 0:
            return
        self._validations_before_saving = None
        own = run_state.collect(self)  # every rank takes part
        if self.opt['rank'] == 0:
            state = {
                'epoch': epoch,
                'iter': current_iter,
                'optimizers': [o.state_dict() for o in self.optimizers],
                'schedulers': [s.state_dict() for s in self.schedulers],
                'compsrt': own,
            }
            atomic_save(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restores optimizer, schedule, random generators and best metrics."""
        super().resume_training(resume_state)
        run_state.restore(self, resume_state.get('compsrt', {}))
