"""identify: which sequence a series is, from its tags and its description, with a confidence and the reasons.

Evidence adds up to one score per kind; the confidence is the soft maximum of the scores.  It orders series and
separates certain from doubtful, and is not a calibrated probability.  Timing is evidence, never a gate (METHOD R12).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from client.ingest.dicom.header import Header

__all__ = ["CERTAIN", "Identification", "Kind", "identify"]

Kind = Literal["t1ce", "flair", "t1", "t2", "other"]
CERTAIN = 0.8

OTHER = re.compile(
    r"dwi|diff|dti|\badc|trac[ew]|swi|swan|perf|\bdsc|\bdce|\basl|\btof|mra\b|mrv|angio|bold|fmri|\bepi\b|ep2d|spectro|"
    r"mrs\b|t2\s*\*|t2star|\bt2s\b|q.?flow|csf.?flow|field.?map|phase.?(map|image)|\bb0\b|fiesta|ciss|\bpd\b|\bmt\b|\bsubtr"
)
FLAIR = re.compile(r"flair|tirm|spcir|dark.?fl|液体衰减")
T1_FLAIR = re.compile(r"t1.{0,8}flair")
T1 = re.compile(r"t1|mp.?rage|bravo|spgr|vibe|tfl3d|\btfl\b|lava|thrive|3d.?tfe|\bvista.?t1|mp2rage")
T2 = re.compile(r"t2|\btse\b.*\bt2")
WITH = re.compile(
    r"\+\s*c\b|\+\s*gd|\+\s*km|\+\s*$|t1w?\+|\bt1c\b|t1.?ce|\bce\b|\bc\+|gado|\bgd\b|\bgad\b|\bpost\b(?! op)|post.?(c|g|k)|contrast|\bkm\b|增强|"
    r"multihance|dotarem|gadovist|magnevist|prohance|clariscan|with.c\b|enhanced|contraste"
)
WITHOUT = re.compile(
    r"\bpre\b|without|non.?contrast|no.?contrast|nativ|plain|平扫|\bw ?o\b|ohne|sans|\bunenhanced|\bsin\b"
)
NO_AGENT = {"", "no", "none", "n", "without", "ohne", "nein", "0", "null"}


class _Add(Protocol):
    """Books one piece of evidence."""

    def __call__(self, reason: str, **weights: float) -> None: ...


@dataclass(frozen=True)
class Identification:
    """reasons: in words of this file, never the header's text."""

    kind: Kind
    confidence: float
    reasons: tuple[str, ...]

    @property
    def certain(self) -> bool:
        """Whether no person needs to look."""
        return self.confidence >= CERTAIN


def identify(header: Header, *, volumes: int = 1) -> Identification:
    """The most likely kind of a series with this header.

    volumes: in time; a time series is neither of our sequences.
    """
    if volumes > 1:
        return Identification("other", 1.0, (f"time series of {volumes} volumes",))
    scores: dict[Kind, float] = {"t1ce": 0.0, "flair": 0.0, "t1": 0.0, "t2": 0.0, "other": 1.0}
    reasons: list[str] = []

    def add(reason: str, **weights: float) -> None:
        reasons.append(reason)
        for kind, weight in weights.items():
            scores[kind] += weight  # type: ignore[index]  # the keywords below are kinds; another is a KeyError

    # Some vendors' protocol name is the whole examination's ("brain with and without"): it counts only alone.
    text = _spaced(header.description) or _spaced(header.protocol_name)
    _words(f"{text} {_spaced(header.sequence_name)}", add)
    _timing(header, add)
    _contrast(text, header.contrast_agent, add)
    if header.diffusion:
        add("diffusion weighting in the tags", other=6)
    total = sum(math.exp(score) for score in scores.values())
    kind = max(scores, key=lambda k: scores[k])
    return Identification(kind, round(math.exp(scores[kind]) / total, 4), tuple(reasons))


def _words(text: str, add: _Add) -> None:
    if OTHER.search(text):
        add("the description names another technique", other=5)
    if T1_FLAIR.search(text):
        add("the description says T1 FLAIR, which is T1-weighted", t1ce=3, t1=3)
    elif FLAIR.search(text):
        add("the description says FLAIR", flair=5)
    elif T1.search(text):
        add("the description says T1", t1ce=3, t1=3)
    elif T2.search(text):
        add("the description says T2", t2=3)


def _timing(header: Header, add: _Add) -> None:
    echo, repetition, inversion = header.echo_time_ms, header.repetition_time_ms, header.inversion_time_ms
    if inversion and inversion >= 1500:
        add("inversion time suppresses fluid", flair=2)
    if echo is None or repetition is None:
        return
    if echo >= 60 and repetition >= 2000:
        add("echo and repetition time of T2 weighting", t2=1, flair=1)
    elif echo < 30 and (repetition < 1200 or "GR" in header.scanning_sequence):
        add("echo and repetition time of T1 weighting", t1ce=1, t1=1)


def _spaced(text: str) -> str:
    """Lower case, with spaces where consoles write other signs between words; + and * mean something."""
    return re.sub(r"[\s_\-/^.,:;()]+", " ", text.lower()).strip()


def _contrast(text: str, agent_name: str, add: _Add) -> None:
    """Only tells T1 before from T1 after: FLAIR after contrast is FLAIR."""
    before, after = bool(WITHOUT.search(text)), bool(WITH.search(text))
    agent = agent_name.strip().lower() not in NO_AGENT
    if before:
        add("the description says before contrast", t1ce=-2, t1=2)
    elif after:
        add("the description says after contrast", t1ce=2, t1=-2)
    if agent:
        add("the tags name a contrast agent", t1ce=1.5, t1=-1.5)
    if not (before or after or agent):
        add("nothing tells of a contrast agent", t1ce=-1, t1=1)
