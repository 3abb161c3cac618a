"""The score file: what is written is read again, and damage is an error."""

import json
import time
import timeit

import numpy as np
import pytest
import safetensors.numpy
from small_scores import GROUPS, N_TEST, N_TRAIN, RANK, TERMS, make_scores, one_line

from pinnfluence import Scores, load_scores
from pinnfluence.scores import tensor_file
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import FILE_NAME
from pinnfluence.scores.tensor_file import FORMAT_VERSION


@pytest.fixture
def scores() -> Scores:
    return make_scores()


def test_round_trip(scores, tmp_path):
    path = scores.save(tmp_path / "scores.safetensors")
    for given in (path, str(path)):
        found = load_scores(given)
        assert isinstance(found, Scores)
        np.testing.assert_array_equal(found.train_x, scores.train_x)
        np.testing.assert_array_equal(found.test_x, scores.test_x)
        np.testing.assert_array_equal(found.eigenvalues, scores.eigenvalues)
        for one, other in ((found.train, scores.train), (found.test, scores.test)):
            assert list(one) == list(other)
            for name in one:
                np.testing.assert_array_equal(one[name].values, other[name].values)
                np.testing.assert_array_equal(one[name].rows, other[name].rows)
        assert (found.terms, found.groups, found.recipe) == (TERMS, GROUPS, scores.recipe)
        assert found.metadata["format_version"] == FORMAT_VERSION
        for quantity in scores:
            np.testing.assert_array_equal(np.asarray(found[quantity]), np.asarray(scores[quantity]))


def test_a_folder_gets_the_usual_name(scores, tmp_path):
    assert scores.save(tmp_path / "new") == tmp_path / "new" / FILE_NAME
    assert list(load_scores(tmp_path / "new")) == list(scores)


def test_same_input_same_bytes(tmp_path):
    paths = [make_scores().save(tmp_path / f"{i}.safetensors") for i in range(3)]
    paths.append(load_scores(paths[0]).save(tmp_path / "again.safetensors"))
    assert len({path.read_bytes() for path in paths}) == 1
    assert len({make_scores().save_dense(tmp_path / f"{i}.npz").read_bytes() for i in "ab"}) == 1
    other = make_scores(1).save(tmp_path / "other.safetensors")
    assert other.read_bytes() != paths[0].read_bytes()


def test_file_is_small(scores, tmp_path):
    """Embeddings of the rows on which a term acts, not of all."""
    tensors = safetensors.numpy.load(scores.save(tmp_path).read_bytes())
    assert tensors["train/noslip/embedding"].shape == (4, RANK)
    assert tensors["test/noslip/embedding"].shape == (3, RANK)


def test_truncated_file(scores, tmp_path):
    path = scores.save(tmp_path)
    content = path.read_bytes()
    for size in (0, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        one_line(path, "is not a score file or is truncated; make it again")


def rewritten(path, metadata=None, drop: str = "", **tensors) -> None:
    """The score file with other content, its checksum included."""
    if metadata is None:
        metadata = metadata_of(path)
    content = safetensors.numpy.load(path.read_bytes())
    content = {name: t for name, t in content.items() if name != drop} | tensors
    tensor_file.write(path, content, metadata)


def metadata_of(path) -> dict:
    header = safetensors.safe_open(path, framework="numpy").metadata()
    found = json.loads(header["pinnfluence"])
    found.pop("sha256")
    return found


@pytest.mark.parametrize("version", [0, 3, "2", True, None])
def test_another_version(scores, tmp_path, version):
    path = scores.save(tmp_path)
    metadata = {**scores.metadata, "format_version": version, "test_quantities": list(scores.test)}
    save_plain(path, {"pinnfluence": json.dumps(metadata)})
    one_line(path, f"has format version {version}, expected 2; make it again")


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"pinnfluence": "no json"}, {"pinnfluence": "[1]"}],
    ids=["none", "other", "no json", "a list"],
)
def test_foreign_safetensors(scores, tmp_path, metadata):
    path = scores.save(tmp_path)
    save_plain(path, metadata)
    one_line(path, "expected|not a score file")


def save_plain(path, metadata) -> None:
    """The arrays of a score file with other metadata, and no checksum."""
    content = safetensors.numpy.load(path.read_bytes())
    path.write_bytes(safetensors.numpy.save(content, metadata=metadata))


def test_a_flipped_bit_is_an_error_and_never_a_number(scores, tmp_path):
    path = scores.save(tmp_path)
    good, refusals = path.read_bytes(), []
    rng = np.random.default_rng(0)
    positions = np.concatenate([rng.integers(0, len(good), 200), np.arange(0, 400)])
    for position in positions:
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = load_scores(path)
        except ValueError as error:
            refusals.append(str(error))
        else:  # a space of the header
            assert found.save(tmp_path / "again").read_bytes() == good
    assert len(refusals) > 0.95 * len(positions)
    assert all(str(path) in line and "\n" not in line for line in refusals)


