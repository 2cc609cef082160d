from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from xlsbc.cube.store.writer import verify, write
from xlsbc.errors import CubeError, StoreError

icechunk = pytest.importorskip("icechunk")


@pytest.fixture
def repository() -> Any:
    return icechunk.Repository.create(icechunk.in_memory_storage())


def product(fails: int | None = None, computed: list[int] | None = None) -> xr.Dataset:
    """Three years of a field of four tiles each, whose values are their numbers."""

    def block(values: np.ndarray, block_info: Any = None) -> np.ndarray:
        year = block_info[0]["chunk-location"][0] if block_info else 0
        if year == fails:
            raise RuntimeError(f"year {year} failed")
        if computed is not None and block_info:
            computed.append(year)
        return values

    numbers = np.arange(3 * 6 * 8, dtype="float32").reshape(3, 6, 8)
    fields = da.from_array(numbers, chunks=(1, 3, 4)).map_blocks(block, name="field")
    coords = {"year": [2001, 2002, 2003]}
    return xr.Dataset({"a": (("year", "y", "x"), fields)}, coords, {"title": "numbers"})


def read(repository: Any) -> xr.Dataset:
    return xr.open_zarr(repository.readonly_session("main").store, consolidated=False)


def messages(repository: Any) -> list[str]:
    return [snapshot.message for snapshot in repository.ancestry(branch="main")][::-1]


def save(ds: xr.Dataset, place: Any, **options: Any) -> str:
    with dask.config.set(scheduler="synchronous"):
        return write(ds, place, progress=False, **options)


def test_every_year_is_a_commit_and_all_is_read_back(repository):
    save(product(), repository)
    xr.testing.assert_equal(read(repository).load(), product().compute())
    assert messages(repository)[1:] == [
        "xlsbc: metadata",
        *["xlsbc: 4 regions"] * 3,
        "xlsbc: complete",
    ]
    assert verify(repository, progress=False) == 12 + 1


def test_a_write_goes_on_after_the_last_year_that_is_whole(repository):
    with pytest.raises(RuntimeError, match="year 2 failed"):
        save(product(fails=2), repository)
    computed: list[int] = []
    save(product(computed=computed), repository)
    assert set(computed) == {2}
    xr.testing.assert_equal(read(repository).load(), product().compute())
    again: list[int] = []
    save(product(computed=again), repository)
    assert again == []


def test_another_plan_is_refused_and_on_purpose_replaces_what_history_keeps(repository):
    save(product(), repository)
    before = list(repository.ancestry(branch="main"))[0].id
    other = product().assign_attrs(title="others")
    with pytest.raises(CubeError, match="attribute title"):
        save(other, repository)
    save(other, repository, overwrite=True)
    assert read(repository).attrs["title"] == "others"
    old = xr.open_zarr(repository.readonly_session(snapshot_id=before).store, consolidated=False)
    assert old.attrs["title"] == "numbers"


def test_a_session_is_left_to_its_owner_to_commit(repository):
    session = repository.writable_session("main")
    save(product(), session)
    assert session.has_uncommitted_changes
    session.commit("mine")
    xr.testing.assert_equal(read(repository).load(), product().compute())
    assert len(messages(repository)) == 2


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_every_scheduler_writes_it_all(tmp_path, scheduler):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "a"))
    repository = icechunk.Repository.create(storage)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        write(product(), repository, progress=False)
    xr.testing.assert_equal(read(repository).load(), product().compute())
    assert verify(repository, progress=False) == 12 + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_of_a_cluster_write_forks_that_are_merged_year_by_year(tmp_path, caplog):
    from distributed import Client, LocalCluster

    storage = icechunk.local_filesystem_storage(str(tmp_path / "a"))
    repository = icechunk.Repository.create(storage)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster):
        with pytest.raises(RuntimeError, match="year 2 failed"):
            write(product(fails=2), repository, progress=False)
        assert messages(repository)[1:] == ["xlsbc: metadata", *["xlsbc: 4 regions"] * 2]
        write(product(), repository, progress=False)
        assert verify(repository, progress=False) == 12 + 1
    xr.testing.assert_equal(read(repository).load(), product().compute())
    assert messages(repository)[-2:] == ["xlsbc: 4 regions", "xlsbc: complete"]
    assert "tried again" not in caplog.text


def test_a_session_with_changes_cannot_be_written_by_other_processes(tmp_path):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "a"))
    session = icechunk.Repository.create(storage).writable_session("main")
    with (
        dask.config.set(scheduler="processes", num_workers=1),
        pytest.raises(StoreError, match="pass the repository"),
    ):
        write(product(), session, progress=False)


def test_a_url_names_a_repository_on_disk(tmp_path):
    for url in (f"icechunk+{tmp_path / 'a'}", f"icechunk+file://{tmp_path / 'b'}"):
        save(product(), url)
        save(product(), url)  # all is there
        place = url.removeprefix("icechunk+").removeprefix("file://")
        opened = icechunk.Repository.open(icechunk.local_filesystem_storage(place))
        xr.testing.assert_equal(read(opened).load(), product().compute())
        assert messages(opened)[-1] == "xlsbc: complete"


def test_a_url_names_a_repository_on_s3():
    import boto3

    from tests import servers

    with servers.s3():
        boto3.client("s3").create_bucket(Bucket="ice-of-a-url")
        url = "icechunk+s3://ice-of-a-url/somewhere"
        save(product(), url)
        assert verify(url, progress=False) == 12 + 1


def test_a_url_of_another_storage_is_refused():
    with pytest.raises(StoreError, match=r"expected icechunk\+s3://, .* found icechunk\+ftp://x"):
        save(product(), "icechunk+ftp://x")
