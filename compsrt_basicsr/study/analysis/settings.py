"""Settings of an analysis."""

from __future__ import annotations

from dataclasses import dataclass

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.analysis.normality import LARGEST, SMALLEST

TRANSFORMS = ('none', 'auto', 'padded', 'dct', 'random')
_OTHER_NAMES = {'exact': 'auto'}
LARGEST_PATCH = 256  # the attention of SwinIR-light then has 100 MB
_NESTED_SAMPLES = (200, 1000)


@dataclass(frozen=True)
class AnalysisSettings:
    """Settings of one analysis, validated when built.

    Attributes:
        transforms: names from `TRANSFORMS`, or 'exact' for 'auto'. 'none', the reference, is always added in front.
        patches: number of LR patches.
        patch_size: side of a patch in pixels.
        seed: seed of patches, samples, the transform 'random' and bootstraps.
        sample: number of values of each tensor that the normality tests use.
        resamples: number of resamples of each bootstrap.
    """

    transforms: tuple[str, ...] = TRANSFORMS
    patches: int = 16
    patch_size: int = 64
    seed: int = 0
    sample: int = LARGEST
    resamples: int = 1000

    def __post_init__(self) -> None:
        names = [_OTHER_NAMES.get(name, name) for name in self.transforms]
        for name in names:
            if name not in TRANSFORMS:
                known = (*TRANSFORMS, *_OTHER_NAMES)
                raise CompSRTError(
                    f'`--transform` must be one of {", ".join(known)}, got {name!r}.{suggestion(name, known)}'
                )
        object.__setattr__(self, 'transforms', tuple(dict.fromkeys(['none', *names])))
        for name, low, high in (
            ('patches', 1, 1_000_000),
            ('patch_size', 8, LARGEST_PATCH),
            ('seed', 0, 2**32 - 1),
            ('sample', SMALLEST, LARGEST),
            ('resamples', 100, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise CompSRTError(f'`--{name.replace("_", "-")}` must be from {low} to {high:,}, got {value}.')

    @property
    def samples(self) -> tuple[int, ...]:
        """Sizes of the nested samples, the largest last."""
        return (*(size for size in _NESTED_SAMPLES if size < self.sample), self.sample)
