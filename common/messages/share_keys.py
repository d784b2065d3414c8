"""share_keys: a site's secrets for one sum, split among the others (common/privacy/secure_sum.py, step 2).

Leaves the site: shares of two random secrets, encrypted for one other site each.
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Reply, Request
from common.messages.masking import Session
from common.privacy.disclosure import Disclosure
from common.privacy.secure_sum import Advert

__all__ = ["ShareKeysReply", "ShareKeysRequest"]


class ShareKeysRequest(Request):
    """adverts: of all sites that take part; each site checks their signatures."""

    action: ClassVar[str] = "share_keys"
    session: Session
    adverts: dict[str, Advert]


class ShareKeysReply(Reply):
    """sealed: by receiver, hexadecimal."""

    sealed: dict[str, str]

    def discloses(self) -> Disclosure:
        """Nothing of cases."""
        return Disclosure()
