// The Python side: takes buffers apart, checks what memory safety needs, releases the GIL, calls a kernel.
#include <Python.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "elements.h"
#include "files.h"
#include "kernels.h"

namespace nb = nanobind;
using namespace zarrant;

namespace {

// A buffer of a Python object, released with this. The GIL is views at both ends.
class Buffer {
 public:
  Buffer(nb::handle object, int flags) {
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
      PyErr_Clear();  // NumPy says BufferError or ValueError as the flag may be: one kind for callers
      throw std::invalid_argument((flags & PyBUF_WRITABLE) ? "expected a writable array" : "expected an array or a buffer");
    }
  }
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : view_(other.view_) { other.view_.obj = nullptr; }
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (view_.obj) PyBuffer_Release(&view_);
  }

  const Py_buffer& operator*() const { return view_; }
  const Py_buffer* operator->() const { return &view_; }
  Byte* data() const { return static_cast<Byte*>(view_.buf); }

 private:
  Py_buffer view_{};
};

void require(bool fulfilled, const char* expected) {
  if (!fulfilled) throw std::invalid_argument(std::string("expected ") + expected);
}

bool has_int64(const Buffer& buffer) {
  const char* format = buffer->format ? buffer->format : "";
  return buffer->itemsize == 8 && (format[0] == 'l' || format[0] == 'q') && format[1] == 0;
}

// An int64 column or table, C-contiguous.
struct Column {
  Column(nb::handle object, int axes, bool writable = false)
      : buffer(object, (writable ? PyBUF_WRITABLE : 0) | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) {
    require(has_int64(buffer) && buffer->ndim == axes, axes == 1 ? "a contiguous column of int64" : "a C-contiguous table of int64");
  }
  std::int64_t* data() const { return reinterpret_cast<std::int64_t*>(buffer.data()); }
  std::int64_t count(int axis = 0) const { return buffer->shape[axis]; }

  Buffer buffer;
};

// Rows of uint8, each contiguous.
struct Rows {
  Rows(nb::handle object, bool writable)
      : buffer(object, (writable ? PyBUF_WRITABLE : 0) | PyBUF_FORMAT | PyBUF_STRIDES) {
    const bool bytes = buffer->itemsize == 1 && buffer->format && buffer->format[0] == 'B' && buffer->format[1] == 0;
    require(bytes && buffer->ndim == 2 && (buffer->shape[1] <= 1 || buffer->strides[1] == 1), "contiguous rows of uint8");
  }
  Byte* data() const { return buffer.data(); }
  std::int64_t count() const { return buffer->shape[0]; }
  std::size_t size() const { return static_cast<std::size_t>(buffer->shape[1]); }
  std::ptrdiff_t pitch() const { return buffer->strides[0]; }
  bool contiguous() const { return count() <= 1 || pitch() == buffer->shape[1]; }

  Buffer buffer;
};

Program parse(nb::tuple steps) {
  Program program;
  for (nb::handle item : steps) {
    nb::tuple numbers = nb::cast<nb::tuple>(item);
    require(numbers.size() >= 1 && numbers.size() <= 6, "steps of one to six numbers");
    Step step{nb::cast<std::int64_t>(numbers[0]), {}};
    for (std::size_t i = 1; i < numbers.size(); ++i) step.with[i - 1] = nb::cast<std::int64_t>(numbers[i]);
    program.push_back(step);
  }
  return program;
}

// The bytes between which the elements of an array lie.
std::pair<const Byte*, const Byte*> reach(const Py_buffer& view) {
  const Byte* low = static_cast<const Byte*>(view.buf);
  const Byte* high = low + view.itemsize;
  for (int axis = 0; axis < view.ndim; ++axis) {
    if (view.shape[axis] == 0) return {nullptr, nullptr};
    const std::ptrdiff_t span = (view.shape[axis] - 1) * view.strides[axis];
    (span < 0 ? low : high) += span;
  }
  return {low, high};
}

Strided strided(const Buffer& buffer) {
  return {buffer.data(), buffer->ndim, buffer->itemsize, buffer->shape, buffer->strides};
}

// Without the GIL, unless it is held.
class Released {
 public:
  explicit Released(bool held) : state_(held ? nullptr : PyEval_SaveThread()) {}
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;
  ~Released() {
    if (state_) PyEval_RestoreThread(state_);
  }

 private:
  PyThreadState* state_;
};

constexpr std::int64_t kHeldBytes = 1 << 17;  // read, copied or compared in 5 to 20 us; handing the GIL on takes 50 and more

bool is_brief(std::size_t bytes) { return bytes <= static_cast<std::size_t>(kHeldBytes); }

void py_copy_boxes(nb::handle src, nb::handle src_start, nb::handle src_step, nb::handle dst, nb::handle dst_start,
                   nb::handle dst_step, nb::handle shape) {
  const Buffer from(src, PyBUF_STRIDES), into(dst, PyBUF_STRIDES | PyBUF_WRITABLE);
  require(from->ndim == into->ndim && from->ndim <= kMaxAxes, "a source and a destination with equally many axes");
  require(from->itemsize == into->itemsize && from->itemsize > 0, "a source and a destination of equal item size");
  const auto [src_low, src_high] = reach(*from);
  const auto [dst_low, dst_high] = reach(*into);
  require(src_high <= dst_low || dst_high <= src_low, "a source and a destination that share no memory");
  const Column shapes(shape, 2), src_starts(src_start, 2), dst_starts(dst_start, 2), src_steps(src_step, 1),
      dst_steps(dst_step, 1);
  const std::int64_t count = shapes.count(), axes = from->ndim;
  for (const Column* table : {&shapes, &src_starts, &dst_starts})
    require(table->count(0) == count && table->count(1) == axes, "as many starts as shapes, one number an axis");
  require(src_steps.count() == axes && dst_steps.count() == axes, "one step an axis");
  const Boxes boxes{count, src_starts.data(), dst_starts.data(), shapes.data(), src_steps.data(), dst_steps.data()};
  nb::gil_scoped_release released;
  copy_boxes(strided(from), strided(into), boxes);
}

void py_equals_fill(nb::handle rows, nb::bytes fill, nb::handle result) {
  const Rows table(rows, false);
  const Buffer flags(result, PyBUF_WRITABLE);
  const auto* pattern = static_cast<const Byte*>(fill.data());
  const std::size_t size = fill.size();
  require(size > 0 && table.size() % size == 0, "rows that are a repetition of the fill value");
  require(flags->len == table.count(), "a flag a row");
  const Released released(is_brief(table.size() * static_cast<std::size_t>(table.count())));
  for (std::int64_t i = 0; i < table.count(); ++i)
    flags.data()[i] = is_repetition(table.data() + i * table.pitch(), table.size(), pattern, size);
}

std::size_t py_encode(nb::tuple steps, nb::handle rows, nb::handle keep, nb::handle arena, nb::handle sizes) {
  const Program program = parse(steps);
  const Rows table(rows, false);
  require(table.contiguous(), "C-contiguous rows");
  const Column column(sizes, 1, true);
  const Buffer place(arena, PyBUF_WRITABLE);
  std::vector<Buffer> kept;
  if (!keep.is_none()) kept.emplace_back(keep, PyBUF_SIMPLE);
  require(column.count() == table.count() && (kept.empty() || kept[0]->len == table.count()), "a size and a flag a row");
  const Byte* flags = kept.empty() ? nullptr : kept[0].data();
  std::int64_t count = table.count();
  if (flags) {
    count = 0;
    for (std::int64_t i = 0; i < table.count(); ++i) count += flags[i] != 0;
  }
  const std::size_t bound = encoded_bound(program, program.size(), table.size());
  std::size_t needed = 0;
  const bool fits = !__builtin_mul_overflow(bound, static_cast<std::size_t>(count), &needed) &&
                    needed <= static_cast<std::size_t>(place->len);
  require(fits, "an arena that is large enough for every row");
  nb::gil_scoped_release released;
  return encode(program, table.data(), table.count(), table.size(), flags, place.data(), column.data());
}