def test_arrays_that_change_places_are_seen(scores, tmp_path):
    """Right bytes under wrong names, which no checksum of single arrays sees."""
    path = scores.save(tmp_path)
    good = path.read_bytes()
    path.write_bytes(
        good.replace(b"test/u/emb", b"test/#/emb")
        .replace(b"test/v/emb", b"test/u/emb")
        .replace(b"test/#/emb", b"test/v/emb")
    )
    one_line(path, "is damaged, its checksum is wrong; make it again")


def test_a_file_of_version_one_is_read_with_a_warning(scores, tmp_path):
    path = scores.save(tmp_path)
    save_plain(path, {"pinnfluence": json.dumps(metadata_of(path) | {"format_version": 1})})
    with pytest.warns(UserWarning, match="has no checksum, so that damage"):
        old = load_scores(path)
    path = old.save(tmp_path / "new")
    assert path.read_bytes() == scores.save(tmp_path / "same").read_bytes()


def test_a_large_file_opens_in_under_a_second(tmp_path):
    """70 MB; the checksum reads them all."""
    n, rank = 140_000, 128
    x = np.zeros((n, 2), np.float32)
    embedding = Embedding(np.random.default_rng(0).random((n, rank), np.float32), np.arange(n))
    metadata = make_scores().metadata | {"terms": [], "groups": {"pde": [], "bcs": [], "all": []}}
    large = Scores(x[:1], x, {}, {"u": embedding}, metadata, np.zeros(rank))
    path = large.save(tmp_path)
    assert path.stat().st_size > 70e6
    seconds = timeit.repeat(lambda: load_scores(path), timer=time.process_time, number=1, repeat=3)
    assert min(seconds) < 0.5, seconds


@pytest.mark.parametrize(
    "change",
    [
        {"drop": "train_x"},
        {"drop": "test/u/rows"},
        {"test/u/embedding": np.zeros((5, RANK), np.float32)},
        {"train/noslip/embedding": np.zeros((4, RANK + 1), np.float32)},
        {"train/noslip/rows": np.array([0, 1, 2, N_TRAIN], np.int32)},
        {"train/noslip/rows": np.array([0, 1, 2, -1], np.int32)},
        {"train/noslip/rows": np.array([0, 2, 1, 3], np.int32)},
        {"train/noslip/rows": np.array([0, 1, 2, 2], np.int32)},
        {"train/noslip/rows": np.array([0, 9, 1, 3], np.uint32)},
        {"train/noslip/rows": np.array([0.0, 1, 2, 3])},
        {"train/noslip/rows": np.array([[0, 1], [2, 3]])},
        {"train/noslip/embedding": np.zeros((4, RANK), int)},
        {"train_x": np.zeros(N_TRAIN, np.float32)},
        {"train_x": np.zeros((), np.float32)},
        {"test_x": np.full((N_TEST, 2), np.nan, np.float32)},
        {"eigenvalues": np.ones(RANK - 1)},
    ],
    ids=lambda change: str(next(iter(change.items())))[:40],
)
def test_content_that_does_not_fit(scores, tmp_path, change):
    path = scores.save(tmp_path)
    rewritten(path, **change)
    one_line(path, "make it again")


@pytest.mark.parametrize(
    "changes",
    [{"config": None}, {"checkpoint": [1]}, {"recipe": None}, {"inputs": 3}, {"terms": "pde"}],
)
def test_metadata_of_other_types(scores, tmp_path, changes):
    path = scores.save(tmp_path)
    rewritten(path, metadata_of(path) | changes)
    one_line(path, "is no (object|list); make it again")


def test_the_ending_of_the_other_score_file_is_refused(scores, tmp_path):
    with pytest.raises(ValueError, match=r"a file \.safetensors, found .*a\.npz"):
        scores.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a file \.npz, found .*a\.safetensors"):
        scores.save_dense(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", np.random.default_rng(0).bytes(5000), b"PK\x03\x04" + bytes(80)],
    ids=["empty", "text", "random", "zip without end"],
)
def test_foreign_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    one_line(path, "truncated; make it again")


@pytest.mark.parametrize("name", ["", "a.safetensors", "a.npz"])
def test_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"no score file at .*; make one with"):
        load_scores(tmp_path / name)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "notes.pt").write_text("no scores")
    with pytest.raises(ValueError, match=r"expected a score file .* found .*notes\.pt$"):
        load_scores(tmp_path / "notes.pt")


def test_the_bytes_of_a_file_are_those_of_safetensors(tmp_path):
    arrays: dict[str, np.ndarray] = {
        "b/x": np.arange(6, dtype=np.float32).reshape(3, 2),
        "ü": np.zeros((0, 3)),
        "half": np.ones(3, np.float16),
        "few": np.arange(5, dtype=np.int32),
        "many": np.arange(2),
        "a/x": np.ones((2, 1), np.float32),
    }
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, arrays, {"ß": 'quoted "\n'})
    with safetensors.safe_open(path, framework="numpy") as file:
        expected = safetensors.numpy.save(arrays, metadata=file.metadata())
    assert path.read_bytes() == expected
