"""What a store is: the protocols of its methods, the value that says which of them it has, and the base of wrappers."""

from zarrant.storage.capabilities import NOTHING as NOTHING
from zarrant.storage.capabilities import Calls as Calls
from zarrant.storage.capabilities import Capabilities as Capabilities
from zarrant.storage.capabilities import access_of as access_of
from zarrant.storage.capabilities import as_store as as_store
from zarrant.storage.capabilities import capabilities as capabilities
from zarrant.storage.capabilities import guard_of as guard_of
from zarrant.storage.capabilities import is_local as is_local
from zarrant.storage.capabilities import url_of as url_of
from zarrant.storage.protocols import (
    ANY as ANY,
)  # fmt: skip
from zarrant.storage.protocols import (
    AsyncErase as AsyncErase,
)
from zarrant.storage.protocols import (
    AsyncEraseIf as AsyncEraseIf,
)
from zarrant.storage.protocols import (
    AsyncGet as AsyncGet,
)
from zarrant.storage.protocols import (
    AsyncGetWithin as AsyncGetWithin,
)
from zarrant.storage.protocols import (
    AsyncList as AsyncList,
)
from zarrant.storage.protocols import (
    AsyncLock as AsyncLock,
)
from zarrant.storage.protocols import (
    AsyncPut as AsyncPut,
)
from zarrant.storage.protocols import (
    AsyncPutIf as AsyncPutIf,
)
from zarrant.storage.protocols import (
    AsyncReadableWritable as AsyncReadableWritable,
)
from zarrant.storage.protocols import (
    Blob as Blob,
)
from zarrant.storage.protocols import (
    BlockingStore as BlockingStore,
)
from zarrant.storage.protocols import (
    Buffer as Buffer,
)
from zarrant.storage.protocols import (
    ByteRange as ByteRange,
)
from zarrant.storage.protocols import (
    CheckUnlocked as CheckUnlocked,
)
from zarrant.storage.protocols import (
    Coalesce as Coalesce,
)
from zarrant.storage.protocols import (
    Conditional as Conditional,
)
from zarrant.storage.protocols import (
    Erase as Erase,
)
from zarrant.storage.protocols import (
    EraseIf as EraseIf,
)
from zarrant.storage.protocols import (
    EraseLink as EraseLink,
)
from zarrant.storage.protocols import (
    FileDecoder as FileDecoder,
)
from zarrant.storage.protocols import (
    Get as Get,
)
from zarrant.storage.protocols import (
    GetAll as GetAll,
)
from zarrant.storage.protocols import (
    GetDecoded as GetDecoded,
)
from zarrant.storage.protocols import (
    GetInto as GetInto,
)
from zarrant.storage.protocols import (
    GetWithin as GetWithin,
)
from zarrant.storage.protocols import (
    Hole as Hole,
)
from zarrant.storage.protocols import (
    List as List,
)
from zarrant.storage.protocols import (
    ListStored as ListStored,
)
from zarrant.storage.protocols import (
    Lock as Lock,
)
from zarrant.storage.protocols import (
    LockCheck as LockCheck,
)
from zarrant.storage.protocols import (
    LockOwner as LockOwner,
)
from zarrant.storage.protocols import (
    OnlyWhile as OnlyWhile,
)
from zarrant.storage.protocols import (
    Part as Part,
)
from zarrant.storage.protocols import (
    Put as Put,
)
from zarrant.storage.protocols import (
    PutAll as PutAll,
)
from zarrant.storage.protocols import (
    PutIf as PutIf,
)
from zarrant.storage.protocols import (
    Readable as Readable,
)
from zarrant.storage.protocols import (
    ReadableWritable as ReadableWritable,
)
from zarrant.storage.protocols import (
    ShareWork as ShareWork,
)
from zarrant.storage.protocols import (
    Splice as Splice,
)
from zarrant.storage.protocols import (
    Store as Store,
)
from zarrant.storage.protocols import (
    Sync as Sync,
)
from zarrant.storage.protocols import (
    Synchronizer as Synchronizer,
)
from zarrant.storage.protocols import (
    Version as Version,
)
from zarrant.storage.protocols import (
    Versions as Versions,
)
from zarrant.storage.protocols import (
    WithOptions as WithOptions,
)
from zarrant.storage.protocols import (
    Writable as Writable,
)
from zarrant.storage.protocols import (
    WriteBatch as WriteBatch,
)
from zarrant.storage.protocols import (
    expect_version as expect_version,
)
from zarrant.storage.protocols import (
    filled as filled,
)
from zarrant.storage.protocols import (
    is_lasting as is_lasting,
)
from zarrant.storage.protocols import (
    is_unique as is_unique,
)
