"""flow_diagram: from the manifest to the prepared cases in lines of text; every number adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["flow_diagram"]


def flow_diagram(check: Mapping[str, Any]) -> str:
    """The flow of `SiteCheck.as_dict()`."""
    aside = Counter(case["code"] for case in check["set_aside"])
    cures = {case["code"]: case["cure"] for case in check["set_aside"]}
    excluded = sum(check["excluded"].values())
    lines = [_line("cases in the manifest", check["cases"])]
    lines += [_line(" |-- excluded (R6-R9)", excluded)]
    lines += [_line(f" |     {reason}", count) for reason, count in check["excluded"].items()]
    classes = f"altered {check['altered']}, not altered {check['not_altered']}"
    lines += [_line("eligible", check["eligible"], classes)]
    lines += [_line(" |-- set aside", sum(aside.values()))]
    lines += [_line(f" |     {code}", count, cures[code]) for code, count in sorted(aside.items())]
    lines += [_line(" `-- ready to prepare", check["ready"], f"{check['prepared']} of them prepared")]
    return "\n".join(lines)


def _line(words: str, count: int, remark: str = "") -> str:
    return f"{words:<52}{count:>6}   {remark}".rstrip()
