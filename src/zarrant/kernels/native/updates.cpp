// A box of one encoded chunk, or of some subchunks of a shard, replaced. As the pipelines and the layout of shards do it in
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

BoxUpdate::BoxUpdate(const ChunkLayout& layout, std::vector<Placed> placed, const Strided& values)
    : layout_(layout), placed_(std::move(placed)),
      values_(1, values.data, values.itemsize, values.axes, values.shape, values.strides),
      seen_(placed_.size(), nullptr, layout.itemsize, static_cast<int>(layout.shape.size()), layout.shape.data(), layout.strides.data()) {
  const std::size_t axes = layout.shape.size();
  bool good = static_cast<std::size_t>(values.axes) == axes && values.itemsize == layout.itemsize && !placed_.empty() &&
              (layout.entries || placed_.size() == 1);
  std::int64_t last = -1;
  for (Placed& each : placed_) {
    good = good && (!layout.entries || (each.number > last && each.number < layout.entries));
    last = each.number;
    if (good && each.row) {
      check_boxes(values_.array(), seen_.array(), each.row->boxes);
      if (each.row->outer.spans) check_outer(values_.array(), seen_.array(), each.row->outer, 1);
      each.whole = false;
      continue;
    }
    good = good && each.start.size() == axes && each.value.size() == axes && each.count.size() == axes;
    for (std::size_t axis = 0; good && axis < axes; ++axis) {
      const std::int64_t start = each.start[axis], value = each.value[axis], count = each.count[axis];
      good = start >= 0 && count >= 1 && start <= layout.shape[axis] - count && value >= 0 && value <= values_.shape(axis) - count;
      each.whole = each.whole && count == layout.shape[axis];  // safety: native whole chunk
    }
  }
  if (!good) throw std::invalid_argument("expected boxes within the values and the chunk, or its subchunks in order");
}

std::vector<BoxUpdate::Placed> BoxUpdate::rows_of(const std::vector<std::int64_t>& numbers, const RowBatch& batch, int axes) {
  std::vector<Placed> placed;
  const Boxes& all = batch.boxes;
  std::int64_t box = 0;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(numbers.size()); ++row) {
    const std::int64_t first = box, at = first * axes;
    while (box < all.count && all.dst_start[box * axes] == row) ++box;
    const Boxes boxes{box - first, all.src_start + at, all.dst_start + at, all.shape + at, all.src_step, all.dst_step};
    Outer outer = batch.outer;
    if (outer.spans) outer.spans += row * (axes - 1) * 2;
    placed.push_back({numbers[static_cast<std::size_t>(row)], {}, {}, {}, RowBatch{1, boxes, batch.fill, outer}});
  }
  if (box != all.count) throw std::invalid_argument("expected boxes in the order of their rows");
  return placed;
}

Made BoxUpdate::make(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  try {
    encoded_bound_ = *std::max_element(layout_.bounds.begin(), layout_.bounds.end());
    row_.reset(new Byte[std::max<std::size_t>(layout_.row_bytes, 1)]);
    encoded_.reset(new Byte[placed_.size() * encoded_bound_ + 1]);
    if (layout_.entries) return size < 0 ? make_new_shard(parts) : make_shard(size, read, parts);
    return make_chunk(size, read, parts);
  } catch (const std::exception&) {  // what does not encode, or no memory: the general way says so
    return Made::otherwise;
  }
}

Made BoxUpdate::make_chunk(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  const auto stored = static_cast<std::size_t>(std::max<std::int64_t>(size, 0));
  if (stored > layout_.stored_limit) return Made::otherwise;  // safety: native chunk size
  old_.reset(new Byte[stored + 1]);
  if (size >= 0 && !read(0, stored, old_.get())) return Made::otherwise;
  if (!merge(placed_[0], {size < 0 ? nullptr : old_.get(), stored})) return Made::otherwise;
  if (is_fill()) return Made::nothing;
  parts.push_back({encoded_.get(), encode_row(0)});
  return Made::parts;
}

