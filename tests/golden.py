"""Write the golden traces anew: python tests/golden.py. Whoever moves one shows returns before and after."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from helpers import ALGORITHMS
from test_algorithms import GOLDEN, trace

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in ALGORITHMS:
        (GOLDEN / f"{name}.json").write_text(json.dumps(trace(name), indent=1) + "\n")
        print(f"wrote {GOLDEN / name}.json")
