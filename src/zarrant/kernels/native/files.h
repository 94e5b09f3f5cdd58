// One file replaced under its lock file (files.cpp), files that are read (reads.cpp), directories (directories.cpp).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels.h"

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

// Makes the parts of a new object from the old one of `size` bytes, under its lock. False where that is left to others.
class Change {
 public:
  virtual ~Change() = default;
  virtual bool make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) = 0;
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
  IfVersion if_version = IfVersion::any;
  FileVersion version{};
  Change* change = nullptr;           // makes the parts, of an object that is there
  std::int64_t most = -1;             // bytes of the object that is changed; -1: any
};

// Why a file was not put: `busy`, somebody has its lock, or had it when he was killed; `large`, it has more than `most` bytes.
enum class NotPut { otherwise, busy, large };

struct FilePutResult {
  FileVersion version;
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
  bool read(std::int64_t start, std::size_t size, Byte* into);
  bool read_into(const Strided& array);  // the file from its start, in C order
  void close();

  Found found = Found::other;
  FileVersion version{};

 private:
  int fd_ = -1;
  Trial* trial_;
};

bool can_read_files();

struct MadeDirectories {
  std::vector<std::string> made;  // the outermost first
  bool whole = false;             // the directory is there now
};

// A directory, and first those that are missing above it, as far as they lie below the first `root` bytes of the path.
MadeDirectories make_directories(std::string path, std::size_t root, Trial* trial);

struct DirectoryAbove {
  std::string path;
  std::int64_t device, inode;
};

// A directory and all above it; none where one is a link, or not there.
std::vector<DirectoryAbove> directories_above(std::string path);
bool can_make_directories();

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

// ── updates.cpp: one box of a chunk, or of a subchunk, that is stored ──────────────────────────────────────────────

// What the updates of chunks of one kind have in common. `entries` 0: the object is one chunk; else it is a shard of as many.
struct ChunkLayout {
  Program program, index_program;
  std::size_t row_bytes, stored_limit, index_bytes;
  std::int64_t entries, itemsize;
  std::vector<std::int64_t> shape, strides;  // of a row, in the dimensions of the array
  std::vector<Byte> fill;
  bool drop, check, check_index, at_start;
  double dead_limit;
  std::int64_t kept_bytes, first_record, max_multiple;
  std::vector<std::size_t> limits, bounds, index_limits, index_bounds;
};

class BoxUpdate : public Change {
 public:
  struct Placed {
    std::int64_t number;  // of the subchunk
    std::vector<std::int64_t> start, value, count;  // of the box: in the chunk, in the values
  };
  // Throws std::invalid_argument for a box that is not there.
  BoxUpdate(const ChunkLayout& layout, const Placed& placed, Strided values);
  bool make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) override;

 private:
  bool make_chunk(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts);
  bool make_shard(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts);
  bool read_index(Span stored, std::int64_t first, std::int64_t stop);
  bool merge_subchunk(std::int64_t offset, std::int64_t used, bool all, const ReadOld& read);
  bool merge(Span stored);
  bool is_fill() const;
  FilePart encode_row();
  FilePart encode_index();
  bool may_append(std::int64_t length, std::int64_t added) const;

  const ChunkLayout& layout_;
  const Placed& placed_;
  const Strided values_;
  bool whole_;  // every element of the chunk is given
  std::unique_ptr<Byte[]> row_, old_, encoded_, index_;
  std::unique_ptr<std::int64_t[]> table_;
};

}  // namespace zarrant
