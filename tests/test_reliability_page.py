"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_that_the_page_names_exists():
    """Catches a promise whose test was renamed or taken away."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 50
    assert not {name for name in named if f"def {name}(" not in sources}
