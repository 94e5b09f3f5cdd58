// Chunks from files to boxes of an array: each file is read, decoded and scattered by one thread, while its bytes are in the cache.
// Files are as in reads.cpp, rows and boxes as in fused.cpp. Threads share the files by a counter, so that none waits for another.
#include <utility>

#include "files.h"

namespace zarrant {
namespace {

// Memory of a thread is kept up to this size: new pages cost more than what is read into them.
constexpr std::size_t kKept = 4 << 20;

enum class For { encoded, row };

template <For Use>
class Memory {
 public:
  explicit Memory(std::size_t size) : kept_(of_thread()) {
    if (size <= kept_.second) return;
    kept_ = {nullptr, 0};
    kept_ = {std::unique_ptr<Byte[]>(new Byte[size]), size};
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() {
    if (kept_.second > kKept) kept_ = {nullptr, 0};
  }
  Byte* data() const { return kept_.first.get(); }

 private:
  using Kept = std::pair<std::unique_ptr<Byte[]>, std::size_t>;
  static Kept& of_thread() {
    thread_local Kept kept;
    return kept;
  }
  Kept& kept_;
};

}  // namespace

FilesToBoxes::FilesToBoxes(Program program, std::vector<std::string> paths, std::int64_t limit, const RowView& rows,
                           const RowBatch& batch, const Strided& out, bool check)
    : program_(std::move(program)), paths_(std::move(paths)), limit_(limit), rows_(rows), batch_(batch), out_(out), check_(check),
      outcomes_(paths_.size()) {
  const Boxes& boxes = batch.boxes;
  const auto axes = static_cast<std::size_t>(out.axes);
  if (batch.count != static_cast<std::int64_t>(paths_.size())) throw std::invalid_argument("expected a row a file");
  row_starts_.assign(boxes.src_start, boxes.src_start + static_cast<std::size_t>(boxes.count) * axes);
  std::int64_t row = -1;
  for (std::int64_t box = 0; box < boxes.count; ++box) {
    std::int64_t& number = row_starts_[static_cast<std::size_t>(box) * axes];
    if (number < row || number < 0 || number >= batch.count) throw std::invalid_argument("expected boxes in the order of their rows");
    for (; row < number; ++row) first_.push_back(box);
    number = 0;
  }
  for (; row < batch.count; ++row) first_.push_back(boxes.count);
}

void FilesToBoxes::work() {
  if (next_.load() >= paths_.size()) return;
  const bool first = threads_.fetch_add(1) == 0;
  const Memory<For::row> own(first ? 0 : rows_.size);
  RowView row = rows_;
  if (!first) row.data = row.seen.data = own.data();
  row.room = 1;
  for (std::size_t number; (number = next_.fetch_add(1)) < paths_.size();) {
    try {
      deliver(number, row);
    } catch (const std::exception&) {  // no memory, or a box that is none: who does it otherwise says so
      outcomes_[number].found = Found::other;
    }
  }
}

void FilesToBoxes::deliver(std::size_t number, const RowView& row) {
  Outcome& outcome = outcomes_[number];
  FileToRead file(nullptr);
  file.open(paths_[number].c_str(), limit_);
  if (file.found != Found::there) {
    outcome.found = file.found;
    return;
  }
  const auto size = static_cast<std::size_t>(file.version[3]);
  const Memory<For::encoded> bytes(size);
  if (!file.read(0, size, bytes.data())) return;
  file.close();
  const std::int64_t first = first_[number], at = first * out_.axes;
  const Boxes& all = batch_.boxes;
  const Boxes boxes{first_[number + 1] - first, row_starts_.data() + at, all.dst_start + at, all.shape + at, all.src_step, all.dst_step};
  const std::int64_t only = 0;
  if (!decode_boxes(program_, {{bytes.data(), size}}, &only, row, {1, boxes, batch_.fill}, out_, check_).empty()) return;
  outcome = {Found::there, file.version};
}

}  // namespace zarrant