Made BoxUpdate::make_new_shard(std::vector<FilePart>& parts) {
  const std::size_t length = 2 * static_cast<std::size_t>(layout_.entries);
  table_.reset(new std::int64_t[length]);
  std::fill_n(table_.get(), length, -1);
  std::size_t added = 0;
  if (!add_subchunks(layout_.at_start ? static_cast<std::int64_t>(layout_.index_bytes) : 0, false, {}, added)) return Made::otherwise;
  if (!is_any_stored()) return Made::nothing;
  const FilePart index = encode_index();
  if (index.size != layout_.index_bytes) return Made::otherwise;
  parts.push_back({encoded_.get(), added});
  parts.insert(layout_.at_start ? parts.begin() : parts.end(), index);
  return Made::parts;
}

Made BoxUpdate::make_shard(std::int64_t size, const ReadOld& read, std::vector<FilePart>& parts) {
  const auto index_bytes = static_cast<std::int64_t>(layout_.index_bytes);
  if (size < index_bytes) return Made::otherwise;
  const std::int64_t first = layout_.at_start ? index_bytes : 0, stop = layout_.at_start ? size : size - index_bytes;
  const bool all = size <= kReadWhole;
  const std::int64_t index_at = layout_.at_start ? 0 : stop, from = all ? 0 : index_at;  // `from`: of the bytes in old_
  const auto length = static_cast<std::size_t>(all ? size : index_bytes);
  old_.reset(new Byte[length + 1]);
  if (!read(from, length, old_.get())) return Made::otherwise;
  if (!read_index({old_.get() + (index_at - from), layout_.index_bytes}, first, stop)) return Made::otherwise;
  const std::int64_t stay = staying(), longest = static_cast<std::int64_t>(placed_.size() * encoded_bound_);
  if (!may_append(stop - first, stay, longest)) return Made::otherwise;  // before the work is done
  std::size_t added = 0;
  if (!add_subchunks(stop, all, read, added)) return Made::otherwise;
  if (!is_any_stored()) return Made::nothing;
  if (!may_append(stop - first, stay, static_cast<std::int64_t>(added))) return Made::otherwise;
  const FilePart index = encode_index();
  if (index.size != layout_.index_bytes) return Made::otherwise;
  const auto stays = static_cast<std::size_t>(stop - first);
  if (layout_.at_start) parts.push_back(index);
  if (stays && all) parts.push_back({old_.get() + first, stays});
  if (stays && !all) parts.push_back({nullptr, stays, first});
  if (added) parts.push_back({encoded_.get(), added});
  if (!layout_.at_start) parts.push_back(index);
  return Made::parts;
}

