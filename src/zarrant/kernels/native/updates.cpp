// One box of one encoded chunk, or of one subchunk of a shard, replaced. As the pipelines and the layout of shards do it in
// Python (codecs/pipeline/fixed_size.py, codecs/sharding/prepared.py), where nothing of it is unusual; else nothing is made.
#include <algorithm>
#include <cstring>
#include <exception>

#include "files.h"

namespace zarrant {
namespace {

// Objects of so many bytes are read with one call, and what stays of them is written from there: to copy a range of a file costs
// as much as to write 64 KiB.
constexpr std::int64_t kReadWhole = 64 << 10;

void repeat(const std::vector<Byte>& element, Byte* row, std::size_t size) {
  for (std::size_t at = 0; at + element.size() <= size; at += element.size()) std::memcpy(row + at, element.data(), element.size());
}

}  // namespace

BoxUpdate::BoxUpdate(const ChunkLayout& layout, const Placed& placed, Strided values) : layout_(layout), placed_(placed), values_(values) {
  const std::size_t axes = layout.shape.size();
  const auto given = static_cast<std::size_t>(values.axes);
  if (given != axes || placed.start.size() != axes || placed.value.size() != axes || placed.count.size() != axes ||
      values.itemsize != layout.itemsize)
    throw std::invalid_argument("expected values, and a box of them, as of the chunk");
  whole_ = true;
  for (std::size_t axis = 0; axis < axes; ++axis) {
    const std::int64_t start = placed.start[axis], value = placed.value[axis], count = placed.count[axis];
    if (start < 0 || count < 1 || start > layout.shape[axis] - count || value < 0 || value > values.shape[axis] - count)
      throw std::invalid_argument("expected a box within the chunk and the values");
    whole_ = whole_ && count == layout.shape[axis];
  }
  if (layout.entries && (placed.number < 0 || placed.number >= layout.entries))
    throw std::invalid_argument("expected a subchunk of the shard");
}

bool BoxUpdate::make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  try {
    row_.reset(new Byte[std::max<std::size_t>(layout_.row_bytes, 1)]);
    return layout_.entries ? make_shard(size, read, parts) : make_chunk(size, read, parts);
  } catch (const std::exception&) {  // what does not encode, or no memory: the general way says so
    return false;
  }
}

bool BoxUpdate::make_chunk(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  const auto stored = static_cast<std::size_t>(size);
  if (stored > layout_.stored_limit) return false;  // safety: native chunk size
  old_.reset(new Byte[stored + 1]);
  if (!read(0, stored, old_.get()) || !merge({old_.get(), stored})) return false;
  if (is_fill()) return false;  // is to be erased
  parts.push_back(encode_row());
  return true;
}

bool BoxUpdate::make_shard(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  const auto index_bytes = static_cast<std::int64_t>(layout_.index_bytes);
  if (size < index_bytes) return false;
  const std::int64_t first = layout_.at_start ? index_bytes : 0, stop = layout_.at_start ? size : size - index_bytes;
  const bool all = size <= kReadWhole;
  const std::int64_t index_at = layout_.at_start ? 0 : stop, from = all ? 0 : index_at;  // `from`: of the bytes in old_
  const auto length = static_cast<std::size_t>(all ? size : index_bytes);
  old_.reset(new Byte[length + 1]);
  if (!read(from, length, old_.get()) || !read_index({old_.get() + (index_at - from), layout_.index_bytes}, first, stop)) return false;
  std::int64_t& offset = table_[2 * placed_.number];
  std::int64_t& used = table_[2 * placed_.number + 1];
  if (!merge_subchunk(offset, used, all, read)) return false;
  FilePart made{};
  const bool kept = !is_fill();
  if (kept) made = encode_row();
  offset = kept ? stop : -1;
  used = kept ? static_cast<std::int64_t>(made.size) : -1;
  if (!may_append(stop - first, used)) return false;
  const FilePart index = encode_index();
  if (index.size != layout_.index_bytes) return false;
  const auto stays = static_cast<std::size_t>(stop - first);
  if (layout_.at_start) parts.push_back(index);
  if (stays && all) parts.push_back({old_.get() + first, stays});
  if (stays && !all) parts.push_back({nullptr, stays, first});
  if (kept) parts.push_back(made);
  if (!layout_.at_start) parts.push_back(index);
  return true;
}

