"""Every setting: one frozen field is one flag, one HEXGRID_* variable and one row of docs/settings.md.

A value is checked once, here, and never written to afterwards. Nothing heavy is imported: `hexgrid --help`
reads this package.
"""

from hexgrid.config.engine import CACHE_SETTINGS, Device, Dtype, EngineConfig, Quantization
from hexgrid.config.server import LogFormat, ServerConfig, all_settings
from hexgrid.config.upstream import UpstreamConfig

__all__ = [
    "CACHE_SETTINGS",
    "Device",
    "Dtype",
    "EngineConfig",
    "LogFormat",
    "Quantization",
    "ServerConfig",
    "UpstreamConfig",
    "all_settings",
]
