"""python -m dsac.export"""

from __future__ import annotations

from dsac.export.command import main

if __name__ == "__main__":
    raise SystemExit(main())
