// Replaces one file as `stores/local/objects.py` does with `stores/local/syscalls.py`: the same file calls in the same order,
// as one call of Python. Whatever is not the usual case is left to that: everything done so far is undone, and nothing is said.
#include "files.h"

#ifdef __linux__

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string_view>

namespace zarrant {
namespace {

// Descriptors in use while other threads run: a forked child drops its copies, else it could keep a lock of its parent.
std::array<std::atomic<int>, 256> in_use;

// Threads that open or close a descriptor now. A fork waits for them, else the child would not know of the descriptor, or close
// one that is used again; and they wait for the fork.
std::atomic<int> changing;
std::atomic<bool> forking;

class Changing {
 public:
  Changing() {
    for (;;) {
      while (forking.load()) sched_yield();
      changing.fetch_add(1);
      if (!forking.load()) return;
      changing.fetch_sub(1);
    }
  }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;
  ~Changing() { changing.fetch_sub(1); }
};

void before_fork() {
  while (forking.exchange(true)) sched_yield();
  while (changing.load() != 0) sched_yield();
}

void after_fork() { forking.store(false); }

void drop_in_child() {
  for (std::atomic<int>& slot : in_use) {
    const int fd = slot.exchange(0) - 1;
    if (fd >= 0) close(fd);  // safety: native fork
  }
  changing.store(0);
  after_fork();
}

const bool prepared = pthread_atfork(before_fork, after_fork, drop_in_child) == 0;

class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close();
  }
  // Whether the file was opened; it is noted for a child that is forked from now on.
  bool open(int directory, const char* path, int flags, mode_t mode = 0) {
    const Changing now;
    fd_ = ::openat(directory, path, flags | O_CLOEXEC, mode);
    if (fd_ < 0) return false;
    for (std::atomic<int>& slot : in_use) {
      int free = 0;
      if (slot.compare_exchange_strong(free, fd_ + 1)) {
        slot_ = &slot;
        break;
      }
    }
    return true;
  }
  int close() {
    const Changing now;
    if (slot_) slot_->store(0);
    slot_ = nullptr;
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd);
  }
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
  std::atomic<int>* slot_ = nullptr;
};

