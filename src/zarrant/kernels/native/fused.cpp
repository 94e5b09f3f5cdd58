// Boxes of an array to encoded rows, and back, a few rows at a time: what was gathered is tested and encoded, and what was
// decoded is scattered, while it is in the cache. The copies are those of boxes.cpp, the rows those of program.cpp.
#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace zarrant {
namespace {

// Bytes of a long row that are gathered or scattered at a time.
constexpr std::int64_t kSlab = 256 << 10;
// Of rows with fewer bytes no blocks are left out: most compressors make one of them.
constexpr std::size_t kPartial = 64 << 10;
// The boxes of a call with fewer bytes stay in the caches, where the caller may want them.
constexpr double kStreamedBytes = 2 << 20;

struct Trimmed {
  ~Trimmed() { trim_scratch(); }
};

struct Fenced {
  ~Fenced() { stream_fence(); }
};

// A byte swap within elements, at the start of a program, is done where the row is, just after the gather and just before the
// scatter.
struct Split {
  Split(const Program& program, std::int64_t itemsize) : rest(program) {
    if (rest.empty() || rest.front().code != kSwap || itemsize % rest.front().with[0]) return;
    word = static_cast<std::size_t>(rest.front().with[0]);
    rest.erase(rest.begin());
  }
  Program rest;
  std::size_t word = 0;
};

// The rows as an array of all rows of the batch, of which only those from `first` on have memory.
class AllRows {
 public:
  AllRows(const RowView& rows, std::int64_t count) : array_(rows.seen), pitch_(static_cast<std::int64_t>(rows.size)) {
    std::copy(array_.shape, array_.shape + array_.axes, shape_.begin());
    std::copy(array_.strides, array_.strides + array_.axes, strides_.begin());
    shape_[0] = count;
    strides_[0] = pitch_;
    array_.shape = shape_.data();
    array_.strides = strides_.data();
  }
  AllRows(const AllRows&) = delete;
  AllRows& operator=(const AllRows&) = delete;

  const Strided& from(std::int64_t first) {
    array_.origin = -first * pitch_;
    return array_;
  }

  // The axis of which a row stores its largest pieces; 0 where it is one element.
  int outermost() const {
    int best = 0;
    for (int axis = 1; axis < array_.axes; ++axis)
      if (shape_[axis] > 1 && (best == 0 || strides_[axis] > strides_[best])) best = axis;
    return best;
  }

 private:
  Strided array_;
  std::int64_t pitch_;
  std::array<std::ptrdiff_t, kMaxAxes> shape_, strides_;
};

// The encoded rows of a batch, up to the byte swap, which is left to the caller.
class RowDecoder {
 public:
  RowDecoder(const Split& split, const StoredRows& stored, std::size_t size, std::int64_t count)
      : split_(split), stored_(stored), size_(size), limits_(decode_limits(split.rest, size)) {
    const std::int64_t* numbers = stored.numbers;
    for (std::size_t i = 0; i < stored.spans.size(); ++i)
      if (numbers[i] < 0 || numbers[i] >= count || (i && numbers[i] <= numbers[i - 1]))
        throw std::invalid_argument("expected the rows of spans in ascending order");
  }

  // Whether span `span` is the one of a row.
  bool has(std::size_t span, std::int64_t row) const { return span < stored_.spans.size() && stored_.numbers[span] == row; }

  // The first span from `span` on that is of row `row` or a later one.
  std::size_t skip(std::size_t span, std::int64_t row) const {
    while (span < stored_.spans.size() && stored_.numbers[span] < row) ++span;
    return span;
  }

  bool decode(std::size_t span, Byte* row, Part part, Failure& failure) const {
    const bool good = decode_one(split_.rest, limits_, stored_.spans[span], row, size_, part, stored_.check, split_.word, failure);
    return good || failed(span, failure);
  }

  // The bytes of a row that is stored as it is, but for a swap; null where there are not as many as there should be.
  const Byte* plain(std::size_t span, Failure& failure) const {
    if (has_length(stored_.spans[span].size, size_, split_.rest, split_.word, failure)) return stored_.spans[span].data;
    failed(span, failure);
    return nullptr;
  }

