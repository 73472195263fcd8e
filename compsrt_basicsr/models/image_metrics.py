"""Metrics of each picture, where BasicSR's validation keeps their mean alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import path as osp
from typing import Any
from unittest import mock

from basicsr.models import sr_model


class ImageMetrics:
    """The metrics of the pictures that a validation has seen, in its order.

    Attributes:
        values: {picture: {metric: value}}.
    """

    def __init__(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        self._names = {id(options): name for name, options in metrics.items()}
        self._picture = ''
        self.values: dict[str, dict[str, float]] = {}

    def begin(self, lq_path: str) -> None:
        """Notes which picture the next metrics belong to; its name is the file's or the key's, without extension."""
        name = osp.splitext(osp.basename(lq_path))[0]
        self._picture = name if name not in self.values else f'{name}#{len(self.values)}'

    def add(self, options: Mapping[str, Any], value: float) -> None:
        """Notes a metric of the present picture."""
        self.values.setdefault(self._picture, {})[self._names[id(options)]] = float(value)


@contextmanager
def recording_images(metrics: Mapping[str, Mapping[str, Any]] | None) -> Iterator[ImageMetrics]:
    """Records what BasicSR's validation computes inside the context; nothing is computed twice.

    Args:
        metrics: the section `val.metrics`.
    """
    record = ImageMetrics(metrics or {})
    compute = sr_model.calculate_metric

    def recorded(data: Any, options: Mapping[str, Any]) -> float:
        value = compute(data, options)
        record.add(options, value)
        return value

    with mock.patch.object(sr_model, 'calculate_metric', recorded):
        yield record
