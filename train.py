"""Train a physics-informed neural network: the flow around a cylinder, or another problem.

python train.py --save_path runs/good
python train.py --broken --save_path runs/broken
python train.py --num_domain 1500 --num_boundary 500 --save_path runs/bad
python train.py --problem heat
python train.py --problem burgers --sampler rad --sampler_every 100

The same command goes on where it was stopped.
"""

from pinnfluence.commands import run

if __name__ == "__main__":
    run("train")