 private:
  bool failed(std::size_t span, Failure& failure) const {
    failure.row = static_cast<std::int64_t>(span);
    if (split_.word) ++failure.step;
    return false;
  }

  const Split& split_;
  const StoredRows& stored_;
  const std::size_t size_;
  const std::vector<std::size_t> limits_;
};

// Row `row` of an array of rows, as an array of one.
Strided one_row(const Strided& rows, std::int64_t row) {
  Strided only = rows;
  only.origin += row * rows.strides[0];
  return only;
}

void check_rows(const Boxes& boxes, const std::int64_t* starts, int axes) {
  for (std::int64_t box = 0; box < boxes.count; ++box) {
    if (boxes.shape[box * axes] != 1) throw std::invalid_argument("box " + std::to_string(box) + " is not in one row");
    if (box > 0 && starts[box * axes] < starts[(box - 1) * axes])
      throw std::invalid_argument("box " + std::to_string(box) + " is of an earlier row than the one before it");
  }
}

// The first box from `box` on that is of row `row` or a later one.
std::int64_t skip_boxes(const Boxes& boxes, const std::int64_t* starts, int axes, std::int64_t box, std::int64_t row) {
  while (box < boxes.count && starts[box * axes] < row) ++box;
  return box;
}

// Whether a box is all of a row.
bool is_row(const Boxes& boxes, const std::int64_t* starts, const std::int64_t* steps, const Strided& rows, std::int64_t box) {
  const std::int64_t at = box * rows.axes;
  for (int axis = 1; axis < rows.axes; ++axis)
    if (boxes.shape[at + axis] != rows.shape[axis] || starts[at + axis] != 0 || (rows.shape[axis] > 1 && steps[axis] != 1))
      return false;
  return true;
}

double bytes_of(const Boxes& boxes, const Strided& array) {
  double total = 0;
  for (std::int64_t box = 0; box < boxes.count; ++box) {
    double bytes = static_cast<double>(array.itemsize);
    for (int axis = 0; axis < array.axes; ++axis) bytes *= static_cast<double>(boxes.shape[box * array.axes + axis]);
    total += bytes;
  }
  return total;
}

void repeat(Byte* row, std::size_t size, const Byte* fill, std::size_t fill_size) {
  if (size == 0) return;
  std::memcpy(row, fill, fill_size);
  for (std::size_t done = fill_size; done < size;) {
    const std::size_t more = std::min(done, size - done);
    std::memcpy(row + done, row, more);
    done += more;
  }
}

// Cuts box `box`, which is all of a row, along `axis` of the row, and hands each piece on, with where it lies in the row.
template <typename Work>
void each_slab(const Boxes& boxes, std::int64_t box, int axes, int axis, std::int64_t stride, const Work& work) {
  const std::int64_t at = box * axes;
  std::vector<std::int64_t> shape(boxes.shape + at, boxes.shape + at + axes),
      src(boxes.src_start + at, boxes.src_start + at + axes), dst(boxes.dst_start + at, boxes.dst_start + at + axes);
  const Boxes piece{1, src.data(), dst.data(), shape.data(), boxes.src_step, boxes.dst_step};
  const std::int64_t length = shape[axis], most = std::max<std::int64_t>(1, kSlab / stride);
  for (std::int64_t done = 0; done < length; done += most) {
    shape[axis] = std::min(most, length - done);
    work(piece, static_cast<std::size_t>(done * stride), static_cast<std::size_t>(shape[axis] * stride));
    src[axis] += shape[axis] * boxes.src_step[axis];
    dst[axis] += shape[axis] * boxes.dst_step[axis];
  }
}

// ── encode ─────────────────────────────────────────────────────────────────────────────────────────────────────────

class Encoder {
 public:
  Encoder(const Program& program, const Strided& values, const RowView& rows, const RowBatch& batch, const StoredRows& old,
          const Byte* covered, bool drop)
      : split_(program, values.itemsize), bounds_(encoded_bounds(split_.rest, rows.size)), old_(split_, old, rows.size, batch.count),
        values_(values), rows_(rows), batch_(batch), covered_(covered), drop_(drop), all_(rows, batch.count) {
    check_boxes(values, all_.from(0), batch.boxes);
    check_rows(batch.boxes, batch.boxes.dst_start, values.axes);
    if (batch.outer.spans) check_outer(values, all_.from(0), batch.outer, batch.count);
  }

