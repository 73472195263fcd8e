"""Sharpness against closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from compsrt_basicsr.study.compare.sharpness import (
    BLOCK,
    RINGS,
    gradient_energy,
    high_frequency_share,
    measure_sharpness,
    nyquist_of_input,
    power_spectrum,
    radial_spectrum,
    ring_frequencies,
)


def sinusoid(frequency, amplitude=20.0, shape=(64, 129)):
    """Whole periods along the rows: differences see the last pixel and its successor, the first, once."""
    wave = 120 + amplitude * np.sin(2 * np.pi * frequency * np.arange(shape[1]) + 0.3)
    return np.tile(wave, (shape[0], 1))


@pytest.fixture(scope='module')
def noise():
    return 128 + np.random.default_rng(0).normal(size=(700, 900))


@pytest.mark.parametrize('frequency', [1 / 128, 1 / 16, 1 / 4, 1 / 2])
def test_gradient_energy_of_a_sinusoid(frequency):
    """The difference of neighbours is a sinusoid of amplitude 2 A sin(pi f); at 1/2 both samples count in full."""
    half = 0.5 if frequency < 0.5 else np.cos(0.3 + np.pi / 2) ** 2
    expected = half * (2 * 20 * np.sin(np.pi * frequency)) ** 2
    assert gradient_energy(sinusoid(frequency)) == pytest.approx(expected, rel=1e-9)
    assert gradient_energy(sinusoid(frequency).T) == pytest.approx(expected, rel=1e-9)


def test_gradient_energy_of_a_ramp_adds_up_both_directions():
    rows, columns = np.mgrid[:20, :30]
    assert gradient_energy(3.0 * rows + 4.0 * columns) == pytest.approx(25)


@pytest.mark.parametrize('cutoff', [0.125, 1 / 6, 0.25])
def test_white_noise_has_power_by_area(noise, cutoff):
    """1 - 4 cutoff²; a share of some 20,000 independent coefficients in 30 blocks scatters by far less than 0.01."""
    assert high_frequency_share(power_spectrum(noise), cutoff) == pytest.approx(1 - 4 * cutoff**2, abs=0.01)


def test_the_rings_of_white_noise_are_equal(noise):
    rings = radial_spectrum(power_spectrum(noise))
    assert rings[2:] == pytest.approx(np.full(RINGS - 2, rings[2:].mean()), rel=0.1)


@pytest.mark.parametrize(('frequency', 'share'), [(0.1, 0.0), (0.2, 0.0), (0.3, 1.0), (0.45, 1.0)])
def test_a_sinusoid_lies_on_its_side_of_the_cutoff(frequency, share):
    """Off the frequencies of the transform as well: the window's leakage is below 1e-6 some bins away."""
    power = power_spectrum(sinusoid(frequency, shape=(80, 110)))
    assert high_frequency_share(power, 0.25) == pytest.approx(share, abs=1e-5)
    assert ring_frequencies()[np.nanargmax(radial_spectrum(power))] == pytest.approx(frequency, abs=0.5 / RINGS)


def test_a_level_and_an_edge_at_the_border_are_not_sharp():
    """A ramp jumps from one border to the other, which no window would count as an edge."""
    ramp = np.tile(np.linspace(0, 200, 128), (128, 1))
    plain = np.abs(np.fft.fft2(ramp - ramp.mean())) ** 2
    assert high_frequency_share(power_spectrum(ramp), 0.25) < 1e-6 < 1e-3 < high_frequency_share(plain, 0.25)
    flat = measure_sharpness(np.full((40, 50), 77.0), 0.25)
    assert flat.gradient_energy == 0 and flat.high_frequency_share is None


def test_blur_lowers_both(noise):
    sharp = measure_sharpness(noise, 0.25)
    shares, energies = [sharp.high_frequency_share], [sharp.gradient_energy]
    for sigma in (0.5, 1.0, 2.0):
        blurred = measure_sharpness(cv2.GaussianBlur(noise, (0, 0), sigma), 0.25)
        shares.append(blurred.high_frequency_share)
        energies.append(blurred.gradient_energy)
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.02 * shares[0]
    assert energies == sorted(energies, reverse=True) and energies[-1] < 0.02 * energies[0]


def test_every_part_of_a_large_image_counts():
    """sin⁴ + cos⁴ of the window in each direction: between 1/2 and 1, half a block from the borders."""
    texture = np.random.default_rng(1).normal(size=(64, 64))
    found = []
    for top, left in ((128, 128), (268, 418), (300, 240), (408, 708)):
        image = np.zeros((600, 900))
        image[top : top + 64, left : left + 64] = texture
        found.append(power_spectrum(image).sum())
    assert power_spectrum(image).shape == (BLOCK, BLOCK)
    assert max(found) < 4 * min(found)


def test_an_image_smaller_than_a_block():
    power = power_spectrum(np.random.default_rng(2).normal(size=(11, 30)))
    assert power.shape == (11, 30)
    assert np.isfinite(radial_spectrum(power)).sum() > 10 and np.isnan(radial_spectrum(power)).any()


def test_the_cutoff_is_what_the_small_image_can_hold():
    assert [nyquist_of_input(scale) for scale in (2, 4)] == [0.25, 0.125]
