"""python -m dsac.bench"""

from __future__ import annotations

from dsac.bench.command import main

if __name__ == "__main__":
    raise SystemExit(main())
