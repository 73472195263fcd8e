"""Distances between student and teacher as pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def as_tokens(feature: Tensor) -> Tensor:
    """Reshapes (B, C, H, W) to tokens (B, H W, C); returns (B, L, C) as it is."""
    return feature.flatten(2).transpose(1, 2) if feature.ndim == 4 else feature


def feature_distance(student: Tensor, teacher: Tensor, normalize: str = 'token') -> Tensor:
    """Returns the mean squared error between L2-normalised features, averaged over all elements.

    Args:
        student, teacher: (B, L, C) or (B, C, H, W).
        normalize: 'token': each token's C channels have norm 1; 'sample': each sample's whole feature has norm 1, as in
            2DQuant (arXiv 2406.06649), which makes the distance L times smaller.

    Returns:
        Zero-dimensional, at least 0.
    """
    student, teacher = as_tokens(student), as_tokens(teacher)
    over = -1 if normalize == 'token' else (1, 2)
    unit_student, unit_teacher = (f / f.norm(dim=over, keepdim=True).clamp_min(1e-12) for f in (student, teacher))
    return torch.mean((unit_student - unit_teacher) ** 2)


def published_pixel_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the authors' pixel term: the mean absolute error, divided once more by the elements of one image.

    Args:
        student, teacher: (B, C, H, W) in [0, 1].

    Returns:
        Zero-dimensional, at least 0.
    """
    return torch.mean(torch.abs(student - teacher)) / student[0].numel()


def published_feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the authors' feature term, without the memory of its broadcast.

    Their norms, taken over a whole sample and cut from the graph, broadcast features (B, L, C) to (B, B, L, C): entry
    (i, j) is sample j over the norm of sample i. The term is the mean squared difference of these, divided once more by
    their number. With a_i, c_i the inverse norms of student and teacher and D = S - T this is
        sum_ij |a_i S_j - c_i T_j|^2
        = sum a^2 sum |D|^2 + 2 sum a (a - c) sum <D, T> + sum (a - c)^2 sum |T|^2,
    in which nothing cancels.

    Args:
        student, teacher: (B, L, C) or (B, C, H, W).

    Returns:
        Zero-dimensional, at least 0.
    """
    student, teacher = as_tokens(student), as_tokens(teacher)
    a, c = (1 / f.norm(dim=(1, 2)).detach().clamp_min(1e-12) for f in (student, teacher))
    difference = student - teacher
    total = (
        (a**2).sum() * (difference**2).sum()
        + 2 * (a * (a - c)).sum() * (difference * teacher).sum()
        + ((a - c) ** 2).sum() * (teacher**2).sum()
    )
    return total / (len(student) * student.numel()) ** 2