// Buffers, and one span of one of them a row.
struct Sources {
  Sources(nb::sequence buffers, nb::handle which, nb::handle offset, nb::handle size)
      : owners(which, 1), offsets(offset, 1), sizes(size, 1) {
    for (nb::handle buffer : buffers) views.emplace_back(buffer, PyBUF_SIMPLE);
    require(offsets.count() == count() && sizes.count() == count(), "a span a row");
  }
  std::int64_t count() const { return owners.count(); }
  std::vector<Span> spans() const {
    std::vector<Span> found(static_cast<std::size_t>(count()));
    for (std::int64_t i = 0; i < count(); ++i) {
      const std::int64_t owner = owners.data()[i], first = offsets.data()[i], length = sizes.data()[i];
      const bool known = owner >= 0 && owner < static_cast<std::int64_t>(views.size());
      if (!known || first < 0 || length < 0 || first > views[owner]->len || length > views[owner]->len - first)
        throw std::invalid_argument("row " + std::to_string(i) + ": span (" + std::to_string(owner) + ", " +
                                    std::to_string(first) + ", " + std::to_string(length) + ") is outside of the buffers");
      found[static_cast<std::size_t>(i)] = {views[owner].data() + first, static_cast<std::size_t>(length)};
    }
    return found;
  }

  std::vector<Buffer> views;
  const Column owners, offsets, sizes;
};

nb::list listed(const std::vector<Failure>& failures) {
  nb::list result;
  for (const Failure& failure : failures) result.append(nb::make_tuple(failure.row, failure.step, failure.reason));
  return result;
}

nb::list py_decode(nb::tuple steps, nb::sequence buffers, nb::handle which, nb::handle offset, nb::handle size,
                   nb::handle rows, bool check) {
  const Program program = parse(steps);
  const Rows table(rows, true);
  const Sources sources(buffers, which, offset, size);
  require(sources.count() == table.count(), "a span a row");
  std::vector<Failure> failures;
  {
    const Released released(program.empty() && is_brief(table.size() * static_cast<std::size_t>(table.count())));
    failures = decode(program, sources.spans(), table.data(), table.pitch(), table.size(), check);
  }
  return listed(failures);
}

// Rows of scratch memory in the dimensions of an array, see kernels.h: `flat` and `seen` are views of the same memory.
struct View {
  View(nb::handle flat, nb::handle seen) : table(flat, true), buffer(seen, PyBUF_STRIDES | PyBUF_WRITABLE) {
    require(table.count() > 0 && table.contiguous(), "C-contiguous rows, at least one");
    require(buffer->ndim >= 1 && buffer->ndim <= kMaxAxes && buffer->itemsize > 0, "a view of rows with one to 64 axes");
    const Byte* end = table.data() + static_cast<std::size_t>(table.count()) * table.size();
    const auto [low, high] = reach(*buffer);
    const bool inside = low == nullptr || (low == table.data() && high == end);
    std::int64_t items = 1;
    for (int axis = 1; axis < buffer->ndim; ++axis) items *= buffer->shape[axis];
    require(inside && buffer->shape[0] == table.count() && items * buffer->itemsize == static_cast<std::int64_t>(table.size()),
            "two views of the same rows");
    for (int axis = 0; axis < buffer->ndim; ++axis)
      require(buffer->shape[axis] <= 1 || buffer->strides[axis] > 0, "a view of rows that goes forward");
    require(buffer->shape[0] <= 1 || buffer->strides[0] == static_cast<std::ptrdiff_t>(table.size()), "two views of the same rows");
  }
  RowView rows() const { return {table.data(), table.size(), table.count(), strided(buffer)}; }

  Rows table;
  Buffer buffer;
};

// That boxes can be copied between an array and rows.
void require_apart(const Buffer& array, const View& view) {
  require(array->ndim == view.buffer->ndim, "an array and rows with equally many axes");
  require(array->itemsize == view.buffer->itemsize, "an array and rows of equal item size");
  const auto [low, high] = reach(*array);
  const Byte* end = view.table.data() + static_cast<std::size_t>(view.table.count()) * view.table.size();
  require(high <= view.table.data() || end <= low, "an array and rows that share no memory");
}

// The tables of a copy between an array and `count` rows, of `axes` axes each: RowBoxes, or OuterBoxes, which have one more.
struct Plan {
  Plan(nb::tuple tables, std::int64_t count, int axes)
      : outer(has_spans(tables)), starts(tables[0], outer ? 1 : 2), steps(tables[1], 1), row_starts(tables[2], outer ? 1 : 2),
        row_steps(tables[3], 1), shapes(tables[4], outer ? 1 : 2) {
    for (const Column* table : {&shapes, &starts, &row_starts})
      require(table->count(0) == shapes.count(0) && (outer || table->count(1) == axes), "as many starts as shapes, one number an axis");
    require(steps.count() == axes && row_steps.count() == axes, "one step an axis");
    if (!outer) return;
    spans.emplace(tables[5], 3);
    require(spans->count(0) == count && spans->count(1) == axes - 1 && spans->count(2) == 2, "segments of each row and axis");
  }

  // What is read: from the rows to the array.
  RowBatch batch(std::int64_t count, const Byte* fill) const {
    return batch_of({shapes.count(), row_starts.data(), starts.data(), shapes.data(), row_steps.data(), steps.data()}, count, fill);
  }

  // What is written: from the array to the rows.
  RowBatch written(std::int64_t count, const Byte* fill) const {
    return batch_of({shapes.count(), starts.data(), row_starts.data(), shapes.data(), steps.data(), row_steps.data()}, count, fill);
  }

  const bool outer;
  const Column starts, steps, row_starts, row_steps, shapes;
  std::optional<Column> spans;

 private:
  RowBatch batch_of(const Boxes& all, std::int64_t count, const Byte* fill) const {
    if (!outer) return {count, all, fill, {}};
    Boxes none = all;
    none.count = 0;
    return {count, none, fill, {spans->data(), all}};
  }

  static bool has_spans(const nb::tuple& tables) {
    require(tables.size() == 5 || tables.size() == 6, "the five tables of boxes, or six");
    return tables.size() == 6;
  }
};

void require_fill(nb::bytes fill, const Buffer& array) {
  require(static_cast<std::ptrdiff_t>(fill.size()) == array->itemsize, "a fill value of one element");
}

// Encoded rows of a batch: EncodedRows, or None.
struct Stored {
  explicit Stored(nb::handle rows) {
    if (rows.is_none()) return;
    nb::tuple columns = nb::cast<nb::tuple>(rows);
    require(columns.size() == 5, "numbers, buffers, and three columns");
    numbers.emplace(columns[0], 1);
    sources.emplace(nb::cast<nb::sequence>(columns[1]), columns[2], columns[3], columns[4]);
    require(numbers->count() == sources->count(), "a row a span");
  }
  StoredRows rows(bool check) {
    if (sources) spans = sources->spans();
    return {spans, numbers ? numbers->data() : nullptr, check};
  }

