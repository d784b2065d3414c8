"""require_noise: under record-level privacy nothing leaves that would tell of training cases beside the noise, whatever a
server asks for.
"""

from __future__ import annotations

from client.site import Site
from common.errors import Refused

__all__ = ["require_noise"]

NOISY = ("votes", "moments", "train_round")
NOT_OF_TRAINING_CASES = (
    *("qualify", "evaluate", "score_cells", "segment_evaluate"),
    *("advertise_keys", "share_keys", "unmask"),
)
"""But for their number.  A message that stands in neither list stays, so that a new one is thought about."""


def require_noise(action: str, site: Site) -> None:
    """Refused `privacy-not-for-segmentation`, and `statistics-without-noise` where the protocol has private statistics."""
    asked = site.protocol.privacy.record_level
    if asked is None:
        return
    if action == "segment_round":
        raise Refused(
            "privacy-not-for-segmentation",
            site=site.settings.name,
            field="privacy.record_level",
            problem="The protocol promises record-level privacy, which training the segmentation network does not keep.",
            fix="Train the segmentation network under a protocol without privacy.record_level.",
        )
    if asked.statistics is not None and action not in (*NOISY, *NOT_OF_TRAINING_CASES):
        raise Refused(
            "statistics-without-noise",
            site=site.settings.name,
            field=action,
            problem="The protocol promises noise in all statistics of training cases, and this message would carry none.",
            fix="Do without it, or agree on a protocol without privacy.record_level.statistics.",
        )
