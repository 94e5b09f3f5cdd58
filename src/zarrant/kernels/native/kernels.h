// What the parts of the compiled kernels offer each other.
//
// In come checked views of Python buffers, out go bytes written in place. Nothing here holds the GIL, starts a thread or
// keeps state but per thread. reference.py specifies every function.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace zarrant {

using Byte = std::uint8_t;

// NumPy's own limit (NPY_MAXDIMS since NumPy 2).
constexpr int kMaxAxes = 64;

// ── strided.cpp: one strided copy ──────────────────────────────────────────────────────────────────────────────────

// One loop of a copy: `count` steps, and the bytes to advance in each.
struct Loop {
  std::int64_t count;
  std::int64_t src;
  std::int64_t dst;
};

// How lines go through the caches. kStreamed: those of the destination past them, as they are not read soon. kPrefetched: those
// of the source are asked for some lines ahead.
enum class Lines { kCached, kStreamed, kPrefetched };

// Copies items of `itemsize` bytes over `loops` in the order that suits their strides. Loops of one step and loops that
// continue each other may be there. The regions must not overlap. After streamed lines, stream_fence() before others read.
void copy_strided(const Byte* src, Byte* dst, std::int64_t itemsize, Loop* loops, int axes, Lines lines);
void stream_fence();

// ── boxes.cpp: many boxes ──────────────────────────────────────────────────────────────────────────────────────────

struct Strided {
  Byte* data;
  int axes;
  std::int64_t itemsize;
  const std::ptrdiff_t* shape;
  const std::ptrdiff_t* strides;
  std::int64_t origin = 0;  // added to each offset, in bytes: where an array is a window of a larger one
};

struct Boxes {
  std::int64_t count;
  const std::int64_t* src_start;
  const std::int64_t* dst_start;
  const std::int64_t* shape;
  const std::int64_t* src_step;
  const std::int64_t* dst_step;
};

// Throws std::invalid_argument, before anything is copied, for a box that leaves `src` or `dst`.
void copy_boxes(const Strided& src, const Strided& dst, const Boxes& boxes);

// The two halves of copy_boxes, for callers that copy some boxes at a time: the check of all, and the copy of first..end.
void check_boxes(const Strided& src, const Strided& dst, const Boxes& boxes);
void copy_range(const Strided& src, const Strided& dst, const Boxes& boxes, std::int64_t first, std::int64_t end, Lines lines);

// ── outer.cpp: every combination of a segment of each axis ────────────────────────────────────────────────────────

// Of each row, and each axis but 0, the segments [begin, end) whose combinations are copied, in C order: a later one wins over an
// earlier one. `segments` has columns of one axis, the steps one number for each axis.
struct Outer {
  const std::int64_t* spans = nullptr;
  Boxes segments{};
};

// Bytes start..stop of a row.
struct Part {
  std::size_t start, stop;
};

// One of `src` and `dst` has `rows` rows. Throws std::invalid_argument for a segment of one that is not there, or leaves either.
void check_outer(const Strided& src, const Strided& dst, const Outer& outer, std::int64_t rows);
// The bytes of a row of `size` bytes from the first to the last that is copied.
Part reach_of(const Strided& rows, const Outer& outer, std::int64_t row, std::size_t size);
// Those of row `row`, which begins at the origin of `src` or `dst`.
void copy_outer(const Strided& src, const Strided& dst, const Outer& outer, std::int64_t row);

// ── bytes.cpp: plain byte work ─────────────────────────────────────────────────────────────────────────────────────

std::uint32_t crc32c(const Byte* data, std::size_t size, std::uint32_t value);

// Numbers in stored bytes are little-endian whatever the machine is.
template <typename Number>
Number load_little(const Byte* from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i) value |= static_cast<std::uint64_t>(from[i]) << (8 * i);
  return static_cast<Number>(value);
}

template <typename Number>
void store_little(Number number, Byte* into) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) into[i] = static_cast<Byte>(static_cast<std::uint64_t>(number) >> (8 * i));
}

