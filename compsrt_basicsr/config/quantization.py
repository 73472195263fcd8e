"""The options of a quantization under one name."""

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.pruning import PruneSchedule, scheduled_ratio
from compsrt_basicsr.config.quant import MAX_BITS, MIN_BITS, TRANSFORMS, QuantConfig

__all__ = ['MAX_BITS', 'MIN_BITS', 'TRANSFORMS', 'CalibrationConfig', 'PruneSchedule', 'QuantConfig', 'scheduled_ratio']
