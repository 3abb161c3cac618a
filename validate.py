"""Do influence scores predict retraining? Scores of a trained model against the real thing.

python validate.py --checkpoint model_zoo/heat --save_path runs/heat_validation
python validate.py --model my_script.py:make_model --polish 1e-6
"""

from pinnfluence.commands import run

if __name__ == "__main__":
    run("validate")