  std::optional<Column> numbers;
  std::optional<Sources> sources;
  std::vector<Span> spans;
};

// (bytes written, failures).
nb::tuple py_encode_boxes(nb::tuple steps, nb::handle values, nb::tuple tables, nb::handle old, nb::handle flat, nb::handle seen,
                          nb::handle covered, nb::bytes fill, bool drop, bool check, nb::handle arena, nb::handle sizes) {
  const Program program = parse(steps);
  const Buffer from(values, PyBUF_STRIDES), flags(covered, PyBUF_SIMPLE), place(arena, PyBUF_WRITABLE);
  const View view(flat, seen);
  const Column column(sizes, 1, true);
  require_apart(from, view);
  const Plan plan(tables, column.count(), from->ndim);
  Stored before(old);
  require_fill(fill, from);
  require(flags->len == column.count(), "a flag a row");
  const std::size_t bound = encoded_bound(program, program.size(), view.table.size());
  std::size_t needed = 0;
  const bool fits = !__builtin_mul_overflow(bound, static_cast<std::size_t>(column.count()), &needed) &&
                    needed <= static_cast<std::size_t>(place->len);
  require(fits, "an arena that is large enough for every row");
  const RowBatch batch = plan.written(column.count(), static_cast<const Byte*>(fill.data()));
  std::vector<Failure> failures;
  std::size_t total = 0;
  {
    nb::gil_scoped_release released;
    total = encode_boxes(program, strided(from), view.rows(), batch, before.rows(check), flags.data(), drop, place.data(), column.data(),
                         failures);
  }
  return nb::make_tuple(total, listed(failures));
}

nb::list py_decode_boxes(nb::tuple steps, nb::tuple encoded, std::int64_t count, nb::handle flat, nb::handle seen, nb::tuple tables,
                         nb::handle out, nb::bytes fill, bool check) {
  const Program program = parse(steps);
  const Buffer into(out, PyBUF_STRIDES | PyBUF_WRITABLE);
  const View view(flat, seen);
  require_apart(into, view);
  const Plan plan(tables, count, into->ndim);
  Stored stored(encoded);
  require_fill(fill, into);
  require(count >= 0, "rows");
  const RowBatch batch = plan.batch(count, static_cast<const Byte*>(fill.data()));
  std::vector<Failure> failures;
  {
    nb::gil_scoped_release released;
    failures = decode_boxes(program, stored.rows(check), view.rows(), batch, strided(into));
  }
  return listed(failures);
}

bool py_valid_index(nb::handle table, std::int64_t start, std::int64_t stop) {
  const Column entries(table, 2);
  require(entries.count(1) == 2 && start >= 0, "a table of offsets and sizes");
  return valid_index(entries.data(), entries.count(), start, stop);
}

// One number for each axis.
std::vector<std::int64_t> numbers_of(nb::tuple numbers, std::size_t axes) {
  require(numbers.size() == axes && axes <= kMaxAxes, "as many numbers as axes");
  std::vector<std::int64_t> found;
  for (nb::handle each : numbers) found.push_back(nb::cast<std::int64_t>(each));
  return found;
}

// `boxes` (3, rows, axes + 1): starts in the values, in the rows, shapes; `spans` (4, rows): number, which, offset, size of the
// stored rows. Returns how many are stored, and the runs; None where an entry is at fault or too large.
nb::object py_plan_box(nb::tuple start, nb::tuple count, nb::tuple value, nb::tuple edge, nb::tuple grid, nb::handle offset,
                       nb::handle size, std::int64_t limit, std::int64_t first, nb::handle boxes, nb::handle spans) {
  const std::size_t axes = start.size();
  const std::vector<std::int64_t> starts = numbers_of(start, axes), counts = numbers_of(count, axes),
                                  values = numbers_of(value, axes), edges = numbers_of(edge, axes), grids = numbers_of(grid, axes);
  const Buffer offsets(offset, PyBUF_FORMAT | PyBUF_STRIDES), sizes(size, PyBUF_FORMAT | PyBUF_STRIDES);
  require(has_int64(offsets) && has_int64(sizes) && offsets->ndim == 1 && sizes->ndim == 1, "columns of int64");
  const Column tables(boxes, 3, true), columns(spans, 2, true);
  const std::int64_t rows = columns.count(1), line = static_cast<std::int64_t>(axes) + 1;
  require(offsets->shape[0] == sizes->shape[0] && columns.count() == 4 && tables.count() == 3 && tables.count(1) == rows &&
              tables.count(2) == line,
          "columns of equal length");
  std::int64_t beyond = 0;
  require(!__builtin_add_overflow(first, rows, &beyond), "rows that can be counted");
  std::int64_t *table = tables.data(), *column = columns.data();
  const BoxPlan plan{table, table + rows * line, table + 2 * rows * line, column, column + rows, column + 2 * rows, column + 3 * rows};
  const ShardBox box{static_cast<int>(axes), starts.data(), counts.data(), values.data(), edges.data(), grids.data()};
  std::vector<std::pair<std::int64_t, std::int64_t>> runs;
  const std::int64_t stored =
      plan_box(box, {offsets->shape[0], {offsets.data(), offsets->strides[0]}, {sizes.data(), sizes->strides[0]}}, limit, first,
               beyond, plan, runs);
  if (stored < 0) return nb::none();
  nb::list found;
  for (const auto& [at, length] : runs) found.append(nb::make_tuple(at, length));
  return nb::make_tuple(stored, found);
}

// Undoes one compressing step, alone; returns the bytes written to `place`, which bounds them.
std::size_t py_decompress(nb::tuple step, nb::handle data, nb::handle place) {
  const Program program = parse(nb::make_tuple(step));
  const Buffer from(data, PyBUF_SIMPLE), into(place, PyBUF_WRITABLE);
  const Byte *from_end = from.data() + from->len, *into_end = into.data() + into->len;
  require(from_end <= into.data() || into_end <= from.data(), "a source and a destination that share no memory");
  nb::gil_scoped_release released;
  try {
    return decompress(program[0], from.data(), static_cast<std::size_t>(from->len), into.data(),
                      static_cast<std::size_t>(into->len));
  } catch (const BadData& bad) {
    throw std::invalid_argument(bad.what());
  }
}

// `allocate` makes an array of as many bytes as it is told; it is called once all spans are known to be good.
nb::object py_pack(nb::sequence buffers, nb::handle which, nb::handle offset, nb::handle size, nb::callable allocate) {
  const Sources sources(buffers, which, offset, size);
  std::vector<Span> spans;
  std::size_t total = 0;
  {
    nb::gil_scoped_release released;
    spans = sources.spans();
    for (const Span& span : spans)
      if (__builtin_add_overflow(total, span.size, &total)) throw std::invalid_argument("the spans are too long together");
  }
  nb::object packed = allocate(total);
  const Buffer place(packed, PyBUF_WRITABLE);
  require(static_cast<std::size_t>(place->len) == total, "an array of the length asked for");
  const Released released(is_brief(total));
  pack(spans, place.data());
  return packed;
}

std::uint32_t py_crc32c(nb::handle data, std::uint32_t value) {
  const Buffer buffer(data, PyBUF_SIMPLE);
  const auto size = static_cast<std::size_t>(buffer->len);
  const Released released(is_brief(size));
  return crc32c(buffer.data(), size, value);
}

std::size_t py_encoded_bound(nb::tuple steps, std::size_t size) {
  const Program program = parse(steps);
  return encoded_bound(program, program.size(), size);
}

