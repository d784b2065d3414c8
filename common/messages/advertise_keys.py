"""advertise_keys: fresh keys for one secure sum (common/privacy/secure_sum.py, step 1).

Leaves the site: two public keys, signed by the site's identity.
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Reply, Request
from common.messages.masking import Session
from common.privacy.disclosure import Disclosure
from common.privacy.secure_sum import Advert

__all__ = ["AdvertiseKeysReply", "AdvertiseKeysRequest"]


class AdvertiseKeysRequest(Request):
    """session: the sum's name."""

    action: ClassVar[str] = "advertise_keys"
    session: Session


class AdvertiseKeysReply(Reply):
    """advert: valid for this session and protocol only."""

    advert: Advert

    def discloses(self) -> Disclosure:
        """Nothing of cases."""
        return Disclosure()
