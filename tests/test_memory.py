"""The peak of memory, on systems that tell it in other units or not at all."""

import sys

import pytest

from pinnfluence.runtime.memory import peak_bytes


def test_the_peak_grows_with_what_is_held() -> None:
    before = peak_bytes()
    held = bytearray(before + 200_000_000)
    assert 0.5 < peak_bytes() / (before + len(held)) < 2


def test_macos_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = peak_bytes()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_bytes() == pytest.approx(linux / 1024, rel=0.1)


def test_without_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has no such module."""
    peak = peak_bytes()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.1 * peak < peak_bytes() < 1.2 * peak
