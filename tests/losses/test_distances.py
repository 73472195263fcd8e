"""Distillation distances against literal float64 formulas."""

import math

import pytest
import torch
from basicsr.losses import build_loss
from hypothesis import given
from hypothesis import strategies as st

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.losses.distances import (
    as_tokens,
    feature_distance,
    published_feature_distance,
    published_pixel_distance,
)


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    return student, teacher


def literal_feature_distance(student, teacher, normalize):
    """Mean over B, L, C of the squared difference of unit vectors, in plain Python."""
    batch, length, channels = student.shape
    total = 0.0
    for i in range(batch):
        norms = []
        for f in (student, teacher):
            whole = math.sqrt(sum(float(v) ** 2 for v in f[i].flatten()))
            tokens = [math.sqrt(sum(float(v) ** 2 for v in f[i, j])) for j in range(length)]
            norms.append(tokens if normalize == 'token' else [whole] * length)
        for j in range(length):
            for c in range(channels):
                total += (float(student[i, j, c]) / norms[0][j] - float(teacher[i, j, c]) / norms[1][j]) ** 2
    return total / (batch * length * channels)


@pytest.mark.parametrize('normalize', ['token', 'sample'])
def test_feature_distance_is_the_literal_formula(normalize):
    """1e-12: float64 sums of 60 numbers."""
    student, teacher = pair(2, 5, 6)
    expected = literal_feature_distance(student, teacher, normalize)
    assert math.isclose(feature_distance(student, teacher, normalize), expected, rel_tol=1e-12)


@pytest.mark.parametrize('distance', [feature_distance, published_feature_distance])
def test_maps_count_as_tokens(distance):
    """(B, C, H, W) gives what its (B, H W, C) gives."""
    student, teacher = pair(2, 6, 3, 4)
    tokens = [f.permute(0, 2, 3, 1).reshape(2, 12, 6) for f in (student, teacher)]
    assert torch.equal(as_tokens(student), tokens[0])
    assert torch.allclose(distance(student, teacher), distance(*tokens), rtol=1e-12)


@given(st.sampled_from(['token', 'sample']), st.floats(0.01, 100), st.integers(0, 99))
def test_feature_distance_ignores_size(normalize, size, seed):
    """Zero for proportional features, unchanged by scaling, at most 4/C or 4/(L C)."""
    student, teacher = pair(2, 5, 6, seed=seed)
    assert feature_distance(size * teacher, teacher, normalize) < 1e-20
    distance = feature_distance(student, teacher, normalize)
    assert torch.allclose(feature_distance(size * student, teacher, normalize), distance, rtol=1e-9)
    assert 0 < distance <= 4 / (6 if normalize == 'token' else 30)


def test_feature_distance_of_zeros_is_finite():
    student = torch.zeros(2, 5, 6, requires_grad=True)
    feature_distance(student, torch.randn(2, 5, 6)).backward()
    assert torch.isfinite(student.grad).all()


def literal_broadcast(student, teacher):
    """The published code's arithmetic: norms (B, 1, 1, 1)-broadcast over (1, B, L, C), the mean divided once more."""
    units = [f[None] / f.norm(dim=(1, 2)).detach()[:, None, None, None] for f in (student, teacher)]
    assert units[0].shape == (len(student), *student.shape)
    return ((units[0] - units[1]) ** 2).mean() / units[0].numel()


@given(st.integers(1, 5), st.sampled_from([1.0, 1e-3]), st.integers(0, 99))
def test_published_feature_distance_is_the_broadcast(batch, difference, seed):
    """Value and gradient, for near features too, where the expansion must not cancel; 1e-8: float64 of a small sum."""
    noise, teacher = pair(batch, 4, 3, seed=seed)
    student = (teacher + difference * noise).requires_grad_()
    other = student.detach().clone().requires_grad_()
    value, expected = published_feature_distance(student, teacher), literal_broadcast(other, teacher)
    assert torch.allclose(value, expected, rtol=1e-8, atol=0)
    value.backward()
    expected.backward()
    assert float((student.grad - other.grad).abs().max()) <= 1e-8 * float(other.grad.abs().max())


def test_published_feature_distance_survives_float32():
    """1e-3 relative at a difference of 1e-3, where a plain expansion of squares would lose all digits."""
    noise, teacher = pair(4, 64, 12)
    student = teacher + 1e-3 * noise
    expected = literal_broadcast(student, teacher)
    assert torch.allclose(published_feature_distance(student.float(), teacher.float()).double(), expected, rtol=1e-3)


def test_published_pixel_distance():
    """Mean absolute error over the elements of one image, twice."""
    student, teacher = pair(2, 3, 4, 5)
    expected = sum(abs(float(s - t)) for s, t in zip(student.flatten(), teacher.flatten())) / 120 / 60
    assert math.isclose(published_pixel_distance(student, teacher), expected, rel_tol=1e-12)


def test_losses_sum_over_modules_and_weigh():
    features = [pair(2, 5, 6), pair(2, 6, 3, 4, seed=1)]
    students, teachers = zip(*features)
    for kind, distance in (
        ('FeatureDistillationLoss', feature_distance),
        ('PublishedFeatureLoss', published_feature_distance),
    ):
        loss = build_loss({'type': kind, 'loss_weight': 2.5})
        expected = 2.5 * sum(float(distance(s, t)) for s, t in features)
        assert math.isclose(float(loss(list(students), list(teachers))), expected, rel_tol=1e-12)
        assert loss.modules_pattern
    sample = build_loss({'type': 'FeatureDistillationLoss', 'loss_weight': 1.0, 'normalize': 'sample'})
    assert math.isclose(
        float(sample(list(students), list(teachers))),
        sum(float(feature_distance(s, t, 'sample')) for s, t in features),
        rel_tol=1e-12,
    )
    pixels = pair(2, 3, 4, 4)
    loss = build_loss({'type': 'PublishedPixelLoss', 'loss_weight': 3.0})
    assert math.isclose(float(loss(*pixels)), 3 * float(published_pixel_distance(*pixels)), rel_tol=1e-12)


def test_unknown_normalization():
    with pytest.raises(CompSRTError, match=r"`normalize` must be 'token' or 'sample', got 'pixel'\."):
        build_loss({'type': 'FeatureDistillationLoss', 'normalize': 'pixel'})