// Reverses each `word` bytes; `src` and `dst` are the same place or do not overlap.
void swap_words(const Byte* src, Byte* dst, std::size_t size, std::size_t word);

bool is_repetition(const Byte* row, std::size_t size, const Byte* fill, std::size_t fill_size);

struct Span {
  const Byte* data;
  std::size_t size;
};

// Copies the spans back to back to `dst`, which is large enough for all and overlaps none.
void pack(const std::vector<Span>& spans, Byte* dst);

// ── compressors.cpp: one row, one library call ─────────────────────────────────────────────────────────────────────

enum Opcode : std::int64_t { kSwap = 1, kBlosc = 2, kZstd = 3, kGzip = 4, kCrc32c = 5, kExternal = 6 };

struct Step {
  std::int64_t code;
  std::array<std::int64_t, 5> with;
};

using Program = std::vector<Step>;

// What an external step is made of; external.py says what they promise.
using ExternalCode = std::int64_t (*)(const Byte* source, std::int64_t size, Byte* target, std::int64_t capacity,
                                      std::int64_t parameter);
using ExternalBound = std::int64_t (*)(std::int64_t size, std::int64_t parameter);

// Stored bytes that do not decode; what() is the reason.
struct BadData : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void too_large(const char* what, std::size_t limit);

// The names of the steps and of the compressors inside Blosc frames, and whether they are built in.
std::vector<std::pair<std::string, bool>> features();

// The compression libraries, each with its version and where it comes from.
std::vector<std::pair<std::string, std::string>> libraries();

std::size_t compressed_bound(const Step& step, std::size_t size);

// `dst` has compressed_bound() bytes; returns the bytes written.
std::size_t compress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity);

// Returns the bytes written, at most `limit`, which `dst` has. Throws BadData.
std::size_t decompress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t limit);

// Decodes at least the bytes of `part` to their places in `dst`, which has `full` bytes, where `src` consists of blocks, decodes to
// so many, and has no checksum of all. False if it does not, for any fault, and where no block can be left out: decompress() then
// does all. What is left out is not looked at, and the other bytes of `dst` are anything.
bool decompress_part(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t full, Part part);

// ── program.cpp: a program over rows ───────────────────────────────────────────────────────────────────────────────

struct Failure {
  std::int64_t row;
  std::int64_t step;
  std::string reason;
};

std::size_t encoded_bound(const Program& program, std::size_t steps, std::size_t size);

// Writes the encoded rows back to back into `arena`, which has encoded_bound() bytes for each kept row; returns the bytes
// written. `keep` may be null; sizes[i] is -1 for a row that is not kept.
std::size_t encode(const Program& program, const Byte* rows, std::int64_t count, std::size_t size, const Byte* keep,
                   Byte* arena, std::int64_t* sizes);

std::vector<Failure> decode(const Program& program, const std::vector<Span>& spans, Byte* rows, std::ptrdiff_t pitch,
                            std::size_t size, bool check);

// One row of encode(): for each number of steps, the most bytes after them; then the row. Both use scratch of the thread.
std::vector<std::size_t> encoded_bounds(const Program& program, std::size_t size);
std::size_t encode_one(const Program& program, const std::vector<std::size_t>& bounds, const Byte* row, std::size_t size,
                       Byte* place);

// One row of decode(): the limits of all steps; then the row, true if it decoded, else `failure` has all but the row. `word`:
// of a byte swap before the program, which the caller undoes, as step -1; or 0. `part`: of the row, what is needed of it.
std::vector<std::size_t> decode_limits(const Program& program, std::size_t size);
bool decode_one(const Program& program, const std::vector<std::size_t>& limits, Span span, Byte* row, std::size_t size, Part part,
                bool check, std::size_t word, Failure& failure);
bool has_length(std::size_t found, std::size_t size, const Program& program, std::size_t word, Failure& failure);
// Gives back scratch of the thread that is larger than is worth keeping.
void trim_scratch();

