"""Audio super-resolution: the walk of a sound.

Importing this package is cheap: values and errors. `audiosr_core.engine` is where torch begins.
"""

from audiosr_core.audio import Audio
from audiosr_core.errors import AudioSRError
from audiosr_core.settings import Settings

__version__ = "0.1.0"

__all__ = ["Audio", "AudioSRError", "Settings", "__version__"]
