"""deployment: where the coordinator's server listens, and which protocol and code the study was provisioned for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.config.base import Settings
from common.config.kit import Address
from common.config.study import SiteName

__all__ = ["DeploymentSettings"]

Port = Annotated[int, Field(ge=1, le=65535)]


class DeploymentSettings(Settings):
    """deployment.yaml, beside study.yaml.

    server: as hospitals reach it; listen, port: what the server binds (behind a firewall they may differ).
    superlink_port: Flower's own port, always on 127.0.0.1: its control interface has no authentication.
    protocol, application: fingerprints fixed when the study was provisioned.
    """

    schema_version: Literal[1] = 1
    study: SiteName
    server: Address
    listen: str = "0.0.0.0"  # noqa: S104  # the one address that hospitals must reach
    port: Port
    superlink_port: Port = 8000
    protocol: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    application: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
