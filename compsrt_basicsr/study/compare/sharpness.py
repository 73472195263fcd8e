"""How sharp a picture is, without asking whether it is right.

Two measures on the Y channel: the energy of its gradient, and the share of its spectrum that lies above the highest
frequency the low-resolution picture can hold. Blur lowers both, but so may the removal of noise; noise and ringing
raise them. They tell of blur only beside the same measures of the original, and beside an error.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

RINGS = 32  # of the averaged spectrum, from 0 to NYQUIST
NYQUIST = 0.5  # cycles per pixel
BLOCK = 256  # pixels a side, of a piece of the picture whose spectrum is taken


@dataclass(frozen=True)
class Sharpness:
    """Measures of one picture.

    Attributes:
        gradient_energy: see `gradient_energy`.
        high_frequency_share: see `high_frequency_share`; None for a picture of one level.
        spectrum: (RINGS,), see `radial_spectrum`.
    """

    gradient_energy: float
    high_frequency_share: float | None
    spectrum: np.ndarray


def measure_sharpness(luma: np.ndarray, cutoff: float) -> Sharpness:
    """Measures a picture.

    Args:
        luma: (H, W), Y in grey levels.
        cutoff: cycles per pixel, see `nyquist_of_input`.
    """
    power = power_spectrum(luma)
    return Sharpness(gradient_energy(luma), high_frequency_share(power, cutoff), radial_spectrum(power))


def nyquist_of_input(scale: int) -> float:
    """The highest frequency that a picture `scale` times smaller can hold, in cycles per pixel of the large one."""
    return NYQUIST / scale


def gradient_energy(luma: np.ndarray) -> float:
    """Mean squared length of the gradient, by differences of neighbouring pixels: mean(dx²) + mean(dy²).

    A sinusoid of amplitude A and frequency f along one axis has 2 A² sin²(π f), over whole periods.

    Args:
        luma: (H, W), Y in grey levels, both sides at least 2.

    Returns:
        In squared grey levels per squared pixel.
    """
    return float(np.mean(np.diff(luma, axis=0) ** 2) + np.mean(np.diff(luma, axis=1) ** 2))


def power_spectrum(luma: np.ndarray) -> np.ndarray:
    """Power of a picture by frequency: Welch's estimate, the mean over blocks that overlap by at least half.

    A Hann window lets each block fade out towards its edges, whose jump from one side to the other would else count as
    sharpness; the overlap gives all parts of the picture, but its margins, about the same say. The mean of a block,
    weighted by the window, is taken off first, so that none of it leaks into other frequencies.

    Args:
        luma: (H, W).

    Returns:
        (h, w), a block's sides: `BLOCK`, or the picture's where that is smaller; ordered as `numpy.fft.fft2` does.
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
    """Share of the power at radial frequencies in [cutoff, 1/2], of that in (0, 1/2].

    The corners of the spectrum, beyond 1/2, are left out, so that all directions count alike. White noise has
    1 - 4 cutoff².

    Args:
        power: (h, w), of `power_spectrum`.
        cutoff: in cycles per pixel.

    Returns:
        In [0, 1]; None where there is no power.
    """
    radius = _radius(power.shape)
    total = power[(radius > 0) & (radius <= NYQUIST)].sum()
    return float(power[(radius >= cutoff) & (radius <= NYQUIST)].sum() / total) if total > 0 else None


def radial_spectrum(power: np.ndarray) -> np.ndarray:
    """Mean power of each of `RINGS` rings of equal width between frequency 0 (left out) and 1/2.

    Args:
        power: (h, w), of `power_spectrum`.

    Returns:
        (RINGS,); NaN for a ring without a frequency of the picture.
    """
    radius = _radius(power.shape)
    used = (radius > 0) & (radius <= NYQUIST)
    ring = np.minimum((radius[used] / NYQUIST * RINGS).astype(int), RINGS - 1)
    count = np.bincount(ring, minlength=RINGS)
    sums = np.bincount(ring, power[used], minlength=RINGS)
    return np.divide(sums, count, out=np.full(RINGS, np.nan), where=count > 0)


def ring_frequencies() -> np.ndarray:
    """The middle of each ring of `radial_spectrum`, in cycles per pixel."""
    return (np.arange(RINGS) + 0.5) * NYQUIST / RINGS


def _hann(length: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2


def _starts(length: int, side: int) -> np.ndarray:
    """Where blocks begin, evenly from one end to the other."""
    count = -(-2 * (length - side) // side) + 1
    return np.linspace(0, length - side, count).round().astype(int)


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    """Radial frequency of each coefficient, in cycles per pixel."""
    return np.hypot(*np.meshgrid(*(np.fft.fftfreq(length) for length in shape), indexing='ij'))
