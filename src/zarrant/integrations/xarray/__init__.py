"""xarray (extra `xarray`): the engine "zarrant" for `xarray.open_dataset`, and `dataset.zarrant.to_zarr`.

The engine needs no import: xarray finds it where Zarrant is installed. Importing this module gives every `xarray.Dataset` the
accessor `zarrant`.
"""

from zarrant.integrations.xarray.accessor import ZarrantAccessor
from zarrant.integrations.xarray.backend import ZarrantBackend

__all__ = ["ZarrantAccessor", "ZarrantBackend"]