  std::size_t run(Byte* arena, std::int64_t* sizes, std::vector<Failure>& failures) {
    std::size_t total = 0, span = 0;
    std::int64_t box = 0;
    for (std::int64_t first = 0; first < batch_.count; first += rows_.room) {
      const std::int64_t count = std::min(rows_.room, batch_.count - first);
      const std::int64_t end = skip_boxes(batch_.boxes, batch_.boxes.dst_start, values_.axes, box, first + count);
      if (count == 1 && !old_.has(span, first) && long_row(first, box, end)) {
        sizes[first] = gather_row(first, box) ? -1 : encode_row(rows_.data, arena + total);
        total += static_cast<std::size_t>(std::max<std::int64_t>(sizes[first], 0));
      } else {
        Failure failure;
        if (!gather(first, count, box, end, span, failure)) {
          failures.push_back(failure);
          return total;
        }
        for (std::int64_t i = 0; i < count; ++i) {
          Byte* row = rows_.data + static_cast<std::size_t>(i) * rows_.size;
          const bool dropped = drop_ && is_fill(row, rows_.size);
          if (!dropped && split_.word) swap_words(row, row, rows_.size, split_.word);
          sizes[first + i] = dropped ? -1 : encode_row(row, arena + total);
          total += static_cast<std::size_t>(std::max<std::int64_t>(sizes[first + i], 0));
        }
      }
      box = end;
      span = old_.skip(span, first + count);
    }
    return total;
  }

 private:
  bool is_fill(const Byte* bytes, std::size_t size) const {
    return is_repetition(bytes, size, batch_.fill, static_cast<std::size_t>(values_.itemsize));
  }

  std::int64_t encode_row(const Byte* row, Byte* place) const {
    return static_cast<std::int64_t>(encode_one(split_.rest, bounds_, row, rows_.size, place));
  }

  // Fills the rows from `first` on, with what is old and with boxes; false where an old one fails.
  bool gather(std::int64_t first, std::int64_t count, std::int64_t box, std::int64_t end, std::size_t span, Failure& failure) {
    for (std::int64_t i = 0; i < count; ++i) {
      Byte* row = rows_.data + static_cast<std::size_t>(i) * rows_.size;
      if (old_.has(span, first + i)) {
        if (!old_.decode(span++, row, {0, rows_.size}, failure)) return false;
        if (split_.word) swap_words(row, row, rows_.size, split_.word);
      } else if (!covered_[first + i]) {
        repeat(row, rows_.size, batch_.fill, static_cast<std::size_t>(values_.itemsize));
      }
    }
    const Strided& into = all_.from(first);
    copy_range(values_, into, batch_.boxes, box, end, Lines::kPrefetched);
    if (!batch_.outer.spans) return true;
    for (std::int64_t row = first; row < first + count; ++row) copy_outer(values_, one_row(into, row), batch_.outer, row);
    return true;
  }

  bool long_row(std::int64_t row, std::int64_t box, std::int64_t end) {
    const Boxes& boxes = batch_.boxes;
    return end == box + 1 && covered_[row] && static_cast<std::int64_t>(rows_.size) > kSlab && all_.outermost() &&
           is_row(boxes, boxes.dst_start, boxes.dst_step, all_.from(row), box);
  }

  // Gathers a long row piece by piece; returns whether it is dropped. A row that is not dropped is swapped.
  bool gather_row(std::int64_t row, std::int64_t box) {
    const Strided& into = all_.from(row);
    const int axis = all_.outermost();
    bool all_fill = drop_;
    std::size_t waiting = 0;  // bytes that are not swapped yet, as the row may turn out to be fill
    each_slab(batch_.boxes, box, into.axes, axis, into.strides[axis], [&](const Boxes& piece, std::size_t at, std::size_t size) {
      copy_range(values_, into, piece, 0, 1, Lines::kPrefetched);
      all_fill = all_fill && is_fill(rows_.data + at, size);
      waiting += size;
      if (all_fill || !split_.word) return;
      swap_words(rows_.data + at + size - waiting, rows_.data + at + size - waiting, waiting, split_.word);
      waiting = 0;
    });
    return all_fill;
  }

