// One file replaced under its lock file (files.cpp), files that are read (reads.cpp), directories (directories.cpp).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dead_bytes.h"
#include "kernels.h"

struct stat;

namespace zarrant {

using FileVersion = std::array<std::int64_t, 4>;  // device, inode, mtime in nanoseconds, size

enum class IfVersion { any, absent, known };

// Bytes; or `size` bytes of an array with strides, in C order; or (without `data`) `size` bytes of the old object from `start` on, or
// none (-1): a hole.
struct FilePart {
  const Byte* data;
  std::size_t size;
  std::int64_t start = 0;
  std::optional<Strided> array = std::nullopt;

  bool is_copied() const { return !data && start >= 0; }
};

// Reads so many bytes of the old object from a place on.
using ReadOld = std::function<bool(std::int64_t, std::size_t, Byte*)>;

// What becomes of an object that is changed: parts of a new one; nothing, it is not stored any longer; or it is left to others.
enum class Made { parts, nothing, otherwise };

// Makes the parts of a new object from the old one of `size` bytes (-1: there is none), under its lock.
class Change {
 public:
  virtual ~Change() = default;
  virtual Made make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) = 0;
};

struct FilePut {
  const char *path, *lock, *temp;     // below a directory
  std::vector<FilePart> parts;
  std::int64_t device;                // on which the file must lie
  std::uint32_t share;                // permissions that the lock file gets
  bool must_replace;                  // only where there is an object already
  std::int64_t held = 0;              // the inode of the lock file, where the caller has that lock
  const char* condition = nullptr;    // a file that must have a version,
  const char* condition_lock = nullptr;  // and no lock file
  FileVersion condition_version{};
  bool any_condition_version = false;  // it must be there, of any version
  IfVersion if_version = IfVersion::any;
  FileVersion version{};
  Change* change = nullptr;           // makes the parts
  std::int64_t most = -1;             // bytes of the object that is changed; -1: any
  bool may_be_large = false;          // it is likely to have more: that is looked for before the lock is taken, too
  bool alone = false;                 // only where there is nothing else in the directory,
  std::vector<const char*> absent;    // and nothing of these names, which a scan may miss while others replace them
};

// Why a file was not put: `busy`, somebody has its lock, or had it when he was killed; `large`, it has more than `most` bytes.
enum class NotPut { otherwise, busy, large };

struct FilePutResult {
  std::optional<FileVersion> version;  // none: nothing is stored now
  std::int64_t old_mtime;  // -1: nothing was there
};

// For tests: the calls that are made, and the number of one that fails, or before which the process ends.
struct Trial {
  std::vector<std::string> names;
  int fail_at = -1, kill_at = -1;
};

// Whether a call may be made; it is noted.
inline bool may(Trial* trial, const char* name) {
  if (!trial) return true;
  const int number = static_cast<int>(trial->names.size());
  trial->names.emplace_back(name);
  return number != trial->fail_at;
}

// A file of a directory. Nothing where it was not done; then everything is as it was.
std::optional<FilePutResult> put_file(const char* directory, const FilePut& wanted, Trial* trial, NotPut* why = nullptr);

// The same of many files of one directory, one after the other, each whether or not the others are done. One lock file serves them: it
// is renamed from one to the next, which costs 5 us less than to remove it and make another.
std::vector<std::optional<FilePutResult>> put_files(const char* directory, const std::vector<FilePut>& wanted, Trial* trial);
bool can_put_files();

enum class Found { other, absent, there };

// Opens the directory of files that are read one after the other: names below it are found in less time than paths.
class LastDirectory {
 public:
  LastDirectory() = default;
  LastDirectory(const LastDirectory&) = delete;
  LastDirectory& operator=(const LastDirectory&) = delete;
  ~LastDirectory() { close(); }
  // A descriptor, and the name of the path below it.
  std::pair<int, const char*> enter(const char* path);

 private:
  void close();

  std::string path_;
  int fd_ = -1;
  bool asked_ = false;
};

// One file that is read.
class FileToRead {
 public:
  explicit FileToRead(Trial* trial) : trial_(trial) {}
  FileToRead(FileToRead&& other) noexcept;
  ~FileToRead();
  void open(const char* path, std::int64_t limit, LastDirectory* directory = nullptr);  // -1: no limit of bytes
  void look(const char* path);  // at the name alone, without opening the file
  bool read(std::int64_t start, std::size_t size, Byte* into);
  bool read_into(const Strided& array);  // the file from its start, in C order
  void close();

