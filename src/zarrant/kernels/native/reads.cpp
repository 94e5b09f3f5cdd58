// Reads files as `stores/local/objects.py` does with `stores/local/syscalls.py`: the same file calls, as one call of Python.
// What is not the usual case is left to that: links, what is no file, too large or of another version, any error.
#include <fcntl.h>
#include <sys/stat.h>
#if !defined(_WIN32)
#include <unistd.h>
#endif

#include <cerrno>
#include <cstring>
#include <utility>

#include "files.h"

#if defined(O_NOFOLLOW) && defined(O_CLOEXEC) && defined(O_NONBLOCK)

namespace zarrant {
namespace {

// False for a time that 64 bits of nanoseconds cannot say (ext4 knows such): Python can.
bool mtime_of(const struct stat& state, std::int64_t& nanoseconds) {
#ifdef __APPLE__
  const timespec& time = state.st_mtimespec;
#else
  const timespec& time = state.st_mtim;
#endif
  return !__builtin_mul_overflow(std::int64_t{time.tv_sec}, std::int64_t{1'000'000'000}, &nanoseconds) &&
         !__builtin_add_overflow(nanoseconds, std::int64_t{time.tv_nsec}, &nanoseconds);
}

}  // namespace

std::pair<int, const char*> LastDirectory::enter(const char* path) {
  const char* end = std::strrchr(path, '/');
  const std::pair<int, const char*> whole{AT_FDCWD, path};
  if (!end) return whole;
  if (path_.compare(0, std::string::npos, path, static_cast<std::size_t>(end - path)) != 0) {
    close();
    path_.assign(path, static_cast<std::size_t>(end - path));
    return whole;
  }
#ifdef O_PATH
  if (!asked_) fd_ = ::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
#endif
  asked_ = true;
  return fd_ < 0 ? whole : std::pair<int, const char*>{fd_, end + 1};
}

void LastDirectory::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  asked_ = false;
}

FileToRead::~FileToRead() { close(); }

FileToRead::FileToRead(FileToRead&& other) noexcept : found(other.found), version(other.version), fd_(other.fd_), trial_(other.trial_) {
  other.fd_ = -1;
}

void FileToRead::open(const char* path, std::int64_t limit, LastDirectory* directory) {
  int fd = -1;
  const auto [at, name] = directory ? directory->enter(path) : std::pair<int, const char*>{AT_FDCWD, path};
  if (may(trial_, "open")) fd = ::openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  else errno = EIO;
  if (fd < 0) {
    found = errno == ENOENT || errno == ENOTDIR ? Found::absent : Found::other;
    return;
  }
  fd_ = fd;
  struct stat state;
  const bool known = may(trial_, "fstat") && fstat(fd, &state) == 0 && take(state);
  const bool too_large = known && limit >= 0 && state.st_size > limit;  // safety: native object size
  if (!known || too_large) {
    close();
    return;
  }
  found = Found::there;
}

void FileToRead::look(const char* path) {
  struct stat state;
  const bool there = may(trial_, "stat") && fstatat(AT_FDCWD, path, &state, AT_SYMLINK_NOFOLLOW) == 0;
  found = there && take(state) ? Found::there : Found::other;
}

bool FileToRead::take(const struct stat& state) {
  std::int64_t mtime = 0;
  if (!S_ISREG(state.st_mode) || !mtime_of(state, mtime)) return false;
  version = {static_cast<std::int64_t>(state.st_dev), static_cast<std::int64_t>(state.st_ino), mtime,
             static_cast<std::int64_t>(state.st_size)};
  return true;
}

bool FileToRead::read(std::int64_t start, std::size_t size, Byte* into) {
  while (size > 0) {
    if (!may(trial_, "read")) return false;
    const ssize_t count = pread(fd_, into, size, static_cast<off_t>(start));
    if (count <= 0) return false;
    into += count;
    start += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

bool FileToRead::read_into(const Strided& array) {
  const auto piece = piece_memory(array, version[3]);
  std::int64_t start = 0;
  const bool done = piece && each_piece(array, [&](Byte* first, Loop* loops, int axes, std::int64_t bytes) {
    if (!read(start, static_cast<std::size_t>(bytes), piece.get())) return false;
    start += bytes;
    for (int axis = 0; axis < axes; ++axis) std::swap(loops[axis].src, loops[axis].dst);
    copy_strided(piece.get(), first, array.itemsize, loops, axes, Lines::kStreamed);
    return true;
  });
  stream_fence();
  return done;
}

void FileToRead::close() {
  if (fd_ < 0) return;
  may(trial_, "close");
  ::close(fd_);
  fd_ = -1;
}

bool can_read_files() { return true; }

}  // namespace zarrant

#else

namespace zarrant {
std::pair<int, const char*> LastDirectory::enter(const char* path) { return {-1, path}; }
void LastDirectory::close() {}
FileToRead::~FileToRead() {}
FileToRead::FileToRead(FileToRead&&) noexcept {}
void FileToRead::open(const char*, std::int64_t, LastDirectory*) {}
bool FileToRead::read(std::int64_t, std::size_t, Byte*) { return false; }
bool FileToRead::read_into(const Strided&) { return false; }
void FileToRead::look(const char*) {}
void FileToRead::close() {}
bool can_read_files() { return false; }
}  // namespace zarrant

#endif