  const Split split_;
  const std::vector<std::size_t> bounds_;
  const RowDecoder old_;
  const Strided& values_;
  const RowView& rows_;
  const RowBatch& batch_;
  const Byte* covered_;
  const bool drop_;
  AllRows all_;
};

// ── decode ─────────────────────────────────────────────────────────────────────────────────────────────────────────

class Decoder {
 public:
  Decoder(const Program& program, const StoredRows& stored, const RowView& rows, const RowBatch& batch, const Strided& out)
      : split_(program, out.itemsize), stored_(split_, stored, rows.size, batch.count), rows_(rows), batch_(batch), out_(out),
        all_(rows, batch.count), lines_(bytes_of(batch.boxes, out) >= kStreamedBytes ? Lines::kStreamed : Lines::kCached) {
    check_boxes(all_.from(0), out, batch.boxes);
    check_rows(batch.boxes, batch.boxes.src_start, out.axes);
    if (batch.outer.spans) check_outer(all_.from(0), out, batch.outer, batch.count);
  }

  std::vector<Failure> run() {
    const Fenced fenced;
    std::int64_t box = 0;
    std::size_t span = 0;
    for (std::int64_t first = 0; first < batch_.count; first += rows_.room) {
      const std::int64_t count = std::min(rows_.room, batch_.count - first);
      const std::int64_t end = skip_boxes(batch_.boxes, batch_.boxes.src_start, out_.axes, box, first + count);
      const bool stored = stored_.has(span, first);
      Failure failure;
      bool good = true;
      if (count == 1 && stored && split_.rest.empty() && !split_.word)
        good = scatter_stored(first, box, end, span, failure);
      else if (count == 1 && stored && long_row(first, box, end))
        good = scatter_row(first, box, span, failure);
      else
        good = group(first, count, box, end, span, failure);
      if (!good) return {failure};
      box = end;
      span = stored_.skip(span, first + count);
    }
    return {};
  }

 private:
  // The bytes of row `row` from the first to the last that a box has, where it may be worth to decode no more of it. `box`: where
  // those of the row begin, and then where they end.
  Part needed(std::int64_t row, std::int64_t& box, std::int64_t end) {
    const std::int64_t first = box;
    box = std::min(end, skip_boxes(batch_.boxes, batch_.boxes.src_start, out_.axes, box, row + 1));
    if (rows_.size < kPartial) return {0, rows_.size};
    const Strided& rows = all_.from(row);
    if (batch_.outer.spans) return reach_of(rows, batch_.outer, row, rows_.size);
    std::int64_t start = static_cast<std::int64_t>(rows_.size), stop = 0;
    for (std::int64_t each = first; each < box; ++each) {
      const std::int64_t at = each * out_.axes;
      std::int64_t low = 0, high = out_.itemsize;
      bool empty = false;
      for (int axis = 1; axis < out_.axes; ++axis) {
        const std::int64_t count = batch_.boxes.shape[at + axis], from = batch_.boxes.src_start[at + axis];
        const std::int64_t last = from + (count - 1) * batch_.boxes.src_step[axis];
        empty = empty || count < 1;
        low += std::min(from, last) * rows.strides[axis];
        high += std::max(from, last) * rows.strides[axis];
      }
      if (empty) continue;
      start = std::min(start, low);
      stop = std::max(stop, high);
    }
    if (start >= stop) return {0, rows_.size};
    return {static_cast<std::size_t>(start), static_cast<std::size_t>(stop)};
  }