// A path as the system takes it.
class Path {
 public:
  explicit Path(nb::handle object) {
    PyObject* bytes = nullptr;
    if (!PyUnicode_FSConverter(object.ptr(), &bytes)) throw nb::python_error();
    bytes_ = nb::steal<nb::bytes>(bytes);
  }
  const char* get() const { return bytes_.c_str(); }

 private:
  nb::bytes bytes_ = nb::steal<nb::bytes>(nullptr);
};

FileVersion file_version(nb::handle object) {
  nb::tuple numbers = nb::cast<nb::tuple>(object);
  require(numbers.size() == 4, "a version of four numbers");
  FileVersion version;
  for (std::size_t i = 0; i < 4; ++i) version[i] = nb::cast<std::int64_t>(numbers[i]);
  return version;
}

void ask_trial(nb::handle trial, Trial& tried) {
  if (trial.is_none()) return;
  nb::list numbers = nb::cast<nb::list>(trial);
  tried.fail_at = nb::cast<int>(numbers[0]);
  if (numbers.size() > 1) tried.kill_at = nb::cast<int>(numbers[1]);
}

void tell_trial(nb::handle trial, const Trial& tried) {
  for (const std::string& each : tried.names) nb::cast<nb::list>(trial).append(each.c_str());
}

// Adds a part of an object: bytes, a view of an array, a range of the old object, or a hole. `buffers` keep what it refers to.
void add_part(nb::handle part, std::vector<FilePart>& parts, std::vector<Buffer>& buffers) {
  if (nb::isinstance<nb::tuple>(part)) {
    nb::tuple range = nb::cast<nb::tuple>(part);
    const bool hole = range.size() == 1;
    require(hole || (range.size() == 2 && !range[1].is_none()), "a range that has a length, or a hole");
    const std::int64_t start = hole ? -1 : nb::cast<std::int64_t>(range[0]);
    const auto size = nb::cast<std::int64_t>(range[hole ? 0 : 1]);
    require((hole || start >= 0) && size >= 0, "a range from the start of the object");
    parts.push_back({nullptr, static_cast<std::size_t>(size), start});
    return;
  }
  const bool plain = !PyMemoryView_Check(part.ptr()) || PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(part.ptr()), 'C');
  const Buffer& buffer = buffers.emplace_back(part, plain ? PyBUF_SIMPLE : PyBUF_STRIDES);
  static const Byte none[1] = {};
  FilePart& made = parts.emplace_back(FilePart{buffer->len ? buffer.data() : none, static_cast<std::size_t>(buffer->len)});
  if (!plain && buffer->len) {
    require(buffer->ndim >= 1 && buffer->ndim <= kMaxAxes && buffer->itemsize > 0, "an array with one to 64 axes");
    made.array = strided(buffer);
  }
}

// None, or (path, path of the lock file that may not be there or None, version).
class Condition {
 public:
  explicit Condition(nb::handle condition) {
    if (condition.is_none()) return;
    nb::tuple fields = nb::cast<nb::tuple>(condition);
    require(fields.size() == 3, "a condition of three parts");
    path_.emplace(fields[0]);
    if (!fields[1].is_none()) lock_.emplace(fields[1]);
    if (!fields[2].is_none()) version_ = file_version(fields[2]);
  }
  void set(FilePut& wanted) const {
    if (!path_) return;
    wanted.condition = path_->get();
    if (lock_) wanted.condition_lock = lock_->get();
    wanted.any_condition_version = !version_;
    if (version_) wanted.condition_version = *version_;
  }

 private:
  std::optional<Path> path_, lock_;
  std::optional<FileVersion> version_;
};

nb::tuple as_tuple(const FileVersion& version) { return nb::make_tuple(version[0], version[1], version[2], version[3]); }

// The names of a file of a directory, and what it is replaced by.
class Named {
 public:
  Named(std::string_view name, nb::sequence parts) : path_(name), lock_(path_ + ".__lock"), temp_(path_ + ".__new.__lock") {
    for (nb::handle part : parts) add_part(part, parts_, buffers_);
    for (const FilePart& part : parts_) size_ = std::max(size_, size_ + part.size);
  }
  bool is_small(std::size_t most) const { return size_ <= most; }

  // Once. It refers to this object.
  FilePut put(std::int64_t device, std::uint32_t share) {
    FilePut wanted{};
    wanted.path = path_.c_str();
    wanted.lock = lock_.c_str();
    wanted.temp = temp_.c_str();
    wanted.parts = std::move(parts_);
    wanted.device = device;
    wanted.share = share;
    return wanted;
  }

 private:
  std::string path_, lock_, temp_;
  std::vector<FilePart> parts_;
  std::vector<Buffer> buffers_;
  std::size_t size_ = 0;
};

nb::str decoded(const std::string& path) {
  PyObject* text = PyUnicode_DecodeFSDefaultAndSize(path.c_str(), static_cast<Py_ssize_t>(path.size()));
  if (!text) throw nb::python_error();
  return nb::steal<nb::str>(text);
}

// Enters a directory, and makes what is missing of it below `above`, which is a directory: the paths of those that were made, and
// (permissions, device), or None where it was not entered. `condition`: a file that must be there, or None.
nb::tuple py_enter_directory(nb::str path, nb::str above, nb::handle condition, nb::handle trial) {
  const Path whole(path), known(above);
  const std::optional<Path> file = condition.is_none() ? std::nullopt : std::optional<Path>(std::in_place, nb::cast<nb::str>(condition));
  Trial tried;
  ask_trial(trial, tried);
  EnteredDirectory done;
  {
    nb::gil_scoped_release released;
    done = enter_directory(whole.get(), std::string_view(known.get()).size(), file ? file->get() : nullptr, trial.is_none() ? nullptr : &tried);
  }
  tell_trial(trial, tried);
  nb::list made;
  for (const std::string& each : done.made) made.append(decoded(each));
  nb::object state = nb::none();
  if (done.entered) state = nb::make_tuple(done.mode, done.device);
  return nb::make_tuple(made, state);
}

// A directory and all above it, each with (device, inode); empty where one of them is a link, or not there.
nb::list py_directories_above(nb::str path) {
  const Path whole(path);
  std::vector<DirectoryAbove> found;
  {
    nb::gil_scoped_release released;
    found = directories_above(whole.get());
  }
  nb::list above;
  for (const DirectoryAbove& each : found) above.append(nb::make_tuple(decoded(each.path), nb::make_tuple(each.device, each.inode)));
  return above;
}

// `if_version`: None for any, False for no object, or a version. `held`: the inode of the lock file, if the caller has that lock,
// else 0. `trial`: None, or a list that gets the names of the calls, and begins with two numbers of calls. `absent`: None, or names of
// which there is nothing in the directory, nor anything else.
nb::object py_put_file(nb::str path, nb::sequence parts, nb::handle condition, nb::handle if_version, std::int64_t device,
                       std::uint32_t share, std::int64_t held, bool must_replace, bool release, nb::handle trial, nb::handle absent) {
  const Path whole(path);
  std::vector<Path> names;
  if (!absent.is_none())
    for (nb::handle each : nb::cast<nb::tuple>(absent)) names.emplace_back(each);
  const std::string_view given(whole.get());
  const std::size_t end = given.rfind('/');
  require(end != std::string_view::npos, "an absolute path");
  const std::string directory(given.substr(0, std::max<std::size_t>(end, 1)));
  Named file(given.substr(end + 1), parts);
  const Condition on(condition);
  FilePut wanted = file.put(device, share);
  wanted.must_replace = must_replace;
  wanted.held = held;
  wanted.alone = !absent.is_none();
  for (const Path& each : names) wanted.absent.push_back(each.get());
  on.set(wanted);
  if (if_version.ptr() == Py_False) {
    wanted.if_version = IfVersion::absent;
  } else if (!if_version.is_none()) {
    wanted.if_version = IfVersion::known;
    wanted.version = file_version(if_version);
  }
  Trial tried;
  ask_trial(trial, tried);
  std::optional<FilePutResult> result;
  if (release) {
    nb::gil_scoped_release released;
    result = put_file(directory.c_str(), wanted, nullptr);
  } else {
    result = put_file(directory.c_str(), wanted, trial.is_none() ? nullptr : &tried);
  }
  tell_trial(trial, tried);
  if (!result) return nb::none();
  return nb::make_tuple(as_tuple(*result->version), result->old_mtime);
}

