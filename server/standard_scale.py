"""standard_scale: the protocol of a study that normalises by Nyul's method, made of the sites' landmark files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from common.config.preprocessing import StandardScale
from common.config.protocol import Protocol
from common.errors import InputError, QuorumLost
from common.messages.landmarks import LandmarksReply
from common.stats.landmarks import finish
from common.stats.moments import Sums

__all__ = ["combine_landmarks", "read_landmarks", "with_scale"]


def read_landmarks(paths: Sequence[Path]) -> tuple[LandmarksReply, ...]:
    """All files, in the order of the sites' names; InputError `landmarks-unreadable` names every one that is none."""
    replies, faults = [], []
    for path in paths:
        try:
            replies.append(LandmarksReply.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            faults.append(f"{path.name}: {type(error).__name__}")
    if faults:
        raise InputError(
            "landmarks-unreadable",
            field="landmarks",
            problem=f"{len(faults)} file(s) hold no landmarks of a site.",
            fix="Take the files as `fedmidline-site landmarks` wrote them.",
            local="; ".join(faults),
        )
    return tuple(sorted(replies, key=lambda reply: reply.site))


def combine_landmarks(replies: Sequence[LandmarksReply], protocol: Protocol) -> StandardScale:
    """The mean over all sites' training cases.

    InputError `site-twice`, `landmarks-of-other-settings` (names the sites), `too-few-cases`; QuorumLost below the
    protocol's min_sites.
    """
    federation = protocol.federation
    twice = [site for site, count in Counter(reply.site for reply in replies).items() if count > 1]
    if twice:
        raise _fault("site-twice", twice, "A site's landmarks are there twice.", "Keep its latest file.")
    others = [reply.site for reply in replies if reply.preparation != protocol.landmarks_fingerprint()]
    if others:
        raise _fault(
            "landmarks-of-other-settings",
            others,
            "Landmarks were measured with another preprocessing than the protocol's.",
            "Let the sites measure again with this protocol.",
        )
    small = [reply.site for reply in replies if reply.cases < federation.min_cases]
    if small:
        raise _fault("too-few-cases", small, f"A site has fewer than {federation.min_cases} cases.", "Leave it out.")
    if len(replies) < federation.min_sites:
        raise QuorumLost(
            "too-few-sites",
            field="federation.min_sites",
            problem=f"The scale needs the landmarks of {federation.min_sites} sites; there are {len(replies)}.",
            fix="Wait for the others' files.",
        )
    return finish([Sums(reply.cases, np.array(reply.total)) for reply in replies])


def with_scale(protocol: Protocol, scale: StandardScale) -> str:
    """The protocol as YAML, normalising to this scale; what was left at its default is left out again."""
    settings = protocol.model_dump(mode="json", exclude_unset=True)
    preprocessing = {**settings.get("preprocessing", {}), "normalisation": "nyul"}
    settings["preprocessing"] = {**preprocessing, "standard_scale": scale.model_dump(mode="json")}
    Protocol.model_validate(settings)
    return yaml.safe_dump(settings, sort_keys=False)


def _fault(code: str, sites: Sequence[str], problem: str, fix: str) -> InputError:
    return InputError(code, field="landmarks", site=", ".join(sorted(sites)), problem=problem, fix=fix)
