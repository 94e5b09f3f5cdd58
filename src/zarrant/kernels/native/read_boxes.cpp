// Chunks from files, or from where they are kept, to boxes of an array: each file is read, decoded and scattered by one thread, while its bytes are in the cache.
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

template <typename Work>
void SharedTasks::take(std::size_t count, const RowView& rows, const Work& work) {
  if (next_.load() >= count) return;
  const bool first = threads_.fetch_add(1) == 0;
  const Memory<For::row> own(first ? 0 : rows.size * static_cast<std::size_t>(rows.room));
  RowView mine = rows;
  if (!first) mine.data = mine.seen.data = own.data();
  for (std::size_t number; (number = next_.fetch_add(1)) < count;) {
    try {
      work(number, mine);
    } catch (const std::exception&) {  // no memory, or a box that is none: who does it otherwise says so
    }
  }
}

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
  tasks_.take(paths_.size(), rows_, [this](std::size_t number, const RowView& row) { deliver(number, row); });
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
  Outer outer = batch_.outer;
  if (outer.spans) outer.spans += static_cast<std::int64_t>(number) * (out_.axes - 1) * 2;
  const std::vector<Span> spans{{bytes.data(), size}};
  if (!decode_boxes(program_, {spans, &only, check_}, row, {1, boxes, batch_.fill, outer}, out_).empty()) return;
  outcome = {Found::there, file.version};
}

ShardsToBoxes::ShardsToBoxes(Program program, std::vector<Shard> shards, std::vector<std::int64_t> edge,
                             std::vector<std::int64_t> grid, std::int64_t limit, const RowView& rows, const Strided& out,
                             const Byte* fill, bool check)
    : program_(std::move(program)), shards_(std::move(shards)), edge_(std::move(edge)), grid_(std::move(grid)),
      ones_(edge_.size() + 1, 1), limit_(limit), rows_(rows), out_(out), fill_(fill), check_(check),
      failed_(new std::atomic<bool>[shards_.size()]) {
  if (out.axes != static_cast<int>(ones_.size())) throw std::invalid_argument("expected an axis of subchunks for each but the first");
  const std::int64_t most = 2 * rows.room;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    failed_[i] = false;
    const std::int64_t all = count_touched(box_of(shards_[i]), shards_[i].index.entries);
    const std::int64_t parts = (all + most - 1) / most;
    for (std::int64_t part = 0; part < parts; ++part) tasks_to_do_.push_back({i, part * all / parts, (part + 1) * all / parts});
  }
}

ShardBox ShardsToBoxes::box_of(const Shard& shard) const {
  return {static_cast<int>(edge_.size()), shard.start.data(), shard.count.data(), shard.value.data(), edge_.data(), grid_.data()};
}

void ShardsToBoxes::work() {
  tasks_.take(tasks_to_do_.size(), rows_, [this](std::size_t number, const RowView& rows) {
    const Task& task = tasks_to_do_[number];
    bool good = false;
    try {
      good = !failed_[task.shard] && deliver(task, rows);
    } catch (const std::exception&) {  // see take()
    }
    if (!good) failed_[task.shard] = true;
  });
}

bool ShardsToBoxes::deliver(const Task& task, const RowView& rows) {
  const Shard& shard = shards_[task.shard];
  FileToRead file(nullptr);
  file.open(shard.path.c_str(), -1);
  if (file.found != Found::there || file.version != shard.version) return false;  // safety: native version of a decoded read
  const std::int64_t count = task.end - task.first, line = static_cast<std::int64_t>(ones_.size());
  std::vector<std::int64_t> table(static_cast<std::size_t>(3 * count * line + 4 * count));
  std::int64_t* columns = table.data() + 3 * count * line;
  const BoxPlan plan{table.data(), table.data() + count * line, table.data() + 2 * count * line,
                     columns, columns + count, columns + 2 * count, columns + 3 * count};
  std::vector<std::pair<std::int64_t, std::int64_t>> runs;
  const std::int64_t stored = plan_box(box_of(shard), shard.index, limit_, task.first, task.end, plan, runs);
  if (stored < 0) return false;
  std::vector<std::size_t> starts;
  std::size_t total = 0;
  for (const auto& [start, length] : runs) {
    starts.push_back(total);
    total += static_cast<std::size_t>(length);
  }
  // Before there is memory for it: an index may say anything.
  if (!runs.empty() && runs.back().first + runs.back().second > file.version[3]) return false;
  const Memory<For::encoded> bytes(total);
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (!file.read(runs[i].first, static_cast<std::size_t>(runs[i].second), bytes.data() + starts[i])) return false;
  file.close();
  std::vector<Span> spans;
  for (std::int64_t i = 0; i < stored; ++i)
    spans.push_back({bytes.data() + starts[static_cast<std::size_t>(plan.which[i])] + plan.offset[i], static_cast<std::size_t>(plan.size[i])});
  const Boxes boxes{count, plan.row_start, plan.value_start, plan.shape, ones_.data(), ones_.data()};
  return decode_boxes(program_, {spans, plan.number, check_}, rows, {count, boxes, fill_, {}}, out_).empty();
}

