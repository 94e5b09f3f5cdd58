// A box of one encoded chunk, or of some subchunks of a shard, replaced. As the pipelines and the layout of shards do it in
// Python (codecs/pipeline/fixed_size.py, codecs/sharding/prepared.py), where nothing of it is unusual; else nothing is made.
#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "files.h"

namespace zarrant {
namespace {

// Objects of so many bytes are read with one call, and what stays of them is written from there: to copy a range of a file costs
// as much as to write 64 KiB.
constexpr std::int64_t kReadWhole = 64 << 10;

// The first read of a record of dead bytes; see codecs/sharding/prepared.py.
constexpr std::int64_t kRecordGuess = 8 << 10;

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

bool OldObject::load(std::int64_t start, std::int64_t size) {
  const auto length = static_cast<std::size_t>(size);
  memory_.reset(new Byte[length + 1]);
  if (!read_(start, length, memory_.get())) return false;
  start_ = start, stop_ = start + size;
  return true;
}

const Byte* OldObject::bytes(std::int64_t start, std::int64_t size) {
  if (is_loaded(start, size)) return memory_.get() + (start - start_);
  const auto length = static_cast<std::size_t>(size);
  other_.reset(new Byte[length + 1]);
  return read_(start, length, other_.get()) ? other_.get() : nullptr;
}

void OldObject::add_part(std::int64_t start, std::int64_t stop, std::vector<FilePart>& parts) const {
  const std::int64_t size = stop - start;
  if (size <= 0) return;
  if (is_loaded(start, size)) parts.push_back({memory_.get() + (start - start_), static_cast<std::size_t>(size)});
  else parts.push_back({nullptr, static_cast<std::size_t>(size), start});
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
    old_ = std::make_unique<OldObject>(read);
    if (!layout_.entries) return make_chunk(size, parts);
    table_.reset(new std::int64_t[2 * static_cast<std::size_t>(layout_.entries)]);
    return size < 0 ? make_new_shard(parts) : make_shard(size, parts);
  } catch (const std::exception&) {  // what does not encode, or no memory: the general way says so
    return Made::otherwise;
  }
}

Made BoxUpdate::make_chunk(std::int64_t size, std::vector<FilePart>& parts) {
  const auto stored = static_cast<std::size_t>(std::max<std::int64_t>(size, 0));
  if (stored > layout_.stored_limit) return Made::otherwise;  // safety: native chunk size
  const Byte* const data = size < 0 ? nullptr : old_->bytes(0, size);
  if ((size >= 0 && !data) || !merge(placed_[0], {data, stored})) return Made::otherwise;
  if (is_fill()) return Made::nothing;
  parts.push_back({encoded_.get(), encode_row(0)});
  return Made::parts;
}

Made BoxUpdate::make_new_shard(std::vector<FilePart>& parts) {
  std::fill_n(table_.get(), 2 * layout_.entries, -1);
  const std::int64_t first = layout_.at_start ? static_cast<std::int64_t>(layout_.index_bytes) : 0;
  return encode_subchunks() ? add_all(first, {first, first}, parts) : Made::otherwise;
}

Made BoxUpdate::make_shard(std::int64_t size, std::vector<FilePart>& parts) {
  const auto index_bytes = static_cast<std::int64_t>(layout_.index_bytes);
  if (size < index_bytes) return Made::otherwise;
  Extent data = layout_.at_start ? Extent{index_bytes, size} : Extent{0, size - index_bytes};
  if (!read_index(size, data)) return Made::otherwise;
  std::int64_t stay = 0, die = 0;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry) stay += std::max<std::int64_t>(table_[2 * entry + 1], 0);
  for (const Placed& each : placed_) die += std::max<std::int64_t>(table_[2 * each.number + 1], 0);
  stay -= die;
  const DeadRules& rules = layout_.dead;
  const std::int64_t length = data.stop - data.start, dead = length - stay;
  std::vector<Extent> old, replaced;
  if (rules.needs_record(dead, stay)) old = live(), replaced = dying();  // only then may it with what is added
  if (!encode_subchunks()) return Made::otherwise;
  const std::int64_t added = static_cast<std::int64_t>(added_), now = stay + added;
  if (rules.needs_record(dead, now)) {
    const std::int64_t most = rules.allowance(now);
    const std::optional<DeadRecord> record = read_dead(old, data);
    dead_ = lay_out(rules, old, replaced, record, data, added, most);
    if (!dead_ || dead_->end - data.start > rules.max_multiple * (stay + die + added + most)) return Made::otherwise;
  } else if (rules.is_too_long(length + added, now)) {
    return Made::otherwise;
  }
  return add_all(dead_ ? dead_->at : data.stop, data, parts);
}

// The parts of a shard, whose new subchunks begin at a place.
Made BoxUpdate::add_all(std::int64_t at, Extent old, std::vector<FilePart>& parts) {
  if (!is_any_stored()) return Made::nothing;
  for (const Placed& each : placed_)
    if (table_[2 * each.number] >= 0) table_[2 * each.number] += at;
  const FilePart index = encode_index();
  if (index.size != layout_.index_bytes) return Made::otherwise;
  if (layout_.at_start) parts.push_back(index);
  add_body(old, parts);
  if (!layout_.at_start) parts.push_back(index);
  return Made::parts;
}

