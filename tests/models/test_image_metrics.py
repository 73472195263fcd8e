"""Metrics of single pictures, taken from BasicSR's own validation."""

import pytest
from basicsr.models import sr_model

from compsrt_basicsr.models.image_metrics import recording_images

METRICS = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}, 'mine': {'type': 'calculate_psnr', 'crop_border': 0}}


def test_values_by_picture_and_metric(monkeypatch: pytest.MonkeyPatch):
    """Equal options under two names stay apart; namesakes from two folders too; nothing is recorded afterwards."""
    monkeypatch.setattr(sr_model, 'calculate_metric', lambda data, options: data)
    with recording_images(METRICS) as record:
        for path, value in (('a/x.png', 1), ('b/y.png', 2), ('c/x.png', 3)):
            record.begin(path)
            for options in METRICS.values():
                value += 0.5
                assert sr_model.calculate_metric(value, options) == value
    sr_model.calculate_metric(9, METRICS['psnr'])
    assert record.values == {
        'x': {'psnr': 1.5, 'mine': 2.0},
        'y': {'psnr': 2.5, 'mine': 3.0},
        'x#2': {'psnr': 3.5, 'mine': 4.0},
    }


def test_without_metrics():
    with recording_images(None) as record:
        record.begin('x.png')
    assert record.values == {}
