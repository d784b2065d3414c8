"""require_preprocessing: what concerns every case is said once, before the first one."""

from __future__ import annotations

from common.config.preprocessing import PreprocessingSettings

__all__ = ["require_preprocessing"]


def require_preprocessing(settings: PreprocessingSettings) -> None:
    """ConfigError where the machine lacks the protocol's skull-strip program, or has another atlas or none."""
    from client.preprocess.atlas import load_atlas, require_atlas  # SimpleITK: for the commands that prepare
    from client.preprocess.steps.strip_command import require_program

    require_program(settings.skull_strip)
    require_atlas(settings.atlas, settings.atlas_sha256)
    if settings.atlas != "mni152":
        load_atlas(settings.atlas)
