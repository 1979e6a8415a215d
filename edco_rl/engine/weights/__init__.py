"""How weights reach an engine: one file a transport, imported when it is asked for."""

from ...config import available_transports
from ...plugins import Registry
from .base import WeightTransport, WeightVersionError

TRANSPORTS: Registry[WeightTransport] = Registry(
    "engine_transport",
    WeightTransport,  # type: ignore[type-abstract]
    {name: f"{__name__}.{name}:{name.title().replace('_', '')}Transport" for name in available_transports()},
)

__all__ = ["TRANSPORTS", "WeightTransport", "WeightVersionError"]
