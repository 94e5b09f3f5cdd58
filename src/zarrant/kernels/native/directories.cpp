// Looks at directories and makes those that are missing, and looks at those above one, as `stores/local/store.py` and
// `Syscalls.above` do, as one call of Python. Where a call fails, or finds what is not usual, the rest is left to those.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "files.h"

#if !defined(_WIN32)

namespace zarrant {

EnteredDirectory enter_directory(const std::string& path, std::size_t known, const char* condition, Trial* trial) {
  EnteredDirectory done;
  struct stat state{};
  const auto is_directory = [&](const std::string& each) {
    return may(trial, "stat") && lstat(each.c_str(), &state) == 0 && S_ISDIR(state.st_mode);
  };
  const auto is_file = [&](const char* each) {
    return may(trial, "stat") && lstat(each, &state) == 0 && S_ISREG(state.st_mode);
  };
  bool making = false;
  for (std::size_t end = known; end < path.size();) {
    end = std::min(path.find('/', end + 1), path.size());
    const std::string each = path.substr(0, end);
    if (!making) {
      errno = 0;
      if (is_directory(each)) continue;
      if (errno != ENOENT) return done;
      if (condition && !is_file(condition)) return done;  // safety: native no ghost
      making = true;
    }
    if (!may(trial, "mkdir")) return done;
    if (mkdir(each.c_str(), 0777) == 0) done.made.push_back(each);
    else if (errno != EEXIST || !is_directory(each)) return done;  // another one made it, unless that is a link
  }
  if (making && !is_directory(path)) return done;
  done.entered = true;
  done.mode = state.st_mode;
  done.device = static_cast<std::int64_t>(state.st_dev);
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

bool can_enter_directories() { return true; }

}  // namespace zarrant

#else

namespace zarrant {
EnteredDirectory enter_directory(const std::string&, std::size_t, const char*, Trial*) { return {}; }
std::vector<DirectoryAbove> directories_above(std::string) { return {}; }
bool can_enter_directories() { return false; }
}  // namespace zarrant

#endif