  Found found = Found::other;
  FileVersion version{};

 private:
  bool take(const struct stat& state);

  int fd_ = -1;
  Trial* trial_;
};

bool can_read_files();

// Tasks that are done by as many threads as ask for some at once; each has rows of its own.
class SharedTasks {
 public:
  // Calls work(number, rows) of tasks that nobody else has begun, until there are none. `rows` is memory for the first thread. False,
  // or an exception: the task is not done.
  template <typename Work>
  void take(std::size_t count, const RowView& rows, const Work& work);

 private:
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::int64_t> threads_ = 0;
};

// Files, each one row of a batch: read, decoded, and scattered by as many threads as call work() at once. What is not the usual case
// is left to others: `found` is `other` then, and what lies in the boxes of that row in `out` is not defined.
class FilesToBoxes {
 public:
  // `rows` has memory for the first thread; `batch` and `out` as of decode_boxes. A file of more than `limit` bytes is not read.
  FilesToBoxes(Program program, std::vector<std::string> paths, std::int64_t limit, const RowView& rows, const RowBatch& batch,
               const Strided& out, bool check);

  // Takes files until none is left.
  void work();

  struct Outcome {
    Found found = Found::other;
    FileVersion version{};
  };
  const std::vector<Outcome>& outcomes() const { return outcomes_; }

 private:
  void deliver(std::size_t number, const RowView& row);

  const Program program_;
  const std::vector<std::string> paths_;
  const std::int64_t limit_;
  const RowView& rows_;
  const RowBatch& batch_;
  const Strided& out_;
  const bool check_;
  std::vector<std::int64_t> row_starts_;  // those of the boxes, with 0 for the number of the row
  std::vector<std::int64_t> first_;       // box of each row, and the end
  std::vector<Outcome> outcomes_;
  SharedTasks tasks_;
};

// Boxes of shards in files, of which the indexes are known: the subchunks that they touch, a few of them a task. The file of a task
// is opened for it, and must have the version of the index.
class ShardsToBoxes {
 public:
  struct Shard {
    std::string path;
    FileVersion version;
    std::vector<std::int64_t> start, count, value;  // see ShardBox
    ShardIndex index;
  };

  // `edge` and `grid` as of ShardBox, `limit` as of plan_box; `rows`, `out` and `fill` as of decode_boxes, whose rows are subchunks.
  ShardsToBoxes(Program program, std::vector<Shard> shards, std::vector<std::int64_t> edge, std::vector<std::int64_t> grid,
                std::int64_t limit, const RowView& rows, const Strided& out, const Byte* fill, bool check);

  void work();

  // Whether all that a box touches was done. Once no thread works any more.
  bool done(std::size_t shard) const { return !failed_[shard]; }

 private:
  struct Task {
    std::size_t shard;
    std::int64_t first, end;  // of the subchunks that the box touches
  };
  ShardBox box_of(const Shard& shard) const;
  bool deliver(const Task& task, const RowView& rows);

  const Program program_;
  const std::vector<Shard> shards_;
  const std::vector<std::int64_t> edge_, grid_, ones_;
  const std::int64_t limit_;
  const RowView& rows_;
  const Strided& out_;
  const Byte* fill_;
  const bool check_;
  std::vector<Task> tasks_to_do_;
  std::unique_ptr<std::atomic<bool>[]> failed_;
  SharedTasks tasks_;
};

// Boxes of objects of which the pieces (the chunk, or its subchunks) are at hand as they were decoded from one version of the file. They
// are copied where the file still has that version; what has another one, or is not there, is left to others.
class KeptToBoxes {
 public:
  struct Box {
    std::vector<std::int64_t> start, count, value;  // in the object; the place in `out`
    std::vector<const Byte*> pieces;                // all that it touches, in C order; null where there is none: fill
  };
  struct Object {
    std::string path;
    FileVersion version;
    std::vector<Box> boxes;
  };