// Whole files of a directory, whatever is there, without the GIL: `files` is a list of (name, parts). For each of them its version or
// None is appended to `done`, so that an interrupt loses none; None for those of more than `most` bytes. The rest as in put_file.
void py_put_files(nb::str directory, nb::list files, nb::handle condition, std::int64_t device, std::uint32_t share, std::size_t most,
                  nb::list done, nb::handle trial) {
  const Path place(directory);
  const Condition on(condition);
  std::vector<Named> named;
  named.reserve(files.size());
  for (nb::handle each : files) {
    nb::tuple item = nb::cast<nb::tuple>(each);
    require(item.size() == 2, "a name and parts");
    named.emplace_back(Path(item[0]).get(), nb::cast<nb::sequence>(item[1]));
  }
  std::vector<FilePut> wanted;
  wanted.reserve(named.size());
  for (Named& each : named) {
    if (!each.is_small(most)) continue;
    on.set(wanted.emplace_back(each.put(device, share)));
  }
  Trial tried;
  ask_trial(trial, tried);
  std::vector<std::optional<FilePutResult>> results;
  {
    nb::gil_scoped_release released;
    results = put_files(place.get(), wanted, trial.is_none() ? nullptr : &tried);
  }
  std::size_t at = 0;
  for (const Named& each : named) {
    const bool stored = each.is_small(most) && results[at++];
    if (stored) done.append(as_tuple(*results[at - 1]->version));
    else done.append(nb::none());
  }
  tell_trial(trial, tried);
}

std::vector<std::int64_t> numbers(nb::tuple given) {
  std::vector<std::int64_t> found;
  for (nb::handle each : given) found.push_back(nb::cast<std::int64_t>(each));
  return found;
}

// `row`: bytes, most bytes that are read of a stored one, shape and strides (bytes) in the dimensions of the array, bytes of an
// element. `fill`: one element, and whether rows of it are not stored. `index`: the number of subchunks, bytes, at the start?
// `dead`: the bytes of `dead_bytes.py`, in the order of its rules. `check`: whether checksums of chunk and index are looked at.
void py_chunk_layout(ChunkLayout* self, nb::tuple program, nb::tuple row, nb::tuple fill, nb::tuple index_program, nb::tuple index,
                     nb::tuple dead, nb::tuple check) {
  ChunkLayout made{};
  made.program = parse(program);
  made.index_program = parse(index_program);
  made.row_bytes = nb::cast<std::size_t>(row[0]);
  made.stored_limit = nb::cast<std::size_t>(row[1]);
  made.shape = numbers(nb::cast<nb::tuple>(row[2]));
  made.strides = numbers(nb::cast<nb::tuple>(row[3]));
  made.itemsize = nb::cast<std::int64_t>(row[4]);
  const Buffer element(fill[0], PyBUF_SIMPLE);
  made.fill.assign(element.data(), element.data() + element->len);
  made.drop = nb::cast<bool>(fill[1]);
  made.entries = nb::cast<std::int64_t>(index[0]);
  made.index_bytes = nb::cast<std::size_t>(index[1]);
  made.at_start = nb::cast<bool>(index[2]);
  made.dead.limit = nb::cast<double>(dead[0]);
  std::int64_t* const rules[] = {&made.dead.kept_bytes, &made.dead.kept_updates, &made.dead.first_record,
                                 &made.dead.min_hole, &made.dead.max_multiple, &made.dead.max_extents};
  for (std::size_t rule = 0; rule < std::size(rules); ++rule) *rules[rule] = nb::cast<std::int64_t>(dead[rule + 1]);
  require(made.dead.kept_updates > 0, "updates for which dead bytes stay");
  made.check = nb::cast<bool>(check[0]);
  made.check_index = nb::cast<bool>(check[1]);
  const std::size_t axes = made.shape.size();
  require(axes == made.strides.size() && axes <= static_cast<std::size_t>(kMaxAxes), "a shape and strides of up to 64 axes");
  require(made.itemsize > 0 && element->len == made.itemsize && made.entries >= 0, "elements, and a fill of one");
  std::int64_t last = 0;  // the farthest element
  for (std::size_t axis = 0; axis < axes; ++axis) {
    std::int64_t reach = 0;
    const bool fits = made.shape[axis] > 0 && made.strides[axis] > 0 &&
                      !__builtin_mul_overflow(made.shape[axis] - 1, made.strides[axis], &reach) && !__builtin_add_overflow(last, reach, &last);
    require(fits, "a shape of at least one element, and strides forwards");
  }
  require(last <= static_cast<std::int64_t>(made.row_bytes) - made.itemsize, "strides within the row");
  const std::size_t table = static_cast<std::size_t>(made.entries) * 2 * sizeof(std::int64_t);
  made.limits = decode_limits(made.program, made.row_bytes);
  made.bounds = encoded_bounds(made.program, made.row_bytes);
  made.index_limits = decode_limits(made.index_program, table);
  made.index_bounds = encoded_bounds(made.index_program, table);
  new (self) ChunkLayout(std::move(made));
}

// For each of `pieces` its number, where a box begins in it, where in the values, and its shape; or, with a plan, its number alone.
std::vector<BoxUpdate::Placed> placed_of(nb::tuple pieces, const std::optional<Plan>& plan, const Byte* fill, int axes) {
  if (plan) return BoxUpdate::rows_of(numbers(pieces), plan->written(static_cast<std::int64_t>(pieces.size()), fill), axes);
  std::vector<BoxUpdate::Placed> placed;
  for (nb::handle each : pieces) {
    nb::tuple piece = nb::cast<nb::tuple>(each);
    require(piece.size() == 4, "a number, two places and a shape");
    placed.push_back({nb::cast<std::int64_t>(piece[0]), numbers(nb::cast<nb::tuple>(piece[1])),
                      numbers(nb::cast<nb::tuple>(piece[2])), numbers(nb::cast<nb::tuple>(piece[3]))});
  }
  return placed;
}

