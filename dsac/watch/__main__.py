"""python -m dsac.watch"""

from __future__ import annotations

from dsac.watch.command import main

if __name__ == "__main__":
    raise SystemExit(main())