  // Pieces of the shape `edge`, in C order. Throws std::invalid_argument for a box that touches other pieces, or leaves `out`.
  // `by_name`: files need not be opened to know their versions.
  KeptToBoxes(std::vector<Object> objects, std::vector<std::int64_t> edge, const Strided& out, const Byte* fill, bool by_name);

  void work();

  // Whether the boxes of an object were copied. Once no thread works any more.
  bool done(std::size_t object) const { return done_[object]; }

 private:
  bool is_current(const Object& object) const;
  void copy(const Box& box) const;
  void copy_piece(const Box& box, const std::int64_t* place, const Byte* piece) const;

  const std::vector<Object> objects_;
  const std::vector<std::int64_t> edge_;
  std::vector<std::int64_t> strides_;  // of a piece, in bytes
  const Strided& out_;
  const Byte* fill_;
  const bool by_name_;
  Lines lines_ = Lines::kCached;
  std::unique_ptr<bool[]> done_;
  std::atomic<std::size_t> next_ = 0;
};

struct EnteredDirectory {
  std::vector<std::string> made;  // the outermost first
  bool entered = false;           // it is there now, and no link
  std::uint32_t mode = 0;
  std::int64_t device = 0;
};

// A directory, from the first `known` bytes of its path on, which may be entered: each one below is looked at, and made where it is
// missing. Where something is to be made, the file `condition` must be there. Not entered where anything is not as usual, as a link.
EnteredDirectory enter_directory(const std::string& path, std::size_t known, const char* condition, Trial* trial);

struct DirectoryAbove {
  std::string path;
  std::int64_t device, inode;
};

// A directory and all above it; none where one is a link, or not there.
std::vector<DirectoryAbove> directories_above(std::string path);
bool can_enter_directories();

// Bytes of an array that are gathered and written, or read and scattered, at a time: half of a second cache of 512 KiB.
constexpr std::int64_t kPieceBytes = 256 << 10;

// Memory for the largest piece of an array of `size` bytes; null where there is none.
inline std::unique_ptr<Byte[]> piece_memory(const Strided& array, std::int64_t size) {
  const std::int64_t most = std::max(array.itemsize, std::min(size, kPieceBytes));
  return std::unique_ptr<Byte[]>(new (std::nothrow) Byte[static_cast<std::size_t>(most)]);
}

// Cuts an array in C order into pieces: work(first element, loops from the array to bytes back to back, axes, bytes) of each, as long
// as that is true.
template <typename Work>
bool each_piece(const Strided& array, const Work& work) {
  int axis = array.axes - 1;
  std::int64_t size = array.itemsize;  // bytes of one step along the axis
  for (; axis > 0 && size * array.shape[axis] <= kPieceBytes; --axis) size *= array.shape[axis];
  const std::int64_t length = array.shape[axis], most = std::max<std::int64_t>(1, kPieceBytes / size);
  std::array<std::ptrdiff_t, kMaxAxes> index{};
  for (int at = axis; at >= 0;) {
    Byte* first = array.data;
    for (int outer = 0; outer < axis; ++outer) first += index[outer] * array.strides[outer];
    for (std::int64_t done = 0; done < length; done += most) {
      std::array<Loop, kMaxAxes> loops;
      std::int64_t step = array.itemsize;
      for (int inner = array.axes - 1; inner >= axis; --inner) {
        loops[inner - axis] = {inner == axis ? std::min(most, length - done) : array.shape[inner], array.strides[inner], step};
        step *= loops[inner - axis].count;
      }
      if (!work(first + done * array.strides[axis], loops.data(), array.axes - axis, step)) return false;
    }
    for (at = axis - 1; at >= 0 && ++index[at] == array.shape[at]; --at) index[at] = 0;
  }
  return true;
}

// ── updates.cpp: a box of a chunk, or of subchunks of a shard ──────────────────────────────────────────────────

// What the updates of chunks of one kind have in common. `entries` 0: the object is one chunk; else it is a shard of as many.
struct ChunkLayout {
  Program program, index_program;
  std::size_t row_bytes, stored_limit, index_bytes;
  std::int64_t entries, itemsize;
  std::vector<std::int64_t> shape, strides;  // of a row, in the dimensions of the array
  std::vector<Byte> fill;
  bool drop, check, check_index, at_start;
  DeadRules dead;
  std::vector<std::size_t> limits, bounds, index_limits, index_bounds;
};