// Old bytes that stay, new subchunks, holes, and the record of what is dead.
void BoxUpdate::add_body(Extent old, std::vector<FilePart>& parts) const {
  const FilePart added{encoded_.get(), added_};
  if (!dead_) {
    old_->add_part(old.start, old.stop, parts);
    parts.push_back(added);
    return;
  }
  std::int64_t now = old.start;
  const auto add_new = [&] {
    old_->add_part(now, dead_->at, parts);
    parts.push_back(added);
    now = dead_->at + static_cast<std::int64_t>(added_);
  };
  bool is_added = false;
  for (const Extent& hole : dead_->holes) {
    if (!is_added && dead_->at < hole.start) add_new(), is_added = true;
    old_->add_part(now, hole.start, parts);
    parts.push_back({nullptr, static_cast<std::size_t>(hole.stop - hole.start), -1});
    now = hole.stop;
  }
  if (!is_added) add_new();
  old_->add_part(now, dead_->end, parts);
  parts.push_back({dead_->record.data(), dead_->record.size()});
}

// The index; in the same read comes what is small, or else the record that may lie before the index.
bool BoxUpdate::read_index(std::int64_t size, Extent data) {
  const auto index_bytes = static_cast<std::int64_t>(layout_.index_bytes);
  const std::int64_t index_at = layout_.at_start ? 0 : data.stop;
  const std::int64_t from = size <= kReadWhole || layout_.at_start ? 0 : std::max(data.start, data.stop - kRecordGuess);
  if (!old_->load(from, size <= kReadWhole || !layout_.at_start ? size - from : index_bytes)) return false;
  const Span stored{old_->bytes(index_at, index_bytes), layout_.index_bytes};
  const std::size_t length = static_cast<std::size_t>(layout_.entries) * 2 * sizeof(std::int64_t);
  Failure failure;
  auto* const bytes = reinterpret_cast<Byte*>(table_.get());
  return decode_one(layout_.index_program, layout_.index_limits, stored, bytes, length, {0, length}, layout_.check_index, 0, failure) &&
         valid_index(table_.get(), layout_.entries, data.start, data.stop);  // safety: native index
}

// The record of dead bytes that earlier updates left, which is cut off from the data. Throws where it cannot be read.
std::optional<DeadRecord> BoxUpdate::read_dead(const std::vector<Extent>& live, Extent& data) {
  const auto read = [&](std::int64_t size) {
    const Byte* const found = old_->bytes(data.stop - size, size);
    if (!found) throw std::runtime_error("cannot read");
    return found;
  };
  const std::int64_t guess = std::min(kRecordGuess, data.stop - data.start);
  if (guess < kRecordTail) return std::nullopt;
  const Byte* found = read(guess) + (guess - kRecordTail);
  const std::int64_t size = record_size(layout_.dead, found);
  if (size < kRecordTail || size > data.stop - data.start) return std::nullopt;
  found = size > guess ? read(size) : found - (size - kRecordTail);
  const auto record = read_record({found, static_cast<std::size_t>(size)}, live, data.start, data.stop - size);
  if (record) data.stop -= size;
  return record;
}

// Changes and encodes the subchunks; their places in the index are those among themselves.
bool BoxUpdate::encode_subchunks() {
  for (const Placed& each : placed_) {
    if (!merge_subchunk(each)) return false;
    const bool kept = !is_fill();
    const std::size_t made = kept ? encode_row(added_) : 0;
    table_[2 * each.number] = kept ? static_cast<std::int64_t>(added_) : -1;
    table_[2 * each.number + 1] = kept ? static_cast<std::int64_t>(made) : -1;
    added_ += made;
  }
  return true;
}

// The old subchunk and the box.
bool BoxUpdate::merge_subchunk(const Placed& placed) {
  const std::int64_t offset = table_[2 * placed.number], used = table_[2 * placed.number + 1];
  if (placed.whole || used < 0) return merge(placed, {nullptr, 0});
  const auto size = static_cast<std::size_t>(used);
  if (size > layout_.stored_limit) return false;  // safety: native subchunk size
  const Byte* const data = old_->bytes(offset, used);
  return data && merge(placed, {data, size});
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

// Where subchunks are stored.
std::vector<Extent> BoxUpdate::live() const {
  std::vector<Extent> found;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry)
    if (table_[2 * entry + 1] > 0) found.push_back({table_[2 * entry], table_[2 * entry] + table_[2 * entry + 1]});
  in_order(found);
  return found;
}

// Where those are that are replaced, adjacent ones as one.
std::vector<Extent> BoxUpdate::dying() const {
  std::vector<Extent> all, found;
  for (const Placed& each : placed_) {
    const std::int64_t offset = table_[2 * each.number], size = table_[2 * each.number + 1];
    if (size > 0) all.push_back({offset, offset + size});
  }
  in_order(all);
  for (const Extent& each : all) {
    if (!found.empty() && found.back().stop == each.start) found.back().stop = each.stop;
    else found.push_back(each);
  }
  return found;
}

// Whether anything is stored now: else the shard is to be erased.
bool BoxUpdate::is_any_stored() const {
  if (!layout_.drop) return true;
  for (std::int64_t entry = 0; entry < layout_.entries; ++entry)
    if (table_[2 * entry + 1] >= 0) return true;
  return false;
}

}  // namespace zarrant
