"""site: a hospital's settings with its copy of the protocol, opened from the one file that names both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.config.parse import parse_settings
from common.config.protocol import Protocol
from common.config.site import SiteSettings
from common.errors import ConfigError, Refused

__all__ = ["Site", "open_site", "read_settings_text", "require_ethics"]


@dataclass(frozen=True)
class Site:
    """settings: paths already absolute; protocol: the site's own copy."""

    settings: SiteSettings
    protocol: Protocol


def open_site(path: Path) -> Site:
    """Read a site file and the protocol it names.

    Relative paths in it start at the file's folder.  ConfigError names every fault of both files.
    """
    raw = parse_settings(SiteSettings, read_settings_text(path), source=path.name)
    base = path.resolve().parent
    settings = raw.model_copy(update={field: base / getattr(raw, field) for field in ("protocol", "manifest", "cache")})
    text = read_settings_text(settings.protocol)
    return Site(settings, parse_settings(Protocol, text, source=settings.protocol.name))


def require_ethics(site: Site) -> None:
    """Refused `ethics-missing` when the site's file names no approval and does not say `ethics: warn` (R8)."""
    missing = site.settings.missing_ethics()
    if missing and site.settings.ethics == "refuse":
        raise Refused(
            "ethics-missing",
            site=site.settings.name,
            field=", ".join(missing),
            problem="The site's file does not name the ethics approval.",
            fix="Fill the fields in site.yaml.",
        )


def read_settings_text(path: Path) -> str:
    """The file's text, or one clear ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "config-unreadable",
            problem="A settings file cannot be read.",
            fix="Check that the path exists and is a text file.",
            local=f"{path}: {type(error).__name__}",
        ) from None