// Bytes of an old object, some of which are in memory.
class OldObject {
 public:
  explicit OldObject(const ReadOld& read) : read_(read) {}
  // Has some of them in memory from now on.
  bool load(std::int64_t start, std::int64_t size);
  // Any of them, until the next call; null where they cannot be read.
  const Byte* bytes(std::int64_t start, std::int64_t size);
  // Those that stay, as a part.
  void add_part(std::int64_t start, std::int64_t stop, std::vector<FilePart>& parts) const;

 private:
  bool is_loaded(std::int64_t start, std::int64_t size) const { return start >= start_ && start + size <= stop_; }

  const ReadOld& read_;
  std::int64_t start_ = 0, stop_ = 0;  // in memory
  std::unique_ptr<Byte[]> memory_, other_;
};

// An array with one axis more, the first: so many times the same.
class Repeated {
 public:
  template <typename Numbers>
  Repeated(std::size_t times, Byte* data, std::int64_t itemsize, int axes, Numbers shape, Numbers strides)
      : shape_(shape, shape + axes), strides_(strides, strides + axes), array_{data, axes + 1, itemsize, nullptr, nullptr} {
    shape_.insert(shape_.begin(), static_cast<std::ptrdiff_t>(times));
    strides_.insert(strides_.begin(), 0);
    array_.shape = shape_.data();
    array_.strides = strides_.data();
  }
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;

  int axes() const { return array_.axes - 1; }
  std::ptrdiff_t shape(std::size_t axis) const { return shape_[axis + 1]; }
  std::ptrdiff_t stride(std::size_t axis) const { return strides_[axis + 1]; }
  const Strided& array() const { return array_; }
  Strided at(Byte* data) const {
    Strided there = array_;
    there.data = data;
    return there;
  }

 private:
  std::vector<std::ptrdiff_t> shape_, strides_;
  Strided array_;
};

class BoxUpdate : public Change {
 public:
  // The part of the box in one chunk, or in one subchunk; or, as its row of a batch, whatever else is laid over it.
  struct Placed {
    std::int64_t number;  // of the subchunk
    std::vector<std::int64_t> start, value, count;  // in the chunk, in the values
    std::optional<RowBatch> row = std::nullopt;
    bool whole = true;  // every element of the chunk is given
  };
  // The rows of a batch, with the numbers of their subchunks. Throws std::invalid_argument for boxes that are of none.
  static std::vector<Placed> rows_of(const std::vector<std::int64_t>& numbers, const RowBatch& batch, int axes);
  // Throws std::invalid_argument for boxes that are not there, or not of different subchunks.
  BoxUpdate(const ChunkLayout& layout, std::vector<Placed> placed, const Strided& values);
  Made make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) override;

 private:
  Made make_chunk(std::int64_t size, std::vector<FilePart>& parts);
  Made make_new_shard(std::vector<FilePart>& parts);
  Made make_shard(std::int64_t size, std::vector<FilePart>& parts);
  Made add_all(std::int64_t at, Extent old, std::vector<FilePart>& parts);
  void add_body(Extent old, std::vector<FilePart>& parts) const;
  bool read_index(std::int64_t size, Extent data);
  std::optional<DeadRecord> read_dead(const std::vector<Extent>& live, Extent& data);
  bool encode_subchunks();
  bool merge_subchunk(const Placed& placed);
  bool merge(const Placed& placed, Span stored);
  void lay(const Placed& placed);
  bool is_fill() const;
  std::size_t encode_row(std::size_t at);
  FilePart encode_index();
  std::vector<Extent> live() const;
  std::vector<Extent> dying() const;
  bool is_any_stored() const;

  const ChunkLayout& layout_;
  std::vector<Placed> placed_;
  const Repeated values_, seen_;  // `seen_`: the row of each, which has no memory yet
  std::size_t encoded_bound_ = 0, added_ = 0;  // of a new subchunk at most, of all of them
  std::unique_ptr<Byte[]> row_, encoded_, index_;
  std::unique_ptr<std::int64_t[]> table_;
  std::unique_ptr<OldObject> old_;
  std::optional<ShardLayout> dead_;  // where there is a record
};

}  // namespace zarrant