std::int64_t nanoseconds(const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileVersion version_of(const struct stat& state) {
  return {static_cast<std::int64_t>(state.st_dev), static_cast<std::int64_t>(state.st_ino), nanoseconds(state.st_mtim),
          static_cast<std::int64_t>(state.st_size)};
}

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

// Each call by the name that it has in `Syscalls`. A test has one of them fail, or ends the process before it.
class Calls {
 public:
  explicit Calls(Trial* trial) : trial_(trial) {}

  // Whether a call may be made.
  bool may(const char* name) {
    if (!trial_) return true;
    const int number = static_cast<int>(trial_->names.size());
    trial_->names.emplace_back(name);
    if (number == trial_->kill_at) _exit(9);
    return number != trial_->fail_at;
  }

 private:
  Trial* trial_;
};

// The file calls that look at names below a directory.
class Directory {
 public:
  Directory(int descriptor, Calls calls) : at(descriptor), calls(calls) {}

  bool look(const char* path, struct stat& state) { return calls.may("stat") && state_of(path, state); }

  bool state_of(const char* path, struct stat& state) const { return fstatat(at, path, &state, AT_SYMLINK_NOFOLLOW) == 0; }

  const int at;
  Calls calls;
};

// A lock file that is locked.
class LockFile {
 public:
  explicit LockFile(Directory& directory) : directory_(directory) {}

  // The lock file is new, ours, and at its path. One that was there before is for the general way: who made it may be busy.
  bool take(const FilePut& wanted) {
    if (!may("open")) return false;
    if (!file_.open(directory_.at, wanted.lock, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CREAT | O_EXCL, 0666)) {
      was_there = errno == EEXIST;
      return false;
    }
    state_ = {};
    const bool known = may("fstat") && fstat(file_.get(), &state_) == 0;
    const bool usual = known && static_cast<std::int64_t>(state_.st_dev) == wanted.device && shared(wanted.share);
    struct flock request = {F_WRLCK, SEEK_SET, 0, 0, 0};
    const bool granted = usual && may("lock") && fcntl(file_.get(), F_OFD_SETLK, &request) == 0;  // safety: native lock
    if (!granted) {
      file_.close();  // without its lock the file may not be removed: another writer may have it by now
      return false;
    }
    struct stat there;
    const bool in_place = directory_.look(wanted.lock, there) && same_file(there, state_);  // safety: native inode
    if (in_place && there.st_size == 0 && there.st_nlink == 1) return true;
    unlock();
    return false;
  }

  // The lock of the caller is still at its path.
  bool adopt(const FilePut& wanted) {
    state_ = {};
    state_.st_dev = static_cast<dev_t>(wanted.device);
    state_.st_ino = static_cast<ino_t>(wanted.held);
    struct stat there;
    return directory_.look(wanted.lock, there) && same_file(there, state_);  // safety: native lock of the caller
  }

  // Ours is still at the path.
  bool is_at(const char* path) {
    struct stat there;
    return directory_.look(path, there) && same_file(there, state_);
  }

  // Make it the lock file of another object, where nobody has one: who waits at `from` finds nothing there, and makes a new one.
  // False where that was not done, and it is given back.
  bool move(const char* from, const char* to) {
    const bool mine = is_at(from);
    const bool renamed = mine && may("rename") && rename_to_new(from, to);  // safety: native lock of another
    const bool moved = renamed && is_at(to);  // safety: native moved lock
    if (moved) return true;
    give_back(renamed ? to : from);
    return false;
  }

  void give_back(const char* path) {
    const bool mine = is_at(path);
    if (mine && may("unlink")) unlinkat(directory_.at, path, 0);  // safety: native lock exit
    unlock();
  }

  bool is_taken() const { return file_.is_open(); }

  bool was_there = false;

 private:
  // Everybody may take the file who may write into its directory.
  bool shared(std::uint32_t share) {
    const mode_t missing = share & ~state_.st_mode;
    return !missing || (may("chmod") && fchmod(file_.get(), (state_.st_mode & 07777) | missing) == 0);
  }

  void unlock() {
    struct flock none = {F_UNLCK, SEEK_SET, 0, 0, 0};
    if (may("unlock")) fcntl(file_.get(), F_OFD_SETLK, &none);
    may("close");
    file_.close();
  }

  bool rename_to_new(const char* from, const char* to) {
    constexpr unsigned kNoReplace = 1;  // older C libraries have neither the name nor the function
    return syscall(SYS_renameat2, directory_.at, from, directory_.at, to, kNoReplace) == 0;
  }

  bool may(const char* name) { return directory_.calls.may(name); }

  Directory& directory_;
  Descriptor file_;
  struct stat state_{};
};

class Put {
 public:
  // `new_expected`: nothing is likely to be there. Then it is not looked for: a file without a name gets that of the object, which
  // fails where there is something (or the system does not do it). A fifth less work in the directory than with a temp file.
  Put(const FilePut& wanted, Directory& directory, LockFile& lock, bool new_expected)
      : wanted_(wanted), directory_(directory), lock_(lock), new_expected_(new_expected && takes_any_old()) {}

  // Under the lock.
  bool run() {
    bool stored = try_once();
    if (!stored && new_expected_) {
      mistaken = true;
      new_expected_ = false;
      stored = try_once();
    }
    if (base_.is_open()) close_base();
    return stored;
  }

  FileVersion version{};
  std::int64_t old_mtime = -1;
  bool mistaken = false;  // in what was expected
  bool empty = false;     // nothing is stored now
  NotPut why = NotPut::otherwise;

 private:
  bool try_once() {
    const bool stored = replace();
    if (!stored && temp_made_) remove_temp();
    if (temp_.is_open()) close_temp();
    return stored;
  }

  // Nothing is copied from the old object, and it may be of any version, or none.
  bool takes_any_old() const {
    return wanted_.if_version == IfVersion::any && !wanted_.must_replace && !wanted_.change &&
           std::none_of(wanted_.parts.begin(), wanted_.parts.end(), [](const FilePart& part) { return part.is_copied(); });
  }

  bool may(const char* name) { return directory_.calls.may(name); }

  bool look(const char* path, struct stat& state) { return directory_.look(path, state); }

  bool is_absent(const char* path) {
    struct stat state;
    return may("stat") && !directory_.state_of(path, state) && errno == ENOENT;
  }

  bool condition_holds() {
    if (!wanted_.condition) return true;
    struct stat state;
    if (wanted_.condition_lock && !is_absent(wanted_.condition_lock)) return false;  // safety: native metadata lock
    if (!look(wanted_.condition, state) || !S_ISREG(state.st_mode)) return false;
    return wanted_.any_condition_version || version_of(state) == wanted_.condition_version;  // safety: native metadata
  }

  // Nothing is in the directory but the lock file.
  bool is_alone() {
    for (const char* name : wanted_.absent)
      if (!is_absent(name)) return false;
    Descriptor listed;
    if (!may("scan") || !listed.open(directory_.at, ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK)) return false;
    alignas(std::int64_t) char entries[1024];
    constexpr std::size_t kLength = 16, kName = 19;  // where an entry has these: the system's form, which the C library hides
    for (;;) {
      const long size = syscall(SYS_getdents64, listed.get(), entries, sizeof entries);
      if (size <= 0) return size == 0;
      for (long at = 0; at < size;) {
        const std::string_view name(entries + at + kName);
        if (name != "." && name != ".." && name != wanted_.lock) return false;
        std::uint16_t length;
        std::memcpy(&length, entries + at + kLength, sizeof length);
        at += length;
      }
    }
  }

  // The object that is replaced, open where parts of it are copied.
  bool find_old() {
    bool copies = wanted_.change;
    for (const FilePart& part : wanted_.parts) copies = copies || part.is_copied();
    if (!copies) return look(wanted_.path, old_);
    if (!may("open")) return false;
    if (!base_.open(directory_.at, wanted_.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)) {
      if (errno == ENOENT && !wanted_.change) errno = EINVAL;  // there is nothing to copy from: the general way says so
      return false;
    }
    const bool known = may("fstat") && fstat(base_.get(), &old_) == 0;
    errno = EINVAL;
    return known;
  }

  void close_base() {
    may("close");
    base_.close();
  }

  // It is a file, and of the version asked for.
  bool look_at_old() {
    if (new_expected_) return true;
    replaces_ = find_old();
    if (!replaces_ && errno != ENOENT) return false;  // safety: native nothing there
    if (!replaces_) return wanted_.if_version != IfVersion::known && !wanted_.must_replace;  // safety: native must replace
    // A time that 64 bits of nanoseconds cannot say (ext4 knows such) is for the general way, whose integers have no end.
    constexpr std::int64_t kMaxSeconds = 9'000'000'000;
    if (old_.st_mtim.tv_sec > kMaxSeconds || old_.st_mtim.tv_sec < -kMaxSeconds) return false;
    old_mtime = nanoseconds(old_.st_mtim);
    if (!S_ISREG(old_.st_mode)) return false;
    if (wanted_.if_version == IfVersion::absent) return false;  // safety: native absent
    return wanted_.if_version == IfVersion::any || version_of(old_) == wanted_.version;  // safety: native version
  }

  bool read_old(std::int64_t start, std::size_t size, Byte* into) {
    while (size > 0) {
      if (!may("read")) return false;
      const ssize_t count = pread(base_.get(), into, size, start);
      if (count <= 0) return false;
      into += count, start += count, size -= static_cast<std::size_t>(count);
    }
    return true;
  }

  bool make_parts() {
    if (!wanted_.change) return true;
    if (wanted_.most >= 0 && replaces_ && old_.st_size > wanted_.most) {
      why = NotPut::large;
      return false;
    }
    const ReadOld read = [this](std::int64_t start, std::size_t size, Byte* into) { return read_old(start, size, into); };
    const Made made = wanted_.change->make(replaces_ ? old_.st_size : -1, read, made_);
    empty = made == Made::nothing;
    return made != Made::otherwise;
  }

  const std::vector<FilePart>& parts() const { return wanted_.change ? made_ : wanted_.parts; }

  bool replace() {
    errno = 0;
    if (!condition_holds()) return false;
    if (wanted_.alone && !is_alone()) return false;  // safety: native alone
    errno = 0;
    if (!look_at_old() || !make_parts()) return false;
    if (empty) return !replaces_ || erase();
    if (!may("open") || !open_temp() || !write() || !stamp()) return false;
    // First: network file systems tell here what they could not write.
    if (!new_expected_ && !close_temp()) return false;
    // The last look before something is published under the lock.
    if (!lock_.is_at(wanted_.lock) || !publish()) return false;
    temp_made_ = false;
    return true;
  }

  bool erase() {
    return lock_.is_at(wanted_.lock) && may("unlink") && unlinkat(directory_.at, wanted_.path, 0) == 0;
  }

  bool open_temp() {
    if (new_expected_) return temp_.open(directory_.at, ".", O_RDWR | O_TMPFILE, 0666);
    temp_made_ = temp_.open(directory_.at, wanted_.temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    return temp_made_;
  }

  bool close_temp() {
    const bool known = may("close");
    return temp_.close() == 0 && known;
  }

  bool publish() {
    if (!new_expected_) return may("rename") && renameat(directory_.at, wanted_.temp, directory_.at, wanted_.path) == 0;
    return may("link") && linkat(temp_.get(), "", directory_.at, wanted_.path, AT_EMPTY_PATH) == 0;  // safety: native new object
  }

  bool write() {
    off_t offset = 0;
    std::vector<iovec> run;
    for (const FilePart& part : parts()) {
      if (part.data && !part.array) {
        if (part.size) run.push_back({const_cast<Byte*>(part.data), part.size});
        continue;
      }
      if (!write_run(run, offset)) return false;
      run.clear();
      if (part.array) {
        if (!gather(*part.array, part.size, offset)) return false;
      } else if (part.is_copied()) {
        if (!copy(part, offset)) return false;
      } else if (__builtin_add_overflow(offset, part.size, &offset)) {
        return false;
      }
    }
    if (!write_run(run, offset)) return false;
    const bool ends_in_hole = !parts().empty() && !parts().back().data && !parts().back().is_copied();
    return !ends_in_hole || (may("truncate") && ftruncate(temp_.get(), offset) == 0);
  }

  bool copy(const FilePart& part, off_t& offset) {
    off_t from = part.start;
    std::size_t rest = part.size;
    if (from < 0 || from > old_.st_size || rest > static_cast<std::size_t>(old_.st_size - from)) return false;
    while (rest > 0) {
      if (!may("copy")) return false;
      const long copied = syscall(SYS_copy_file_range, base_.get(), &from, temp_.get(), &offset, rest, 0u);  // older C libraries lack it
      if (copied <= 0) return false;
      rest -= static_cast<std::size_t>(copied);
    }
    return true;
  }

  // Writes an array piece by piece: what was gathered is written while it is in the cache.
  bool gather(const Strided& array, std::size_t size, off_t& offset) {
    const auto piece = piece_memory(array, static_cast<std::int64_t>(size));
    return piece && each_piece(array, [&](const Byte* from, Loop* loops, int axes, std::int64_t bytes) {
      copy_strided(from, piece.get(), array.itemsize, loops, axes, Lines::kPrefetched);
      std::vector<iovec> run{{piece.get(), static_cast<std::size_t>(bytes)}};
      return write_run(run, offset);
    });
  }

  bool write_run(std::vector<iovec>& rest, off_t& offset) {
    std::size_t first = 0;
    while (first < rest.size()) {
      if (!may("write")) return false;
      const int count = static_cast<int>(std::min<std::size_t>(rest.size() - first, 1024));
      ssize_t written = pwritev(temp_.get(), rest.data() + first, count, offset);
      if (written <= 0) return false;
      offset += written;
      for (; first < rest.size() && written >= static_cast<ssize_t>(rest[first].iov_len); ++first)
        written -= static_cast<ssize_t>(rest[first].iov_len);
      if (written > 0) {
        rest[first].iov_base = static_cast<Byte*>(rest[first].iov_base) + written;
        rest[first].iov_len -= static_cast<std::size_t>(written);
      }
    }
    return true;
  }

  // A later mtime than that of the object that is replaced, and its permissions.
  bool stamp() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    std::int64_t at = nanoseconds(now);
    if (replaces_) at = std::max(at, old_mtime + 1);  // safety: native later than the old
    const timespec time{static_cast<time_t>(at / 1'000'000'000), static_cast<long>(at % 1'000'000'000)};
    const timespec both[2] = {time, time};
    struct stat state;
    if (at < 0 || !may("set_mtime") || futimens(temp_.get(), both) != 0) return false;
    if (!may("fstat") || fstat(temp_.get(), &state) != 0) return false;
    version = version_of(state);
    if (version[0] != wanted_.device) return false;
    if (!replaces_) return true;
    if (version[2] <= old_mtime) return false;
    mode_t mode = old_.st_mode & 0777;
    if (old_.st_uid != state.st_uid) mode |= state.st_mode & 0777;
    return mode == (state.st_mode & 0777) || (may("chmod") && fchmod(temp_.get(), mode) == 0);
  }

  // Where the lock was lost, the name may be in use by the next owner.
  void remove_temp() {
    struct stat mine{}, there;
    const bool open = temp_.is_open();
    if (open ? fstat(temp_.get(), &mine) == 0 : version[1] != 0) {
      if (!open) {
        mine.st_dev = static_cast<dev_t>(version[0]);
        mine.st_ino = static_cast<ino_t>(version[1]);
      }
      if (directory_.state_of(wanted_.temp, there) && same_file(there, mine)) unlinkat(directory_.at, wanted_.temp, 0);
    }
    if (open) temp_.close();
    temp_made_ = false;
  }

  const FilePut& wanted_;
  Directory& directory_;
  LockFile& lock_;
  std::vector<FilePart> made_;
  Descriptor temp_, base_;
  struct stat old_{};
  bool new_expected_, replaces_ = false, temp_made_ = false;
};

std::optional<FilePutResult> result_of(const Put& put, bool stored) {
  if (!stored) return std::nullopt;
  return FilePutResult{put.empty ? std::nullopt : std::optional(put.version), put.old_mtime};
}

}  // namespace