// Replaces a box of the chunk, or of some subchunks, of a file, or what else a plan lays over them. (version or None where nothing is stored now, mtime of the old one), 1 where somebody has its lock,
// 2 where it has more than `most` bytes, or None where it is to be done otherwise. The rest as in put_file.
nb::object py_update_file(nb::str path, const ChunkLayout& layout, nb::tuple pieces, nb::handle tables, nb::handle values, nb::handle condition,
                          std::int64_t device, std::uint32_t share, std::int64_t held, bool must_replace, std::int64_t most,
                          bool release, nb::handle trial) {
  const Path whole(path);
  const std::string_view given(whole.get());
  const std::size_t end = given.rfind('/');
  require(end != std::string_view::npos, "an absolute path");
  const std::string directory(given.substr(0, std::max<std::size_t>(end, 1)));
  Named file(given.substr(end + 1), nb::borrow<nb::sequence>(nb::list()));
  const Condition on(condition);
  const Buffer from(values, PyBUF_STRIDES);
  std::optional<Plan> plan;
  if (!tables.is_none()) {
    require(from->ndim < kMaxAxes, "fewer than 64 axes");
    plan.emplace(nb::cast<nb::tuple>(tables), static_cast<std::int64_t>(pieces.size()), from->ndim + 1);
  }
  BoxUpdate update(layout, placed_of(pieces, plan, layout.fill.data(), from->ndim + 1), strided(from));
  FilePut wanted = file.put(device, share);
  on.set(wanted);
  wanted.held = held;
  wanted.must_replace = must_replace;
  wanted.change = &update;
  wanted.most = most;
  wanted.may_be_large = most >= 0 && static_cast<std::size_t>(most) / layout.row_bytes < static_cast<std::size_t>(layout.entries);
  Trial tried;
  ask_trial(trial, tried);
  std::optional<FilePutResult> result;
  NotPut why = NotPut::otherwise;
  if (release) {
    nb::gil_scoped_release released;
    result = put_file(directory.c_str(), wanted, nullptr, &why);
  } else {
    result = put_file(directory.c_str(), wanted, trial.is_none() ? nullptr : &tried, &why);
  }
  tell_trial(trial, tried);
  if (result) return nb::make_tuple(result->version ? as_tuple(*result->version) : nb::object(nb::none()), result->old_mtime);
  if (why == NotPut::otherwise) return nb::none();
  return nb::int_(why == NotPut::busy ? 1 : 2);
}

constexpr std::size_t kOpenFiles = 64;
constexpr std::size_t kManyFiles = 16;  // for so many small ones it pays to give the GIL away
constexpr std::int64_t kSmallFileBytes = 1 << 16;
constexpr std::int64_t kGroupBytes = 1 << 20;
constexpr std::size_t kGroupFiles = 2048;

constexpr std::int64_t kAllocatedBytes = 1 << 18;  // so many bytes are read into memory that the caller gives

// Bytes that are read: an object of its own where they are few, else memory that `allocate` gives for as many.
class Place {
 public:
  Place(std::int64_t size, nb::handle allocate) {
    PyObject* made = size < kAllocatedBytes ? PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size))
                                            : PyObject_CallFunction(allocate.ptr(), "L", static_cast<long long>(size));
    if (!made) throw nb::python_error();
    owner_ = nb::steal(made);
    if (size < kAllocatedBytes) {
      data_ = reinterpret_cast<Byte*>(PyBytes_AS_STRING(made));
      return;
    }
    buffer_.emplace(owner_, PyBUF_WRITABLE);
    require((*buffer_)->len == size, "memory of the length asked for");
    data_ = buffer_->data();
  }
  Byte* data() const { return data_; }
  nb::object view() const {
    PyObject* view = PyMemoryView_FromObject(owner_.ptr());
    if (!view) throw nb::python_error();
    const nb::object made = nb::steal(view);
    return buffer_ ? made.attr("toreadonly")() : made;
  }

 private:
  nb::object owner_;
  std::optional<Buffer> buffer_;
  Byte* data_ = nullptr;
};

// Small files of a group, read into memory of the thread and closed again. Python has no part in that: several threads do it at once.
class SmallFiles {
 public:
  explicit SmallFiles(std::size_t files) : start_(files, -1), data_(memory()) {}

  // Whether the file is small, and finds a place; then it was read, or could not be.
  bool take(std::size_t i, FileToRead& file) {
    const std::int64_t size = file.version[3];
    if (size > kSmallFileBytes || size > kGroupBytes - used_) return false;
    if (file.read(0, static_cast<std::size_t>(size), data_ + used_)) {
      start_[i] = used_;
      used_ += size;
    } else {
      file.found = Found::other;
    }
    file.close();
    return true;
  }

  bool has(std::size_t i) const { return start_[i] >= 0; }

  nb::object view(std::size_t i, std::int64_t size) const {
    PyObject* made = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data_) + start_[i], static_cast<Py_ssize_t>(size));
    if (!made) throw nb::python_error();
    const nb::object bytes = nb::steal(made);
    PyObject* view = PyMemoryView_FromObject(bytes.ptr());
    if (!view) throw nb::python_error();
    return nb::steal(view);
  }

 private:
  static Byte* memory() {
    thread_local std::unique_ptr<Byte[]> kept(new Byte[kGroupBytes]);  // new pages cost more than what is read into them
    return kept.get();
  }

  std::vector<std::int64_t> start_;
  Byte* data_;
  std::int64_t used_ = 0;
};

// Files from `lo` on, as many as can be open at once; how many they were.
std::size_t read_group(nb::list paths, std::size_t lo, std::int64_t limit, bool held, nb::handle allocate, Trial* trial,
                       nb::list results) {
  const std::size_t left = paths.size() - lo, most = std::min(left, kGroupFiles);
  const bool several = left >= kManyFiles;
  std::vector<Path> names;
  std::vector<FileToRead> files;
  std::optional<SmallFiles> small;
  if (several) small.emplace(most);
  const auto is_small = [&](std::size_t i) { return small && small->has(i); };
  names.reserve(most);
  files.reserve(most);
  for (std::size_t i = 0; i < most; ++i) names.emplace_back(paths[lo + i]);
  {
    const Released released(held && !several);
    LastDirectory directory;
    for (std::size_t i = 0, open = 0; i < most && open < kOpenFiles; ++i) {
      FileToRead& file = files.emplace_back(trial);
      file.open(names[i].get(), limit, &directory);
      if (file.found == Found::there && !(small && small->take(i, file))) ++open;
    }
  }
  std::vector<std::optional<Place>> data(files.size());
  std::int64_t total = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i].found != Found::there || is_small(i)) continue;
    data[i].emplace(files[i].version[3], allocate);
    total += files[i].version[3];
  }
  std::vector<bool> done(files.size());
  if (total || !several) {
    const Released released(held && total <= kHeldBytes);
    for (std::size_t i = 0; i < files.size(); ++i) {
      done[i] = data[i] && files[i].read(0, static_cast<std::size_t>(files[i].version[3]), data[i]->data());
      files[i].close();
    }
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (is_small(i)) results.append(nb::make_tuple(small->view(i, files[i].version[3]), as_tuple(files[i].version)));
    else if (done[i]) results.append(nb::make_tuple(data[i]->view(), as_tuple(files[i].version)));
    else if (files[i].found == Found::absent) results.append(false);
    else results.append(nb::none());
  }
  return files.size();
}

nb::list versions_of(const std::vector<FilesToBoxes::Outcome>& outcomes) {
  nb::list found;
  for (const FilesToBoxes::Outcome& each : outcomes) {
    if (each.found == Found::there) found.append(as_tuple(each.version));
    else if (each.found == Found::absent) found.append(false);
    else found.append(nb::none());
  }
  return found;
}

// Those versions of which `done(i)` says so, None for the others.
template <typename Done>
nb::list versions_if(const std::vector<FileVersion>& versions, const Done& done) {
  nb::list found;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    if (done(i)) found.append(as_tuple(versions[i]));
    else found.append(nb::none());
  }
  return found;
}

