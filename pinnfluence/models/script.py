"""A model that a function of the user's own script returns; the script's code is run."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pinnfluence.errors import InputError
from pinnfluence.field.module_call import copied
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.model import Model, some_of, versions
from pinnfluence.runtime import distributed
from pinnfluence.storage import checkpoint


@dataclass(frozen=True)
class ScriptModel(Model):
    """A trained ``dde.Model``, or a ``Pinn`` with its points, as a user's function returned it.

    given: what it returned. path, function: the script and the function. sha256: of the script's
    bytes that were run.
    """

    pinn: Pinn
    train_x: np.ndarray
    given: Any
    path: Path
    function: str
    sha256: str
    problem: None = None

    @property
    def title(self) -> str:
        return f"{self.path}:{self.function}"

    def settings(self) -> str:
        """Inputs, outputs, loss terms, and how many points and parameters there are."""
        pinn = self.pinn
        kind = "outputs" if pinn.outputs else "quantities"
        predicted = ", ".join(pinn.outputs or pinn.quantities) or "none"
        return (
            f"inputs {', '.join(pinn.inputs)}, {kind} {predicted}, loss terms "
            f"{', '.join(pinn.terms)}, {len(self.train_x)} points, {pinn.n_params} parameters"
        )

    def provenance(self) -> dict[str, Any]:
        script = {"name": self.path.name, "function": self.function, "sha256": self.sha256}
        script["identity"] = self.identity
        return {"script": script, "versions": versions()}

    @cached_property
    def identity(self) -> str:
        """A checksum of the script and of all weights, the same in float32 and float64."""
        digest = hashlib.sha256(self.sha256.encode())
        for p in (*self.pinn.params.values(), *self.pinn.constants.values()):
            digest.update(p.cpu().float().numpy().tobytes())
        return digest.hexdigest()

    def folder(self, what: str) -> Path:
        """The folder ``<script>_<function>_<what>`` beside the script."""
        return folder_beside_script(f"{self.path}:{self.function}", what)

    def points_of(self, path: Path, what: str) -> np.ndarray:
        """Points of a file; nothing says where the domain ends."""
        return checkpoint.load_points(path, len(self.pinn.inputs), what)

    def test_points(self, path: Path | None, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Test points of a file, else the training points."""
        if path is None:
            print("test points: the training points (--test_x_path gives others)")
        return some_of(self.train_x if path is None else self.points_of(path, "test"), n, seed)


def load_script(
    source: str, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> ScriptModel:
    """Run a script and call its function that returns a trained model.

    Args:
        source: ``script.py:function``, of a function without arguments. It returns a trained
            ``dde.Model``, or a ``Pinn`` with its points (see ``torch_model``).
        dtype: in which everything is computed.
        device: where; None: where the model is.

    Raises:
        InputError: no such file or function; it raised, which its traceback shows; it returned
            something else, or other weights or points in another process.
    """
    path, name = _parts_of(source)
    content = path.read_bytes()
    with _of_user(source, path):
        function = getattr(_module(path.resolve(), content), name, None)
    if not callable(function):
        raise InputError(f"expected a function {name} in {path}, found none")
    with _of_user(source, path):
        given = function()
    pinn = _pinn_of(given, source, dtype)
    network = copied(pinn.network).to(device=device, dtype=dtype)
    pinn = replace(pinn, network=network)
    _check_same_everywhere(pinn, source)
    digest = hashlib.sha256(content).hexdigest()
    return ScriptModel(pinn, pinn.training_points, given, path, name, digest)


def folder_beside_script(source: str, what: str) -> Path:
    """The folder ``<script>_<function>_<what>`` beside a script."""
    path, name = _parts_of(source)
    return path.resolve().with_name(f"{path.stem}_{name}_{what}")


def _parts_of(source: str) -> tuple[Path, str]:
    file, colon, name = source.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise InputError(f"expected script.py:function, found {source!r}")
    if not Path(file).is_file():
        raise InputError(f"no script at {file}; expected script.py:function")
    return Path(file), name


@lru_cache(maxsize=4)
def _module(path: Path, content: bytes) -> ModuleType:
    """The script as a module, run once, with its folder on the path of imports as Python has it."""
    name = path.stem if path.stem not in sys.modules else f"script {path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # data classes and pickles look for it there
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _of_user(source: str, path: Path) -> Iterator[None]:
    """The user's own code runs as ``python script.py`` without arguments.

    What it raises is shown as Python shows it, and ends in one line; what this package refuses is
    that line alone, with the number of the script's. Arguments, the working folder
    and the mode of gradients are afterwards what they were.
    """
    arguments, folder, with_gradients = sys.argv, Path.cwd(), torch.is_grad_enabled()
    sys.argv, file = [str(path)], str(path.resolve())
    try:
        yield
    except InputError as error:  # of this package, which says all: no traceback
        stack = traceback.extract_tb(error.__traceback__)
        lines = [f" (line {frame.lineno})" for frame in stack if frame.filename == file]
        raise InputError(f"{source}{''.join(lines[-1:])}: {error}") from None
    except (Exception, SystemExit) as error:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{source} raised {reason}") from None
    finally:
        sys.argv = arguments
        os.chdir(folder)
        torch.set_grad_enabled(with_gradients)


def _pinn_of(given: Any, source: str, dtype: torch.dtype) -> Pinn:
    """The network and the loss of what a function returned."""
    if isinstance(given, Pinn):
        if given.training is None:
            raise InputError(
                f"{source} returned a Pinn without points; take torch_model or from_pina"
            )
        return given
    if "deepxde" in sys.modules:  # else it can be none of DeepXDE's, which takes seconds to import
        from pinnfluence.models.deepxde.model import dde
        from pinnfluence.models.deepxde.reader import from_deepxde

        if isinstance(given, dde.Model):
            return from_deepxde(given, dtype=dtype)
    raise InputError(
        f"expected {source} to return a trained dde.Model, or what pinnfluence.torch_model "
        f"returns; found {type(given).__name__}"
    )


def _check_same_everywhere(pinn: Pinn, source: str) -> None:
    """Each of several processes runs the script: refuse one that trains by chance in each."""
    digest = hashlib.sha256(pinn.training_points.tobytes())
    for p in (*pinn.params.values(), *pinn.constants.values()):
        digest.update(p.cpu().numpy().tobytes())
    if distributed.from_first(digest.hexdigest()) != digest.hexdigest():
        raise InputError(
            f"{source} returned other weights or points in another process; set its seeds, or "
            "load what was trained before"
        )
