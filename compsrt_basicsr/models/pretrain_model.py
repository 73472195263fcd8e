"""Training of a full-precision network, such as the teacher of a distillation, on the ground truth."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from compsrt_basicsr.models.calibration_data import draw_pairs
from compsrt_basicsr.models.devices import require_one_process_per_gpu, take_from_first
from compsrt_basicsr.models.fit_tail import fit_tail
from compsrt_basicsr.models.nan_checks import check_is_due, require_finite
from compsrt_basicsr.models.resumable import ExactResumeMixin
from compsrt_basicsr.models.validation import ImageValidationMixin
from compsrt_basicsr.models.weights import load_weights


@MODEL_REGISTRY.register()
class CompSRTPretrainModel(ExactResumeMixin, ImageValidationMixin):
    """BasicSR's SwinIRModel with exact resuming, atomic checkpoints, and a stop at the first NaN.

    Its training steps are BasicSR's own. Validation pads as `val.pad` says: 'symmetric' where SwinIRModel reflects.

    Args:
        opt: the options of the run, as BasicSR's `parse_options` returns them.

    Raises:
        CompSRTError: if the weights or the machine do not fit the run.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt['is_train']:
            require_one_process_per_gpu(opt)
        self._current_iter = 0
        self._terms: OrderedDict[str, Tensor] = OrderedDict()
        super().__init__(opt)

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Loads a weight file of any kind into a network, see `load_weights`.

        With `path.strict_load_g: false`, weights of another shape are skipped, such as the tail of another scale.

        Raises:
            CompSRTError: if the file is missing or damaged, or does not fit the network in a strict load.
        """
        load_weights(self.get_bare_model(net), load_path, strict, param_key, skip_misfits=True)

    def init_training_settings(self) -> None:
        """Fits the tail with `train.fit_tail`, unless the run is resumed, then does as BasicSR.

        Raises:
            CompSRTError: if the network has no tail that can be fitted.
        """
        patches = self.opt['train'].get('fit_tail')
        fitted = self.get_bare_model(self.net_g) if patches and not self.opt['path'].get('resume_state') else None
        if fitted is not None:
            get_root_logger().info(f'Fitting the tail to the ground truth of {patches} patches.')
            fit_tail(fitted, draw_pairs(self.opt, patches, self.opt.get('manual_seed') or 0), self.device)
            take_from_first(fitted.upsample, self.opt)
        super().init_training_settings()
        if fitted is not None and self.ema_decay > 0:
            self.net_g_ema.upsample.load_state_dict(fitted.upsample.state_dict())

    def setup_optimizers(self) -> None:
        """Builds BasicSR's optimizer and checks the gradients before each of its steps."""
        super().setup_optimizers()
        self.optimizer_g.register_step_pre_hook(self._check_step)

    def optimize_parameters(self, current_iter: int) -> None:
        """Takes one step of BasicSR's, under bfloat16 autocast with `train.amp: bf16`.

        Raises:
            CompSRTError: if the output or a gradient is NaN or infinite.
        """
        self._current_iter = current_iter
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.opt['train'].get('amp') == 'bf16'):
            super().optimize_parameters(current_iter)

    def reduce_loss_dict(self, loss_dict: OrderedDict[str, Tensor]) -> OrderedDict[str, float]:
        """Keeps the terms of the loss until they are logged: reading them would wait for the device at each step."""
        self._terms = OrderedDict((name, value.detach()) for name, value in loss_dict.items())
        return OrderedDict()

    def get_current_log(self) -> OrderedDict[str, float]:
        """Returns the terms of the last loss, averaged over the processes; BasicSR's loop calls it when it logs."""
        self.log_dict = super().reduce_loss_dict(self._terms)
        return self.log_dict

    def _check_step(self, *_: Any) -> None:
        if check_is_due(self.opt['logger'], self.device, self._current_iter):
            network = self.get_bare_model(self.net_g)
            require_finite(network, self.lq, self.output, list(network.parameters()), self._current_iter)