// Whole files, a few open at a time. For each (bytes, version), False where there is none, None where it was not read. Those of
// more than `limit` bytes (-1: none) are not read. `held`: the GIL is not given away for a few files of a few bytes. `allocate`: see
// Place. `trial`: None, or a list of the number of a call that fails, which gets the names of the calls.
nb::list py_read_files(nb::list paths, std::int64_t limit, bool held, nb::handle allocate, nb::handle trial) {
  Trial tried;
  ask_trial(trial, tried);
  nb::list results;
  for (std::size_t lo = 0; lo < paths.size();)
    lo += read_group(paths, lo, limit, held, allocate, trial.is_none() ? nullptr : &tried, results);
  tell_trial(trial, tried);
  return results;
}

// For each file its version, False where there is none, None where it was not found out. Each is opened, and not read.
nb::list py_look_at_files(nb::list paths) {
  std::vector<Path> names;
  names.reserve(paths.size());
  for (nb::handle path : paths) names.emplace_back(path);
  std::vector<FilesToBoxes::Outcome> outcomes(names.size());
  {
    nb::gil_scoped_release released;
    LastDirectory directory;
    for (std::size_t i = 0; i < names.size(); ++i) {
      FileToRead file(nullptr);
      file.open(names[i].get(), -1, &directory);
      outcomes[i] = {file.found, file.version};
      file.close();
    }
  }
  return versions_of(outcomes);
}

// Spans of the file, in one run of memory: (start or, before the end of the file, a negative number; length or None: to the end).
// ([bytes], version), False where there is no file, None where it was not read: also where it is not of `version` (None: any), and
// where a span does not fit.
nb::object py_read_ranges(nb::str path, nb::sequence ranges, nb::handle version, bool held, nb::handle allocate,
                          nb::handle trial) {
  const Path name(path);
  Trial tried;
  ask_trial(trial, tried);
  FileToRead file(trial.is_none() ? nullptr : &tried);
  {
    const Released released(held);
    file.open(name.get(), -1);
  }
  nb::object result = nb::none();
  const bool there = file.found == Found::there;
  const bool wanted = there && (version.is_none() || file_version(version) == file.version);  // safety: native version of a read
  if (file.found == Found::absent) result = nb::bool_(false);
  if (wanted) {
    const std::int64_t size = file.version[3];
    std::vector<std::pair<std::int64_t, std::int64_t>> spans;
    std::int64_t total = 0;
    bool fits = true;
    for (nb::handle each : ranges) {
      nb::tuple range = nb::cast<nb::tuple>(each);
      require(range.size() == 2, "a start and a length");
      std::int64_t start = nb::cast<std::int64_t>(range[0]);
      if (start < 0 && start >= -size) start += size;
      const std::int64_t length = range[1].is_none() ? size - start : nb::cast<std::int64_t>(range[1]);
      fits = fits && start >= 0 && length >= 0 && start <= size && length <= size - start;
      if (!fits || __builtin_add_overflow(total, length, &total)) break;
      spans.emplace_back(start, length);
    }
    bool done = fits && spans.size() == nb::len(ranges);
    const Place data(done ? total : 0, allocate);
    if (done) {
      const Released released(held && total <= kHeldBytes);
      Byte* into = data.data();
      for (std::size_t i = 0; done && i < spans.size();) {
        std::int64_t length = spans[i].second;  // neighbours in one call
        std::size_t last = i + 1;
        for (; last < spans.size() && spans[last].first == spans[i].first + length; ++last) length += spans[last].second;
        done = file.read(spans[i].first, static_cast<std::size_t>(length), into);
        into += length;
        i = last;
      }
      file.close();
    }
    if (done) {
      const nb::object view = data.view();
      nb::list views;
      std::int64_t at = 0;
      for (const auto& [start, length] : spans) {
        views.append(view[nb::slice(static_cast<Py_ssize_t>(at), static_cast<Py_ssize_t>(at + length), static_cast<Py_ssize_t>(1))]);
        at += length;
      }
      result = nb::make_tuple(views, as_tuple(file.version));
    }
  }
  file.close();
  tell_trial(trial, tried);
  return result;
}

// A whole file into an array of as many bytes, in C order. Its version, False where there is no file, None where it was not read: also
// where it has another size. `trial`: as of read_files.
nb::object py_read_into(nb::str path, nb::handle into, nb::handle trial) {
  const Path name(path);
  const Buffer array(into, PyBUF_STRIDES | PyBUF_WRITABLE);
  require(array->ndim >= 1 && array->ndim <= kMaxAxes && array->itemsize > 0 && array->len > 0, "elements, along one to 64 axes");
  Trial tried;
  ask_trial(trial, tried);
  FileToRead file(trial.is_none() ? nullptr : &tried);
  bool done = false;
  {
    nb::gil_scoped_release released;
    file.open(name.get(), array->len);
    done = file.found == Found::there && file.version[3] == array->len && file.read_into(strided(array));
    file.close();
  }
  tell_trial(trial, tried);
  if (done) return as_tuple(file.version);
  if (file.found == Found::absent) return nb::bool_(false);
  return nb::none();
}

// Files to boxes of an array, see FilesToBoxes. The parameters as of read_files and decode_boxes; It keeps the arrays from being resized as long as it is there.
class ReadBoxes {
 public:
  ReadBoxes(nb::list paths, std::int64_t limit, nb::tuple steps, nb::handle flat, nb::handle seen, nb::tuple tables,
            nb::handle out, nb::bytes fill, bool check)
      : into_(out, PyBUF_STRIDES | PyBUF_WRITABLE), view_(flat, seen),
        plan_(tables, static_cast<std::int64_t>(paths.size()), into_->ndim),
        fill_(static_cast<const Byte*>(fill.data()), static_cast<const Byte*>(fill.data()) + fill.size()), rows_(view_.rows()),
        array_(strided(into_)),
        batch_(plan_.batch(static_cast<std::int64_t>(paths.size()), fill_.data())) {
    require_apart(into_, view_);
    require_fill(fill, into_);
    std::vector<std::string> names;
    for (nb::handle path : paths) names.emplace_back(Path(path).get());
    files_.emplace(parse(steps), std::move(names), limit, rows_, batch_, array_, check);
  }

  void work() {
    nb::gil_scoped_release released;
    files_->work();
  }

  // For each file its version, False where there is none, None where it was not done. Once no thread works any more.
  nb::list versions() const { return versions_of(files_->outcomes()); }

 private:
  const Buffer into_;
  const View view_;
  const Plan plan_;
  const std::vector<Byte> fill_;
  const RowView rows_;
  const Strided array_;
  const RowBatch batch_;
  std::optional<FilesToBoxes> files_;
};

// Boxes of shards, see ShardsToBoxes: `shards` are (path, version, start, count, value, offsets, sizes). Else as ReadBoxes.
class ReadShards {
 public:
  ReadShards(nb::list shards, nb::tuple edge, nb::tuple grid, std::int64_t limit, nb::tuple steps, nb::handle flat, nb::handle seen,
             nb::handle out, nb::bytes fill, bool check)
      : into_(out, PyBUF_STRIDES | PyBUF_WRITABLE), view_(flat, seen),
        fill_(static_cast<const Byte*>(fill.data()), static_cast<const Byte*>(fill.data()) + fill.size()), rows_(view_.rows()),
        array_(strided(into_)) {
    require_apart(into_, view_);
    require_fill(fill, into_);
    std::vector<ShardsToBoxes::Shard> boxes;
    for (nb::handle each : shards) {
      nb::tuple shard = nb::cast<nb::tuple>(each);
      require(shard.size() == 7, "a path, a version, three numbers an axis and two columns");
      const auto numbers = [&](std::size_t i) { return numbers_of(nb::cast<nb::tuple>(shard[i]), edge.size()); };
      const auto column = [&](std::size_t i) {
        const Buffer& found = columns_.emplace_back(shard[i], PyBUF_FORMAT | PyBUF_STRIDES);
        require(has_int64(found) && found->ndim == 1, "columns of int64");
        return std::pair{IndexColumn{found.data(), found->strides[0]}, static_cast<std::int64_t>(found->shape[0])};
      };
      const auto [offset, entries] = column(5);
      const auto [size, same] = column(6);
      require(entries == same, "columns of equal length");
      boxes.push_back({Path(shard[0]).get(), file_version(shard[1]), numbers(2), numbers(3), numbers(4), {entries, offset, size}});
    }
    for (const ShardsToBoxes::Shard& each : boxes) versions_.push_back(each.version);
    boxes_.emplace(parse(steps), std::move(boxes), numbers_of(edge, edge.size()), numbers_of(grid, edge.size()), limit, rows_, array_,
                   fill_.data(), check);
  }