  bool group(std::int64_t first, std::int64_t count, std::int64_t box, std::int64_t end, std::size_t span, Failure& failure) {
    for (std::int64_t i = 0, at = box; i < count; ++i) {
      Byte* row = rows_.data + static_cast<std::size_t>(i) * rows_.size;
      const Part part = needed(first + i, at, end);
      if (stored_.has(span, first + i)) {
        if (!stored_.decode(span++, row, part, failure)) return false;
        if (split_.word) swap_words(row + part.start, row + part.start, part.stop - part.start, split_.word);
      } else {
        repeat(row, rows_.size, batch_.fill, static_cast<std::size_t>(out_.itemsize));
      }
    }
    scatter(all_.from(first), first, count, box, end);
    return true;
  }

  // Copies the boxes box..end, which are those of `count` rows from `first` on, or what there is of these rows in their place.
  void scatter(const Strided& from, std::int64_t first, std::int64_t count, std::int64_t box, std::int64_t end) const {
    copy_range(from, out_, batch_.boxes, box, end, lines_);
    if (!batch_.outer.spans) return;
    for (std::int64_t row = first; row < first + count; ++row) copy_outer(one_row(from, row), out_, batch_.outer, row);
  }

  bool long_row(std::int64_t row, std::int64_t box, std::int64_t end) {
    const Boxes& boxes = batch_.boxes;
    return end == box + 1 && static_cast<std::int64_t>(rows_.size) > kSlab && all_.outermost() &&
           is_row(boxes, boxes.src_start, boxes.src_step, all_.from(row), box);
  }

  // A row that is stored as it is.
  bool scatter_stored(std::int64_t row, std::int64_t box, std::int64_t end, std::size_t span, Failure& failure) {
    const Byte* bytes = stored_.plain(span, failure);
    if (!bytes) return false;
    Strided from = all_.from(row);
    from.data = const_cast<Byte*>(bytes);
    scatter(from, row, 1, box, end);
    return true;
  }

  // A long row piece by piece: decoded (or where it is stored), swapped, scattered.
  bool scatter_row(std::int64_t row, std::int64_t box, std::size_t span, Failure& failure) {
    const Strided& from = all_.from(row);
    const int axis = all_.outermost();
    const bool stored = split_.rest.empty();
    Byte* straight = in_place(from, box);
    Byte* place = straight ? straight : rows_.data;
    const Byte* source = stored ? stored_.plain(span, failure) : place;
    if (!source || (!stored && !stored_.decode(span, place, {0, rows_.size}, failure))) return false;
    if (straight && !split_.word) return true;
    each_slab(batch_.boxes, box, from.axes, axis, from.strides[axis], [&](const Boxes& piece, std::size_t at, std::size_t size) {
      if (split_.word) swap_words(source + at, place + at, size, split_.word);
      if (!straight) copy_range(from, out_, piece, 0, 1, lines_);
    });
    return true;
  }

  // Where a row may be decoded to at once, as the box has the layout of the row in `out`; null where it has another.
  Byte* in_place(const Strided& rows, std::int64_t box) const {
    const std::int64_t at = box * rows.axes;
    std::int64_t offset = 0;
    for (int axis = 0; axis < rows.axes; ++axis) {
      const bool same = out_.strides[axis] * batch_.boxes.dst_step[axis] == rows.strides[axis];
      if (axis > 0 && rows.shape[axis] > 1 && !same) return nullptr;
      offset += batch_.boxes.dst_start[at + axis] * out_.strides[axis];
    }
    return out_.data + out_.origin + offset;
  }

  const Split split_;
  const RowDecoder stored_;
  const RowView& rows_;
  const RowBatch& batch_;
  const Strided& out_;
  AllRows all_;
  const Lines lines_;
};

}  // namespace

std::size_t encode_boxes(const Program& program, const Strided& values, const RowView& rows, const RowBatch& batch,
                         const StoredRows& old, const Byte* covered, bool drop, Byte* arena, std::int64_t* sizes,
                         std::vector<Failure>& failures) {
  const Trimmed scratch;
  return Encoder(program, values, rows, batch, old, covered, drop).run(arena, sizes, failures);
}

std::vector<Failure> decode_boxes(const Program& program, const StoredRows& stored, const RowView& rows, const RowBatch& batch,
                                  const Strided& out) {
  const Trimmed scratch;
  return Decoder(program, stored, rows, batch, out).run();
}

}  // namespace zarrant
