"""python -m dsac.sweep"""

from __future__ import annotations

from dsac.sweep.command import main

if __name__ == "__main__":
    raise SystemExit(main())