  void work() {
    nb::gil_scoped_release released;
    boxes_->work();
  }

  // For each shard its version, None where it was not done. Once no thread works any more.
  nb::list versions() const { return versions_if(versions_, [this](std::size_t i) { return boxes_->done(i); }); }

 private:
  const Buffer into_;
  const View view_;
  const std::vector<Byte> fill_;
  const RowView rows_;
  const Strided array_;
  std::vector<Buffer> columns_;
  std::vector<FileVersion> versions_;
  std::optional<ShardsToBoxes> boxes_;
};

// Boxes of objects whose pieces are at hand, see KeptToBoxes: `objects` are (path, version, [((start, shape, value), [piece or None])]).
// It keeps the arrays from being resized as long as it is there.
class ReadKept {
 public:
  ReadKept(nb::list objects, nb::tuple edge, nb::handle out, nb::bytes fill, bool by_name)
      : into_(out, PyBUF_STRIDES | PyBUF_WRITABLE),
        fill_(static_cast<const Byte*>(fill.data()), static_cast<const Byte*>(fill.data()) + fill.size()), array_(strided(into_)) {
    require_fill(fill, into_);
    require(into_->ndim >= 1 && into_->ndim <= kMaxAxes, "an array with one to 64 axes");
    const std::vector<std::int64_t> edges = numbers_of(edge, static_cast<std::size_t>(into_->ndim));
    std::int64_t size = into_->itemsize;
    for (const std::int64_t each : edges)
      require(each > 0 && !__builtin_mul_overflow(size, each, &size), "pieces with elements");
    const auto [low, high] = reach(*into_);
    const auto piece_of = [&, low = low, high = high](nb::handle piece) -> const Byte* {
      if (piece.is_none()) return nullptr;
      const Buffer& found = pieces_.emplace_back(piece, PyBUF_SIMPLE);
      require(found->len == size, "pieces of one size");
      require(high <= found.data() || found.data() + size <= low, "pieces and an array that share no memory");
      return found.data();
    };
    std::vector<KeptToBoxes::Object> all;
    all.reserve(objects.size());
    for (nb::handle each : objects) {
      nb::tuple object = nb::cast<nb::tuple>(each);
      require(object.size() == 3, "a path, a version and boxes");
      KeptToBoxes::Object& made = all.emplace_back();
      made.path = Path(object[0]).get();
      made.version = file_version(object[1]);
      for (nb::handle given : nb::cast<nb::list>(object[2])) {
        nb::tuple parts = nb::cast<nb::tuple>(given);
        require(parts.size() == 2, "a box and pieces");
        nb::tuple box = nb::cast<nb::tuple>(parts[0]);
        require(box.size() == 3, "a box of three parts");
        const auto numbers = [&](std::size_t i) { return numbers_of(nb::cast<nb::tuple>(box[i]), edges.size()); };
        KeptToBoxes::Box& part = made.boxes.emplace_back(KeptToBoxes::Box{numbers(0), numbers(1), numbers(2), {}});
        for (nb::handle piece : nb::cast<nb::list>(parts[1])) part.pieces.push_back(piece_of(piece));
      }
      versions_.push_back(made.version);
    }
    boxes_.emplace(std::move(all), edges, array_, fill_.data(), by_name);
  }

  void work() {
    nb::gil_scoped_release released;
    boxes_->work();
  }

  // For each object its version, None where it was not done. Once no thread works any more.
  nb::list versions() const { return versions_if(versions_, [this](std::size_t i) { return boxes_->done(i); }); }

 private:
  const Buffer into_;
  const std::vector<Byte> fill_;
  const Strided array_;
  std::vector<Buffer> pieces_;
  std::vector<FileVersion> versions_;
  std::optional<KeptToBoxes> boxes_;
};

nb::dict py_features() {
  nb::dict all;
  for (const auto& [name, built] : features()) all[name.c_str()] = built;
  return all;
}

nb::dict py_libraries() {
  nb::dict all;
  for (const auto& [name, version] : libraries()) all[name.c_str()] = version;
  return all;
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // chains that are kept to the end of the process have layouts
  m.doc() = "Compiled twins of zarrant.kernels.reference; zarrant.kernels.compiled wraps them.";
  m.def("features", &py_features);
  m.def("libraries", &py_libraries);
  m.def("copy_boxes", &py_copy_boxes);
  m.def("equals_fill", &py_equals_fill);
  m.def("encoded_bound", &py_encoded_bound);
  m.def("encode", &py_encode, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg());
  m.def("decode", &py_decode);
  m.def("encode_boxes", &py_encode_boxes, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg());
  m.def("decode_boxes", &py_decode_boxes);
  m.def("valid_index", &py_valid_index);
  m.def("plan_box", &py_plan_box);
  m.def("decompress", &py_decompress);
  m.def("pack", &py_pack);
  m.def("crc32c", &py_crc32c);
  bind_elements(m);
  if (can_read_files()) {
    m.def("read_files", &py_read_files, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none());
    m.def("look_at_files", &py_look_at_files);
    m.def("read_into", &py_read_into, nb::arg(), nb::arg(), nb::arg().none());
    m.def("read_ranges", &py_read_ranges, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg().none());
    nb::class_<ReadBoxes>(m, "ReadBoxes")
        .def(nb::init<nb::list, std::int64_t, nb::tuple, nb::handle, nb::handle, nb::tuple, nb::handle, nb::bytes, bool>())
        .def("work", &ReadBoxes::work)
        .def("versions", &ReadBoxes::versions);
    nb::class_<ReadShards>(m, "ReadShards")
        .def(nb::init<nb::list, nb::tuple, nb::tuple, std::int64_t, nb::tuple, nb::handle, nb::handle, nb::handle, nb::bytes, bool>())
        .def("work", &ReadShards::work)
        .def("versions", &ReadShards::versions);
    nb::class_<ReadKept>(m, "ReadKept")
        .def(nb::init<nb::list, nb::tuple, nb::handle, nb::bytes, bool>())
        .def("work", &ReadKept::work)
        .def("versions", &ReadKept::versions);
  }
  if (can_enter_directories()) {
    m.def("enter_directory", &py_enter_directory, nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none());
    m.def("directories_above", &py_directories_above);
  }
  if (can_put_files()) {
    m.def("put_file", &py_put_file, nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg(), nb::arg(), nb::arg().none(), nb::arg("absent").none() = nb::none());
    m.def("put_files", &py_put_files, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none());
    nb::class_<ChunkLayout>(m, "ChunkLayout").def("__init__", &py_chunk_layout);
    m.def("update_file", &py_update_file, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg(),
          nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none());
  }
}
