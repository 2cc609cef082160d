"""``ds.lsbc``: every method is one call of a function that stands elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from xlsbc.emulator import Emulator
    from xlsbc.inference.engine import Precision
    from xlsbc.inference.estimate import Estimate
    from xlsbc.training.batches import Batches

__all__ = ["LsbcAccessor"]


@xr.register_dataset_accessor("lsbc")
class LsbcAccessor:
    """Land-surface boundary conditions on any Dataset.

    A cube is checked (`check_cube`), brought to its canonical form (`conform`), trained on
    (`batches`, `xlsbc.fit`) and predicted from (`predict`); what a prediction will cost can be
    told before (`plan`); it, or any product of its kind, is held to physics (`check`), brought to
    it (`reconcile`), held to a reference (`evaluate`) and written (`write`).
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def __repr__(self) -> str:
        from xlsbc.cube.schema import describe

        return describe(self._ds)

    def _repr_html_(self) -> str:
        from xlsbc.cube.schema import describe_html

        return describe_html(self._ds)

    def roles(self, mapping: Mapping[str, str] | None = None) -> dict[str, str]:
        """See `xlsbc.cube.schema.roles`."""
        from xlsbc.cube.schema import roles

        return roles(self._ds, mapping)

    def check_cube(self, mapping: Mapping[str, str] | None = None) -> list[str]:
        """See `xlsbc.cube.schema.check_cube`."""
        from xlsbc.cube.schema import check_cube

        return check_cube(self._ds, mapping)

    def conform(self, mapping: Mapping[str, str] | None = None) -> xr.Dataset:
        """See `xlsbc.cube.schema.conform`."""
        from xlsbc.cube.schema import conform

        return conform(self._ds, mapping)

    def predict(
        self,
        emulator: Emulator | str,
        *,
        given: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        period: Iterable[int] | None = None,
        precision: Precision = "auto",
        block: int = 1,
        compile: bool = False,
    ) -> xr.Dataset:
        """See `xlsbc.inference.predict.predict`.

        Examples
        --------
        >>> import xlsbc
        >>> cube = xlsbc.open_catalog()["synthetic"].read()  # doctest: +SKIP
        >>> cube.lsbc.predict("lsbc-run/emulator").lai  # doctest: +SKIP
        """
        from xlsbc.inference.predict import predict

        return predict(
            self._ds,
            emulator,
            given=given,
            targets=targets,
            period=period,
            precision=precision,
            block=block,
            compile=compile,
        )

    def batches(self, **options: Any) -> Batches:
        """See `xlsbc.training.prepare.batches`.

        Examples
        --------
        >>> import xlsbc
        >>> cube = xlsbc.open_catalog()["synthetic"].read()  # doctest: +SKIP
        >>> batch = next(iter(cube.lsbc.batches(crop=96, batch_size=8)))  # doctest: +SKIP
        >>> batch.inputs.static.shape  # doctest: +SKIP
        """
        from xlsbc.training.prepare import batches

        return batches(self._ds, **options)

    def plan(self, *, probe: bool = True) -> Estimate:
        """See `xlsbc.inference.estimate.plan`."""
        from xlsbc.inference.estimate import plan

        return plan(self._ds, probe=probe)

    def check(self, **options: Any) -> xr.Dataset:
        """See `xlsbc.physics.consistency.check`."""
        from xlsbc.physics.consistency import check

        return check(self._ds, **options)

    def reconcile(self) -> xr.Dataset:
        """See `xlsbc.physics.reconcile.reconcile`."""
        from xlsbc.physics.reconcile import reconcile

        return reconcile(self._ds)

    def evaluate(self, reference: xr.Dataset, **options: Any) -> xr.Dataset:
        """See `xlsbc.assess.evaluate.evaluate`."""
        from xlsbc.assess.evaluate import evaluate

        return evaluate(self._ds, reference, **options)

    def write(
        self,
        url: str,
        *,
        resume: bool = True,
        overwrite: bool = False,
        packed: bool = True,
        progress: bool = True,
    ) -> str:
        """See `xlsbc.cube.store.writer.write`."""
        from xlsbc.cube.store.writer import write

        return write(
            self._ds, url, resume=resume, overwrite=overwrite, packed=packed, progress=progress
        )

    def publish(self, url: str, *, catalog: str, name: str | None = None, **options: Any) -> str:
        """See `xlsbc.deliver.publish.publish`."""
        from xlsbc.deliver.publish import publish

        return publish(self._ds, url, catalog=catalog, name=name, **options)
