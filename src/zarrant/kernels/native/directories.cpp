// Makes directories, and looks at those above one, as `stores/local/store.py` and `Syscalls.above` do: the same file calls in the
// same order, as one call of Python. Where a call fails the rest is left to those.
#include <sys/stat.h>

#include <cerrno>

#include "files.h"

#if !defined(_WIN32)

namespace zarrant {

MadeDirectories make_directories(std::string path, std::size_t root, Trial* trial) {
  MadeDirectories done;
  const auto make = [&](const std::string& each) {  // 0, EEXIST or another error
    if (!may(trial, "mkdir")) return EIO;
    if (mkdir(each.c_str(), 0777) != 0) return errno;
    done.made.push_back(each);
    return 0;
  };
  std::vector<std::size_t> ends{path.size()};
  int error = make(path);
  while (error == ENOENT) {
    const std::size_t end = path.rfind('/', ends.back() - 1);
    if (end == std::string::npos || end <= root) return done;  // the root is not there
    ends.push_back(end);
    error = make(path.substr(0, end));
  }
  ends.pop_back();
  while ((error == 0 || error == EEXIST) && !ends.empty()) {
    error = make(path.substr(0, ends.back()));
    ends.pop_back();
  }
  done.whole = error == 0 || error == EEXIST;
  return done;
}

std::vector<DirectoryAbove> directories_above(std::string path) {
  std::vector<DirectoryAbove> found;
  if (path.empty() || path[0] != '/') return found;
  for (;;) {
    struct stat state;
    if (lstat(path.c_str(), &state) != 0 || !S_ISDIR(state.st_mode)) return {};
    found.push_back({path, static_cast<std::int64_t>(state.st_dev), static_cast<std::int64_t>(state.st_ino)});
    if (path.size() == 1) return found;
    path.resize(std::max<std::size_t>(path.rfind('/'), 1));
  }
}

bool can_make_directories() { return true; }

}  // namespace zarrant

#else

namespace zarrant {
MadeDirectories make_directories(std::string, std::size_t, Trial*) { return {}; }
std::vector<DirectoryAbove> directories_above(std::string) { return {}; }
bool can_make_directories() { return false; }
}  // namespace zarrant

#endif