namespace {

// Boxes of fewer bytes stay in the caches, where the caller may want them.
constexpr std::int64_t kStreamedBytes = 2 << 20;

}  // namespace

KeptToBoxes::KeptToBoxes(std::vector<Object> objects, std::vector<std::int64_t> edge, const Strided& out, const Byte* fill,
                         bool by_name)
    : objects_(std::move(objects)), edge_(std::move(edge)), strides_(edge_.size()), out_(out), fill_(fill), by_name_(by_name),
      done_(new bool[objects_.size()]()) {
  if (out.axes != static_cast<int>(edge_.size())) throw std::invalid_argument("expected as many axes of pieces as of the array");
  std::int64_t stride = out.itemsize, bytes = 0;
  for (int axis = out.axes - 1; axis >= 0; --axis) {
    strides_[static_cast<std::size_t>(axis)] = stride;
    if (edge_[static_cast<std::size_t>(axis)] < 1 || __builtin_mul_overflow(stride, edge_[static_cast<std::size_t>(axis)], &stride))
      throw std::invalid_argument("expected pieces with elements");
  }
  for (const Object& object : objects_) {
    for (const Box& box : object.boxes) {
      std::int64_t touched = 1, size = out.itemsize;
      for (std::size_t axis = 0; axis < edge_.size(); ++axis) {
        const std::int64_t start = box.start[axis], count = box.count[axis], value = box.value[axis], length = out.shape[axis];
        std::int64_t end = 0, beyond = 0;
        const bool inside = start >= 0 && count > 0 && value >= 0 && value < length && count <= length - value &&
                            !__builtin_add_overflow(start, count, &end) && !__builtin_add_overflow(end, edge_[axis], &beyond);
        if (!inside) throw std::invalid_argument("expected boxes within the array");
        size *= count;  // no more than all of `out`
        if (__builtin_mul_overflow(touched, (end - 1) / edge_[axis] - start / edge_[axis] + 1, &touched)) touched = -1;
      }
      if (touched != static_cast<std::int64_t>(box.pieces.size())) throw std::invalid_argument("expected all pieces of a box");
      if (__builtin_add_overflow(bytes, size, &bytes)) bytes = kStreamedBytes;
    }
  }
  if (bytes >= kStreamedBytes) lines_ = Lines::kStreamed;
}

void KeptToBoxes::work() {
  for (std::size_t number; (number = next_.fetch_add(1)) < objects_.size();) {
    const Object& object = objects_[number];
    if (!is_current(object)) continue;
    for (const Box& box : object.boxes) copy(box);
    done_[number] = true;
  }
  stream_fence();
}

bool KeptToBoxes::is_current(const Object& object) const {
  FileToRead file(nullptr);
  if (by_name_) file.look(object.path.c_str());
  else file.open(object.path.c_str(), -1);
  return file.found == Found::there && file.version == object.version;  // safety: native version of what is kept
}

void KeptToBoxes::copy(const Box& box) const {
  const int axes = out_.axes;
  std::array<std::int64_t, kMaxAxes> place;
  for (int axis = 0; axis < axes; ++axis) place[axis] = box.start[axis] / edge_[axis];
  for (const Byte* piece : box.pieces) {
    copy_piece(box, place.data(), piece);
    for (int axis = axes - 1; axis >= 0; --axis) {
      if (++place[axis] * edge_[axis] < box.start[axis] + box.count[axis]) break;
      place[axis] = box.start[axis] / edge_[axis];
    }
  }
}

void KeptToBoxes::copy_piece(const Box& box, const std::int64_t* place, const Byte* piece) const {
  const int axes = out_.axes;
  std::array<Loop, kMaxAxes> loops;
  const Byte* from = piece ? piece : fill_;
  Byte* into = out_.data + out_.origin;
  for (int axis = 0; axis < axes; ++axis) {
    const std::int64_t origin = place[axis] * edge_[axis], start = box.start[axis];
    const std::int64_t low = std::max(start, origin), high = std::min(start + box.count[axis], origin + edge_[axis]);
    const std::int64_t stride = piece ? strides_[axis] : 0;
    from += (low - origin) * stride;
    into += (box.value[axis] + low - start) * out_.strides[axis];
    loops[axis] = {high - low, stride, out_.strides[axis]};
  }
  copy_strided(from, into, out_.itemsize, loops.data(), axes, lines_);
}

}  // namespace zarrant
