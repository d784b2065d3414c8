"""conftest: how laws are searched: the same examples every time, on any machine however busy.

HYPOTHESIS_PROFILE=explore looks for new counterexamples instead.
"""

from __future__ import annotations

import os

from hypothesis import settings

__all__: list[str] = []

settings.register_profile("house", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))
