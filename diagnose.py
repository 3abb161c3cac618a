"""How wrong a trained network is, where, and why; no reference is needed.

python diagnose.py --checkpoint runs/good
python diagnose.py --model my_script.py:make_model --fresh_model my_script.py:make_fresh
"""

from pinnfluence.commands import run

if __name__ == "__main__":
    run("diagnose")
