"""Choice of the device and of the number of threads."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from pinnfluence.errors import InputError
from pinnfluence.runtime import devices


def pretend(monkeypatch: pytest.MonkeyPatch, *present: str) -> None:
    """Make exactly these devices available, beside the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)
    # None in sys.modules makes the import fail
    monkeypatch.setitem(
        sys.modules,
        "torch_xla",
        ModuleType("torch_xla") if "xla" in present else None,
    )


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("cuda", "xla", "mps"), "cuda"),
        (("xla", "mps"), "xla"),
        (("mps",), "mps"),
        ((), "cpu"),
    ],
)
def test_auto_takes_cuda_then_xla_then_mps_then_cpu(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    present: tuple[str, ...],
    expected: str,
) -> None:
    pretend(monkeypatch, *present)
    assert devices.select("auto").type == expected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("present", [("cuda", "mps"), ("xla", "mps")])
def test_auto_in_float64_takes_what_has_it(
    monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...]
) -> None:
    pretend(monkeypatch, *present)
    assert devices.select("auto", torch.float64).type == present[0]


def test_auto_in_float64_takes_the_cpu_instead_of_mps_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, "mps")
    assert devices.select("auto", torch.float64).type == "cpu"
    assert "mps has no float64: computing on the cpu" in capsys.readouterr().err


def test_float64_asked_of_mps_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "mps")
    assert devices.select("mps", torch.float32).type == "mps"
    with pytest.raises(InputError, match="'mps' has no float64; use --device cpu or --dtype"):
        devices.select("mps", torch.float64)


@pytest.mark.parametrize("name", ["cuda", "mps", "xla"])
def test_an_absent_device_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    others = [n for n in ("cuda", "mps", "xla") if n != name]
    pretend(monkeypatch, *others)
    with pytest.raises(InputError, match=f"'{name}' is not available here, found cpu, {others[0]}"):
        devices.select(name)


def test_an_xla_that_does_not_load_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)

    def fail(name: str) -> None:
        raise OSError(f"{name}: undefined symbol")

    monkeypatch.setattr(devices.importlib, "import_module", fail)
    assert devices.select("auto").type == "cpu"


def test_an_unknown_device_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown device 'gpu', expected one of auto, cpu, cuda"):
        devices.select("gpu")


def test_tf32_is_off_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cuda")
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        devices.select("cuda")
        assert [backend.allow_tf32 for backend in backends] == [False, False]
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_an_impossible_number_of_threads_is_an_error(n: int) -> None:
    with pytest.raises(InputError, match="--threads must be from 1 to"):
        devices.set_threads(n)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    devices.set_threads(None)
    devices.set_threads(3)
    assert asked == [3]
