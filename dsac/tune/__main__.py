"""python -m dsac.tune"""

from __future__ import annotations

from dsac.tune.command import main

if __name__ == "__main__":
    raise SystemExit(main())
