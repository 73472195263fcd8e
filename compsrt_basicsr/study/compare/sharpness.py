"""Sharpness of an image, whether it is correct or not.

There are two measures on the Y channel: the energy of the gradient, and the share of the spectrum above the highest
frequency that the small image can hold. Blur lowers both, and so does denoising; noise and ringing raise them. Compare
them with those of the original, and look at an error too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

RINGS = 32  # of the averaged spectrum, from 0 to NYQUIST
NYQUIST = 0.5  # cycles per pixel
BLOCK = 256  # side in pixels of the blocks whose spectra are averaged


@dataclass(frozen=True)
class Sharpness:
    """Measures of one image.

    Attributes:
        gradient_energy: see `gradient_energy`.
        high_frequency_share: see `high_frequency_share`; None for a constant image.
        spectrum: (RINGS,), see `radial_spectrum`.
    """

    gradient_energy: float
    high_frequency_share: float | None
    spectrum: np.ndarray


def measure_sharpness(luma: np.ndarray, cutoff: float) -> Sharpness:
    """Measures an image.

    Args:
        luma: (H, W), Y in grey levels.
        cutoff: in cycles per pixel, see `nyquist_of_input`.
    """
    power = power_spectrum(luma)
    return Sharpness(gradient_energy(luma), high_frequency_share(power, cutoff), radial_spectrum(power))


def nyquist_of_input(scale: int) -> float:
    """Returns the highest frequency of an image `scale` times smaller, in cycles per pixel of the large one."""
    return NYQUIST / scale


def gradient_energy(luma: np.ndarray) -> float:
    """Returns the mean squared gradient, by differences of neighbouring pixels: mean(dx²) + mean(dy²).

    A sinusoid of amplitude A and frequency f along one axis has 2 A² sin²(π f), over whole periods.

    Args:
        luma: (H, W), Y in grey levels, both sides at least 2.

    Returns:
        In squared grey levels per squared pixel.
    """
    return float(np.mean(np.diff(luma, axis=0) ** 2) + np.mean(np.diff(luma, axis=1) ** 2))


def power_spectrum(luma: np.ndarray) -> np.ndarray:
    """Returns the power by frequency: Welch's estimate, the mean over blocks that overlap by at least half.

    A Hann window fades each block out towards its edges, where a jump would count as sharpness. The overlap gives all
    parts of the image except its margins about the same weight. The mean of a block, weighted by the window, is
    subtracted first so that it does not leak into other frequencies.

    Args:
        luma: (H, W).

    Returns:
        (h, w), the sides of a block: `BLOCK`, or those of the image if it is smaller; in the order of `numpy.fft.fft2`.
    """
    sides = [min(BLOCK, length) for length in luma.shape]
    window = np.outer(*map(_hann, sides))
    power = np.zeros(sides)
    for top, left in itertools.product(*map(_starts, luma.shape, sides)):
        block = luma[top : top + sides[0], left : left + sides[1]]
        centred = block - np.sum(window * block) / np.sum(window)
        power += np.abs(np.fft.fft2(window * centred)) ** 2
    return power


def high_frequency_share(power: np.ndarray, cutoff: float) -> float | None:
    """Returns the power at radial frequencies in [cutoff, 1/2] over that in (0, 1/2].

    The corners of the spectrum, beyond 1/2, are left out, so that all directions count equally. White noise has
    1 - 4 cutoff².

    Args:
        power: (h, w), from `power_spectrum`.
        cutoff: in cycles per pixel.

    Returns:
        A share in [0, 1]; None if there is no power.
    """
    radius = _radius(power.shape)
    total = power[(radius > 0) & (radius <= NYQUIST)].sum()
    return float(power[(radius >= cutoff) & (radius <= NYQUIST)].sum() / total) if total > 0 else None


def radial_spectrum(power: np.ndarray) -> np.ndarray:
    """Returns the mean power of `RINGS` rings of equal width between frequency 0 (left out) and 1/2.

    Args:
        power: (h, w), from `power_spectrum`.

    Returns:
        (RINGS,); NaN for a ring without a frequency of the image.
    """
    radius = _radius(power.shape)
    used = (radius > 0) & (radius <= NYQUIST)
    ring = np.minimum((radius[used] / NYQUIST * RINGS).astype(int), RINGS - 1)
    count = np.bincount(ring, minlength=RINGS)
    sums = np.bincount(ring, power[used], minlength=RINGS)
    return np.divide(sums, count, out=np.full(RINGS, np.nan), where=count > 0)


def ring_frequencies() -> np.ndarray:
    """Returns the middle of each ring of `radial_spectrum`, in cycles per pixel."""
    return (np.arange(RINGS) + 0.5) * NYQUIST / RINGS


def _hann(length: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2


def _starts(length: int, side: int) -> np.ndarray:
    """Returns the starts of the blocks, evenly from one end to the other."""
    count = -(-2 * (length - side) // side) + 1
    return np.linspace(0, length - side, count).round().astype(int)


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Radial frequency of each coefficient, in cycles per pixel."""
    return np.hypot(*np.meshgrid(*(np.fft.fftfreq(length) for length in shape), indexing='ij'))
