"""python -m dsac.compare"""

from __future__ import annotations

from dsac.compare.command import main

if __name__ == "__main__":
    raise SystemExit(main())