std::optional<FilePutResult> put_file(const char* path, const FilePut& wanted, Trial* trial, NotPut* why) {
  Descriptor opened;  // names below it are found in two thirds of the time that paths take
  if (!prepared || !opened.open(AT_FDCWD, path, O_PATH | O_DIRECTORY)) return std::nullopt;
  Directory directory(opened.get(), Calls(trial));
  LockFile lock(directory);
  struct stat there;
  if (wanted.may_be_large && directory.look(wanted.path, there) && there.st_size > wanted.most) {
    if (why) *why = NotPut::large;
    return std::nullopt;
  }
  if (wanted.held ? !lock.adopt(wanted) : !lock.take(wanted)) {
    if (why && lock.was_there) *why = NotPut::busy;
    return std::nullopt;
  }
  Put put(wanted, directory, lock, false);
  const auto result = result_of(put, put.run());
  if (why) *why = put.why;
  if (!wanted.held) lock.give_back(wanted.lock);
  return result;
}

std::vector<std::optional<FilePutResult>> put_files(const char* path, const std::vector<FilePut>& wanted, Trial* trial) {
  std::vector<std::optional<FilePutResult>> results(wanted.size());
  Descriptor opened;
  if (!prepared || !opened.open(AT_FDCWD, path, O_PATH | O_DIRECTORY)) return results;
  Directory directory(opened.get(), Calls(trial));
  LockFile lock(directory);
  bool mixed = false, all_new = false;  // what is there by now says what is likely to be there next
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!lock.is_taken() && !lock.take(wanted[i])) continue;
    Put put(wanted[i], directory, lock, all_new && !mixed);
    results[i] = result_of(put, put.run());
    mixed = mixed || put.mistaken;
    if (results[i]) all_new = results[i]->old_mtime < 0;
    if (i + 1 == wanted.size()) lock.give_back(wanted[i].lock);
    else lock.move(wanted[i].lock, wanted[i + 1].lock);
  }
  return results;
}

bool can_put_files() { return true; }

}  // namespace zarrant

#else

namespace zarrant {
std::optional<FilePutResult> put_file(const char*, const FilePut&, Trial*, NotPut*) { return std::nullopt; }
std::vector<std::optional<FilePutResult>> put_files(const char*, const std::vector<FilePut>& wanted, Trial*) {
  return std::vector<std::optional<FilePutResult>>(wanted.size());
}
bool can_put_files() { return false; }
}  // namespace zarrant

#endif
