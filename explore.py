"""Influence scores to look at: one HTML file that works offline in any browser.

python explore.py model_zoo/good_influences model_zoo/bad_influences -o explorer.html
python explore.py --model my_script.py:make_model
"""

from pinnfluence.commands import run

if __name__ == "__main__":
    run("explore")