bool BoxUpdate::read_index(Span stored, std::int64_t first, std::int64_t stop) {
  const std::size_t size = static_cast<std::size_t>(layout_.entries) * 2 * sizeof(std::int64_t);
  table_.reset(new std::int64_t[2 * static_cast<std::size_t>(layout_.entries)]);
  Failure failure;
  auto* const bytes = reinterpret_cast<Byte*>(table_.get());
  return decode_one(layout_.index_program, layout_.index_limits, stored, bytes, size, {0, size}, layout_.check_index, 0, failure) &&
         valid_index(table_.get(), layout_.entries, first, stop);  // safety: native index
}

// The old subchunk, from the bytes of the shard where they are at hand, and the box.
bool BoxUpdate::merge_subchunk(std::int64_t offset, std::int64_t used, bool all, const ReadOld& read) {
  if (whole_ || used < 0) return merge({nullptr, 0});
  const auto size = static_cast<std::size_t>(used);
  if (size > layout_.stored_limit) return false;  // safety: native subchunk size
  if (all) return merge({old_.get() + offset, size});
  std::unique_ptr<Byte[]> stored(new Byte[size + 1]);
  return read(offset, size, stored.get()) && merge({stored.get(), size});
}

// The row: what is stored (without data: nothing is), and the box on top.
bool BoxUpdate::merge(Span stored) {
  Failure failure;
  if (!whole_ && !stored.data) repeat(layout_.fill, row_.get(), layout_.row_bytes);
  const Part all{0, layout_.row_bytes};
  if (!whole_ && stored.data &&
      !decode_one(layout_.program, layout_.limits, stored, row_.get(), layout_.row_bytes, all, layout_.check, 0, failure))
    return false;
  std::array<Loop, kMaxAxes> loops;
  const Byte* from = values_.data;
  Byte* into = row_.get();
  for (int axis = 0; axis < values_.axes; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    from += placed_.value[at] * values_.strides[axis];
    into += placed_.start[at] * layout_.strides[at];
    loops[at] = {placed_.count[at], values_.strides[axis], layout_.strides[at]};
  }
  copy_strided(from, into, layout_.itemsize, loops.data(), values_.axes, Lines::kCached);
  return true;
}

// Whether nothing is stored for the row.
bool BoxUpdate::is_fill() const {
  return layout_.drop && is_repetition(row_.get(), layout_.row_bytes, layout_.fill.data(), layout_.fill.size());
}

FilePart BoxUpdate::encode_row() {
  encoded_.reset(new Byte[*std::max_element(layout_.bounds.begin(), layout_.bounds.end()) + 1]);
  const std::size_t size = encode_one(layout_.program, layout_.bounds, row_.get(), layout_.row_bytes, encoded_.get());
  return {encoded_.get(), size};
}

FilePart BoxUpdate::encode_index() {
  index_.reset(new Byte[*std::max_element(layout_.index_bounds.begin(), layout_.index_bounds.end()) + 1]);
  const std::size_t size = static_cast<std::size_t>(layout_.entries) * 2 * sizeof(std::int64_t);
  const auto* const bytes = reinterpret_cast<const Byte*>(table_.get());
  return {index_.get(), encode_one(layout_.index_program, layout_.index_bounds, bytes, size, index_.get())};
}

// Whether the dead bytes of a shard of `length` bytes just stay (codecs/sharding/dead_bytes.py says when), and something is live.
bool BoxUpdate::may_append(std::int64_t length, std::int64_t added) const {
  std::int64_t live = 0;
  bool any = false;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry) {
    const std::int64_t size = table_[2 * entry + 1];
    any = any || size >= 0;
    live += std::max<std::int64_t>(size, 0);
  }
  if (!any && layout_.drop) return false;  // the shard is to be erased
  if (layout_.dead_limit >= 1) return true;
  const std::int64_t dead = length - (live - std::max<std::int64_t>(added, 0));
  const auto part = static_cast<std::int64_t>(static_cast<double>(live) * layout_.dead_limit);
  const std::int64_t most = std::max(layout_.kept_bytes, part);
  const std::int64_t longest = layout_.max_multiple * (live + most);
  return layout_.first_record * dead <= most && length + std::max<std::int64_t>(added, 0) <= longest;  // safety: native dead bytes
}

}  // namespace zarrant
