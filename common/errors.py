"""errors: what can go wrong, said twice - once for the wire and once for the hospital.

    StudyError                 code, field, problem, fix: safe to send; `local`: never leaves the site
    |-- ConfigError            a file of settings has faults (all of them at once)
    |-- InputError             an image, a mask or a manifest cannot be used
    |-- ProtocolMismatch       a site differs from the protocol the study runs on
    |-- Refused                policy says no (too few cases, one class only, closed study)
    |-- QuorumLost             too few sites answered to go on
    `-- WireError              a message is malformed, of another version, or carries NaN

Flower sends `str(exception)` of a site to the server.  Therefore `str()` is the wire-safe face by
construction: code, field, problem and cure, none of which may hold a path, a pseudonym or a value of
a patient.  Everything that would help only inside the hospital goes to `local`, which `explain()`
prints there and nothing else reads.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "InputError",
    "ProtocolMismatch",
    "QuorumLost",
    "Refused",
    "StudyError",
    "WireError",
]


class StudyError(Exception):
    """A fault with a code, a place and a cure.

    `code` is a stable kebab-case identifier; `field` names what is wrong; `problem` says in which way
    and `fix` how to mend it.  These four cross the wire, together with `site`.  `case` (a pseudonym)
    and `local` (paths, values) stay in the hospital.  `exit_code` is what a command ends with: 2 for bad
    input, 3 for refused by policy, 4 for stopped but resumable.
    """

    exit_code = 2

    def __init__(
        self,
        code: str,
        *,
        problem: str,
        fix: str,
        field: str = "",
        site: str = "",
        case: str = "",
        local: str = "",
    ) -> None:
        super().__init__(code, problem, fix, field, site, case, local)
        self.code = code
        self.problem = problem
        self.fix = fix
        self.field = field
        self.site = site
        self.case = case
        self.local = local

    def __str__(self) -> str:
        """The wire-safe face."""
        where = f" [{self.field}]" if self.field else ""
        return f"{self.code}{where}: {self.problem} {self.fix}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send their errors home by pickle; keyword-only arguments need this.
        return (_rebuild, (type(self), self.__dict__.copy()))

    def explain(self) -> str:
        """The local face: everything, for a screen or a log inside the hospital."""
        place = " ".join(
            f"{word}={value}"
            for word, value in (("site", self.site), ("case", self.case), ("field", self.field))
            if value
        )
        lines = [f"{self.code}: {self.problem}"]
        if place:
            lines.append(f"  where: {place}")
        if self.local:
            lines.append(f"  local: {self.local}")
        lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)


def _rebuild(kind: type[StudyError], state: dict[str, str]) -> StudyError:
    words = ("problem", "fix", "field", "site", "case", "local")
    return kind(state["code"], **{word: state[word] for word in words})


class ConfigError(StudyError):
    """A settings file has faults; `local` lists every one with field, value and cure."""


class InputError(StudyError):
    """An image, a mask or a manifest row cannot be used."""


class ProtocolMismatch(StudyError):
    """A site's protocol, code or catalogue differs from the study's."""

    exit_code = 3


class Refused(StudyError):
    """A policy of the site or the study forbids it."""

    exit_code = 3


class QuorumLost(StudyError):
    """Too few sites answered; the study stopped with a checkpoint."""

    exit_code = 4


class WireError(StudyError):
    """A message cannot be read: shape, version, kind, or a value that is not finite."""