// Changes and encodes the subchunks, whose places begin at `at`; `added`: their bytes.
bool BoxUpdate::add_subchunks(std::int64_t at, bool all, const ReadOld& read, std::size_t& added) {
  for (const Placed& each : placed_) {
    if (!merge_subchunk(each, all, read)) return false;
    const bool kept = !is_fill();
    const std::size_t made = kept ? encode_row(added) : 0;
    table_[2 * each.number] = kept ? at + static_cast<std::int64_t>(added) : -1;
    table_[2 * each.number + 1] = kept ? static_cast<std::int64_t>(made) : -1;
    added += made;
  }
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
bool BoxUpdate::merge_subchunk(const Placed& placed, bool all, const ReadOld& read) {
  const std::int64_t offset = table_[2 * placed.number], used = table_[2 * placed.number + 1];
  if (placed.whole || used < 0) return merge(placed, {nullptr, 0});
  const auto size = static_cast<std::size_t>(used);
  if (size > layout_.stored_limit) return false;  // safety: native subchunk size
  if (all) return merge(placed, {old_.get() + offset, size});
  std::unique_ptr<Byte[]> stored(new Byte[size + 1]);
  return read(offset, size, stored.get()) && merge(placed, {stored.get(), size});
}

// The row: what is stored (without data: nothing is), and the box on top.
bool BoxUpdate::merge(const Placed& placed, Span stored) {
  Failure failure;
  if (!placed.whole && !stored.data) repeat(layout_.fill, row_.get(), layout_.row_bytes);
  const Part all{0, layout_.row_bytes};
  if (!placed.whole && stored.data &&
      !decode_one(layout_.program, layout_.limits, stored, row_.get(), layout_.row_bytes, all, layout_.check, 0, failure))
    return false;
  lay(placed);
  return true;
}

// The new elements on top of the row.
void BoxUpdate::lay(const Placed& placed) {
  if (placed.row) {
    const Strided row = seen_.at(row_.get());
    copy_range(values_.array(), row, placed.row->boxes, 0, placed.row->boxes.count, Lines::kCached);
    if (placed.row->outer.spans) copy_outer(values_.array(), row, placed.row->outer, 0);
    return;
  }
  std::array<Loop, kMaxAxes> loops;
  const Byte* from = values_.array().data;
  Byte* into = row_.get();
  for (std::size_t axis = 0; axis < layout_.shape.size(); ++axis) {
    from += placed.value[axis] * values_.stride(axis);
    into += placed.start[axis] * layout_.strides[axis];
    loops[axis] = {placed.count[axis], values_.stride(axis), layout_.strides[axis]};
  }
  copy_strided(from, into, layout_.itemsize, loops.data(), values_.axes(), Lines::kCached);
}

// Whether nothing is stored for the row.
bool BoxUpdate::is_fill() const {
  return layout_.drop && is_repetition(row_.get(), layout_.row_bytes, layout_.fill.data(), layout_.fill.size());
}

// Encodes the row to a place in the memory for encoded ones; returns its bytes.
std::size_t BoxUpdate::encode_row(std::size_t at) {
  return encode_one(layout_.program, layout_.bounds, row_.get(), layout_.row_bytes, encoded_.get() + at);
}

FilePart BoxUpdate::encode_index() {
  index_.reset(new Byte[*std::max_element(layout_.index_bounds.begin(), layout_.index_bounds.end()) + 1]);
  const std::size_t size = static_cast<std::size_t>(layout_.entries) * 2 * sizeof(std::int64_t);
  const auto* const bytes = reinterpret_cast<const Byte*>(table_.get());
  return {index_.get(), encode_one(layout_.index_program, layout_.index_bounds, bytes, size, index_.get())};
}

// Bytes of the subchunks that stay.
std::int64_t BoxUpdate::staying() const {
  std::int64_t bytes = 0;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry) bytes += std::max<std::int64_t>(table_[2 * entry + 1], 0);
  for (const Placed& each : placed_) bytes -= std::max<std::int64_t>(table_[2 * each.number + 1], 0);
  return bytes;
}

// Whether anything is stored now: else the shard is to be erased.
bool BoxUpdate::is_any_stored() const {
  if (!layout_.drop) return true;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry)
    if (table_[2 * entry + 1] >= 0) return true;
  return false;
}

// Whether the dead bytes of a shard of `length` bytes, `stay` of which are not, just stay (codecs/sharding/dead_bytes.py says when).
// If not for some `added` bytes, then not for fewer.
bool BoxUpdate::may_append(std::int64_t length, std::int64_t stay, std::int64_t added) const {
  if (layout_.dead_limit >= 1) return true;
  const std::int64_t live = stay + added, part = static_cast<std::int64_t>(static_cast<double>(live) * layout_.dead_limit);
  const std::int64_t most = std::max(layout_.kept_bytes, part);
  const std::int64_t longest = layout_.max_multiple * (live + most);
  return layout_.first_record * (length - stay) <= most && length + added <= longest;  // safety: native dead bytes
}

}  // namespace zarrant
