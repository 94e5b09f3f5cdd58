"""The test kit: suites that you run on your own store, codec, data type or chunk grid, and files that fail on purpose.

A suite is a class of tests; a subclass of it with one fixture tests what is yours:

    from zarrant.testkit import StoreSuite

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

`StoreSuite` and `AsyncStoreSuite` test what `zarrant.storage` promises; `ArrayToArraySuite`, `ArrayToBytesSuite` and
`BytesToBytesSuite` what a codec promises, `DataTypeSuite` and `ChunkGridSuite` a data type and a chunk grid. `FaultySyscalls`
(file calls that fail when a test says so) and `SimulatedDisk` (a disk in memory, to be cut off from power) are what our own
store on files is tested with; `CoroutineStore` is a store in memory for asynchronous programs. The suites need pytest to run,
not to be imported.
"""

import sys

if (_pytest := sys.modules.get("pytest")) is not None:
    _pytest.register_assert_rewrite(
        f"{__name__}.store_suite", f"{__name__}.async_store_suite"
    )  # a plain `assert` in a suite then tells its values

from zarrant.testkit.async_store_suite import AsyncStoreSuite, blocking
from zarrant.testkit.cas_store import AsyncCasStore, CasStore
from zarrant.testkit.checks import check, check_equal, content, needs, raises, together
from zarrant.testkit.chunk_grid_suite import ChunkGridSuite
from zarrant.testkit.codec_suite import ArrayToArraySuite, ArrayToBytesSuite, BytesToBytesSuite
from zarrant.testkit.coroutines import CoroutineStore
from zarrant.testkit.data_type_suite import DataTypeSuite
from zarrant.testkit.faulty_files import FaultySyscalls
from zarrant.testkit.simulated_disk import SimulatedDisk, SimulatedSyscalls
from zarrant.testkit.store_suite import BAD_KEYS, BAD_PREFIXES, StoreSuite

__all__ = [
    "BAD_KEYS",
    "BAD_PREFIXES",
    "ArrayToArraySuite",
    "ArrayToBytesSuite",
    "AsyncCasStore",
    "AsyncStoreSuite",
    "BytesToBytesSuite",
    "CasStore",
    "ChunkGridSuite",
    "CoroutineStore",
    "DataTypeSuite",
    "FaultySyscalls",
    "SimulatedDisk",
    "SimulatedSyscalls",
    "StoreSuite",
    "blocking",
    "check",
    "check_equal",
    "content",
    "needs",
    "raises",
    "together",
]
