// One file replaced under its lock file (files.cpp), and files that are read (reads.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
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

struct FilePut {
  const char *path, *lock, *temp;
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
};

struct FilePutResult {
  FileVersion version;
  std::int64_t old_mtime;  // -1: nothing was there
};

// For tests: the calls that are made, and the number of one that fails, or before which the process ends.
struct Trial {
  std::vector<std::string> names;
  int fail_at = -1, kill_at = -1;
};

// Nothing where it was not done; then everything is as it was.
std::optional<FilePutResult> put_file(const FilePut& wanted, Trial* trial);
bool can_put_files();

enum class Found { other, absent, there };

// One file that is read.
class FileToRead {
 public:
  explicit FileToRead(Trial* trial) : trial_(trial) {}
  FileToRead(FileToRead&& other) noexcept;
  ~FileToRead();
  void open(const char* path, std::int64_t limit);  // -1: no limit of bytes
  bool read(std::int64_t start, std::size_t size, Byte* into);
  void close();

  Found found = Found::other;
  FileVersion version{};

 private:
  int fd_ = -1;
  Trial* trial_;
};

bool can_read_files();

}  // namespace zarrant
