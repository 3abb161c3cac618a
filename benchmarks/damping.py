"""What the rule ``--damping auto`` gives for the models in model_zoo/.

python benchmarks/damping.py [--models good broken bad]

No retraining is looked at: only the spectrum of the curvature and the gradients at the end of the
training. The matrices are those of the recipe gauss-newton.
"""

import argparse
import json
import time
from pathlib import Path

from pinnfluence import GAUSS_NEWTON, Influence, load_model
from pinnfluence.storage.files import write_bytes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "damping.json"
COLUMNS = ("damping", "floor", "largest", "open", "neglected", "open_at_floor", "ratio", "seconds")


def figures(name: str) -> dict[str, float]:
    model = load_model(ROOT / "model_zoo" / name)
    began = time.perf_counter()
    fitted = Influence(model.pinn, model.train_x, GAUSS_NEWTON).fit()
    chosen = fitted.curvature.chosen
    assert chosen is not None
    return {
        "damping": chosen.value,
        "floor": chosen.floor,
        "largest": chosen.largest_eigenvalue,
        "open": chosen.at_value.open,
        "neglected": chosen.at_value.neglected,
        "open_at_floor": chosen.at_floor.open,
        "ratio": fitted.stationarity["ratio"],
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["good", "broken", "bad"])
    names = parser.parse_args().models
    print(f"{'model':8s}" + "".join(f"{column:>15s}" for column in COLUMNS))
    found = {}
    for name in names:
        found[name] = figures(name)
        print(f"{name:8s}" + "".join(f"{found[name][c]:15.3g}" for c in COLUMNS), flush=True)
    write_bytes(RESULTS, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
