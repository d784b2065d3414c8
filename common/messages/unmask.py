"""unmask: what takes the masks off the sum (common/privacy/secure_sum.py, step 4).

Leaves the site: of every site in the sum a share of its seed, of every lost site a share of its mask key, never both.
"""

from __future__ import annotations

from typing import ClassVar

from common.messages.base import Reply, Request
from common.messages.masking import Session
from common.privacy.disclosure import Disclosure
from common.privacy.secure_sum import OpenedShares

__all__ = ["UnmaskReply", "UnmaskRequest"]


class UnmaskRequest(Request):
    """survivors: the sites whose masked numbers the server adds up."""

    action: ClassVar[str] = "unmask"
    session: Session
    survivors: tuple[str, ...]


class UnmaskReply(Reply):
    """opened: this site's shares."""

    opened: OpenedShares

    def discloses(self) -> Disclosure:
        """Nothing of cases."""
        return Disclosure()
