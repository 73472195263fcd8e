"""Validation that keeps the metrics of each image, shared by the model classes."""

from __future__ import annotations

from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from torch import Tensor
from tqdm import tqdm

from compsrt_basicsr.archs.rebuild import geometry
from compsrt_basicsr.basicsr_compat.image_file import imwrite
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.metrics_file import write_details, write_metrics
from compsrt_basicsr.quant.functional.padding import pad_to_multiple

ImageMetrics = dict[str, dict[str, float]]


class ImageValidationMixin(SRModel):
    """Validates on images of any size and writes the results of each data set to JSON."""

    @property
    def input_multiple(self) -> int:
        """The number whose multiples the height and the width of `network_g`'s input must be."""
        arguments = dict(self.opt['network_g'])
        try:
            network = self.get_bare_model(self.net_g)
            return geometry({'arch': arguments.pop('type'), 'args': arguments}, network).multiple
        except CompSRTError:  # an architecture of unknown scale
            return arguments.get('window_size', 1)

    def test(self) -> None:
        """Runs the network, averaged if there is an average, on `self.lq` and sets `self.output`.

        The input (B, C, H, W) is padded as `val.pad` says; the output (B, C, scale H, scale W) is cropped to match.
        """
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.net_g
        height, width = self.lq.shape[-2:]
        scale = self.opt.get('scale', 1)
        was_training = net.training
        net.eval()
        with torch.no_grad():
            pad = (self.opt.get('val') or {}).get('pad', 'symmetric')
            padded = pad_to_multiple(self.lq, self.input_multiple, pad)
            self.output = self.get_bare_model(net)(padded)[..., : height * scale, : width * scale]
        net.train(was_training)

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Validates on one data set; the means go to `metrics.json`, each image of a test to `test_details.json`."""
        images = self.validate_images(dataloader, current_iter, tb_logger, save_img)
        self.write_validation(dataloader.dataset.opt['name'], current_iter, images)

    def validate_images(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> ImageMetrics:
        """Runs BasicSR's validation: saves images, averages the metrics in `self.metric_results`, logs them.

        Args:
            dataloader: loader of a data set of BasicSR's, one image a batch.
            current_iter: the iteration, or the name of a test.
            tb_logger: TensorBoard's writer or None.
            save_img: whether to save the images.

        Returns:
            The metrics of each image under the name of its file, with its number where two files share a name; empty
            without `val.metrics`.
        """
        dataset = dataloader.dataset.opt['name']
        metrics = self.opt['val'].get('metrics') or {}
        images: ImageMetrics = {}
        seen: set[str] = set()
        with tqdm(total=len(dataloader), unit='image', disable=not self.opt['val'].get('pbar', False)) as bar:
            for index, data in enumerate(dataloader):
                name = osp.splitext(osp.basename(data['lq_path'][0]))[0]
                key = f'{name}#{index}' if name in seen else name
                seen.add(name)
                self.feed_data({'lq': data['lq']})  # a metric takes the ground truth from the CPU
                self.test()
                found = self._take_images(data.get('gt'))
                if save_img:
                    imwrite(found['img'], self._image_path(dataset, key, current_iter))
                if metrics:
                    images[key] = {metric: _measured(found, how) for metric, how in metrics.items()}
                bar.update(1)
                bar.set_description(f'Test {name}')
        torch.cuda.empty_cache()
        self.metric_results = {metric: _mean(images, metric) for metric in metrics}
        _warn_of_undefined(dataset, images)
        if metrics:
            self._initialize_best_metric_results(dataset)
            for metric, value in self.metric_results.items():
                self._update_best_metric_result(dataset, metric, value, current_iter)
            self._log_validation_metric_values(current_iter, dataset, tb_logger)
        return images

    def write_validation(
        self,
        dataset: str,
        current_iter: int | str,
        images: ImageMetrics,
        more: dict[str, float] | None = None,
        levels: dict[str, int] | None = None,
    ) -> None:
        """Writes `self.metric_results` to `metrics.json` and, in a test, the images to `test_details.json`.

        Args:
            dataset: name of the data set.
            current_iter: the iteration, or the name of a test.
            images: what `validate_images` returned.
            more: further results next to the metrics.
            levels: number of codes used by each quantizer.
        """
        write_metrics(self.opt, dataset, current_iter, {**self.metric_results, **(more or {})})
        if not self.is_train:
            write_details(self.opt, dataset, images, levels or {})

    def _take_images(self, truth: Tensor | None) -> dict[str, np.ndarray]:
        """Returns output (`img`) and ground truth (`img2`), uint8 (H, W, 3) in BGR, and frees the tensors."""
        found = {'img': tensor2img([self.output])}
        if truth is not None:
            found['img2'] = tensor2img([truth])
        del self.lq, self.output
        return found

    def _image_path(self, dataset: str, name: str, current_iter: int | str) -> str:
        folder = self.opt['path']['visualization']
        if self.opt['is_train']:
            if sum(key.split('_')[0] == 'val' for key in self.opt['datasets']) > 1:  # which may share names of images
                folder = osp.join(folder, dataset)
            return osp.join(folder, name, f'{name}_{current_iter}.png')
        return osp.join(folder, dataset, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')


def _measured(found: dict[str, np.ndarray], how: dict[str, Any]) -> float:
    """Returns a metric of one image; NaN where it is undefined, as NIQE is for an image of one color."""
    try:
        return float(calculate_metric(found, how))
    except np.linalg.LinAlgError:
        return float('nan')


def _warn_of_undefined(dataset: str, images: ImageMetrics) -> None:
    """Names the first image that keeps a mean from being finite: its result is one color, or its ground truth."""
    for metric in next(iter(images.values()), {}):
        odd = {image: values[metric] for image, values in images.items() if not np.isfinite(values[metric])}
        if odd:
            image, value = next(iter(odd.items()))
            what = 'undefined' if np.isnan(value) else 'infinite'
            get_root_logger().warning(
                f'`{metric}` is {what} for {len(odd)} of {len(images)} images of `{dataset}`, the first is `{image}`: '
                'so is its mean, which is `null` in metrics.json.'
            )


def _mean(images: ImageMetrics, metric: str) -> float:
    total = 0.0
    for values in images.values():  # not `sum`, which compensates rounding from Python 3.12 on
        total += values[metric]
    return total / len(images)