// ── fused.cpp: boxes to encoded rows and back ──────────────────────────────────────────────────────────────────────

// Rows in the dimensions of an array: rows of `size` bytes from `data` on, and a view of the same memory whose axis 0 counts
// rows. `room` rows are there; a batch of more goes through them in groups.
struct RowView {
  Byte* data;
  std::size_t size;
  std::int64_t room;
  Strided seen;
};

// `count` rows of a batch. `boxes` are in the order of their rows, and axis 0 of their start on the side of the rows is the
// number of the row; each touches one row. `fill` is one element. `outer` may be there, and no boxes then.
struct RowBatch {
  std::int64_t count;
  Boxes boxes;
  const Byte* fill;
  Outer outer{};
};

// Encoded rows of a batch, with their numbers in ascending order. `check`: whether checksums are compared.
struct StoredRows {
  const std::vector<Span>& spans;
  const std::int64_t* numbers;
  bool check;
};

// Gathers boxes of `values` to rows and encodes these back to back into `arena`, as encode() does; returns the bytes written. A row
// is what is in `old` where no box lies; one that is not there, and not `covered`, is fill. With `drop` rows of nothing but fill
// are not kept. Ends with the first old row that fails, which is added to `failures`.
std::size_t encode_boxes(const Program& program, const Strided& values, const RowView& rows, const RowBatch& batch,
                         const StoredRows& old, const Byte* covered, bool drop, Byte* arena, std::int64_t* sizes,
                         std::vector<Failure>& failures);

// Decodes rows, and scatters the boxes of all rows to `out`; those that are not `stored` are fill. Ends with the first row that
// fails, which it returns; of the group of that row nothing is copied. Blocks of a row in which no box lies are left out
// (decompress_part).
std::vector<Failure> decode_boxes(const Program& program, const StoredRows& stored, const RowView& rows, const RowBatch& batch,
                                  const Strided& out);

// ── plans.cpp: indexes of shards, and the subchunks of a box ───────────────────────────────────────────────────────

// Where a box of a shard lies, and how the shard is cut; `axes` numbers each.
struct ShardBox {
  int axes;
  const std::int64_t *start, *count, *value;  // of the box in the shard; of its first element in the values
  const std::int64_t *edge, *grid;            // the shape of a subchunk, and how many there are
};

// Whether every entry (offset, size) is -1, -1 or lies in start..stop, and no two entries with bytes overlap.
bool valid_index(const std::int64_t* table, std::int64_t entries, std::int64_t start, std::int64_t stop);

// The index of a shard: -1 stands for a subchunk that is not stored, less for an entry at fault. Its columns may be those of a table.
struct IndexColumn {
  const Byte* data;
  std::ptrdiff_t stride;
  std::int64_t operator[](std::int64_t entry) const {
    return *reinterpret_cast<const std::int64_t*>(data + static_cast<std::ptrdiff_t>(entry) * stride);
  }
};
struct ShardIndex {
  std::int64_t entries;
  IndexColumn offset, size;
};

// Columns of `count` rows: the boxes with an axis 0 more, as of a RowBatch, and the stored rows.
struct BoxPlan {
  std::int64_t *value_start, *row_start, *shape;
  std::int64_t *number, *which, *offset, *size;
};

// How many subchunks a box touches. Throws std::invalid_argument for one that is not there.
std::int64_t count_touched(const ShardBox& box, std::int64_t entries);

// The touched subchunks first..end, in C order, as rows of a batch. Adjacent ones are one run (start, length), in the order of
// offsets; `offset` counts from the start of the run `which`. Returns the number of stored rows, or -1 for an entry that is at
// fault or has more than `limit` bytes. Throws std::invalid_argument for a box, or rows, that are not there.
std::int64_t plan_box(const ShardBox& box, const ShardIndex& index, std::int64_t limit, std::int64_t first, std::int64_t end,
                      const BoxPlan& plan, std::vector<std::pair<std::int64_t, std::int64_t>>& runs);

}  // namespace zarrant
