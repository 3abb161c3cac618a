"""Influence of every training point on every prediction and loss of a trained model.

python calc_influences.py --checkpoint runs/good --save_path runs/good_influences
python calc_influences.py --model my_script.py:make_model --recipe gauss-newton
torchrun --nproc_per_node 2 calc_influences.py --checkpoint runs/good
"""

from pinnfluence.commands import run

if __name__ == "__main__":
    run("scores")
