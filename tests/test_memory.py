"""The peak of memory, on systems that tell it in other units or not at all."""

import importlib
import sys

import pytest

from pinnfluence.runtime import memory


def test_the_peak_grows_with_what_is_held() -> None:
    before = memory.peak_memory()
    assert before is not None
    held = bytearray(before + 200_000_000)
    after = memory.peak_memory()
    assert after is not None
    assert 0.5 < after / (before + len(held)) < 2


def test_macos_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = memory.peak_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    mac = memory.peak_memory()
    assert linux is not None
    assert mac is not None
    assert mac == pytest.approx(linux / 1024, rel=0.1)


def test_windows_has_no_such_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "resource", None)
        assert importlib.reload(memory).peak_memory() is None
    importlib.reload(memory)
    assert memory.peak_memory() is not None
