"""kit: what a hospital is given to join a study: where the server is, and which protocol and code it stands for."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings
from common.config.study import SiteName

__all__ = ["Address", "KitSettings"]

Address = Annotated[
    str, Field(pattern=r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]):\d{1,5}$")
]
"""host:port, as a hospital reaches it; IPv6 in brackets."""


class KitSettings(Settings):
    """kit.yaml.

    protocol, application: fingerprints; a site whose own differ does not start.
    valid_until: last day on which the server admits this kit's key.
    """

    schema_version: Literal[1] = 1
    study: SiteName
    site: SiteName
    server: Address
    protocol: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    application: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    valid_until: date
