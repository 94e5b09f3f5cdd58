// Elements of variable size, texts and runs of bytes, each after its length: the layout of vlen-utf8 and vlen-bytes.
//
// The only part that sees NumPy's own types, since texts are packed in a way that only NumPy knows. The lock of an array's
// texts is never taken by a thread that then waits for the GIL.
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <Python.h>
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <cstring>
#include <limits>
#include <optional>
#include <string>

#include "elements.h"
#include "kernels.h"

namespace nb = nanobind;

namespace zarrant {
namespace {

constexpr std::size_t kLength = 4;
constexpr std::size_t kMostBytes = std::numeric_limits<std::uint32_t>::max();

// Numbers are little-endian whatever the machine is.
void put_length(Byte* at, std::size_t length) {
  for (std::size_t i = 0; i < kLength; ++i) at[i] = static_cast<Byte>(length >> (8 * i));
}

std::size_t get_length(const Byte* at) {
  std::size_t length = 0;
  for (std::size_t i = 0; i < kLength; ++i) length |= static_cast<std::size_t>(at[i]) << (8 * i);
  return length;
}

std::string element(std::size_t i) { return "element " + std::to_string(i); }

[[noreturn]] void refuse(const std::string& reason) { throw std::invalid_argument(reason); }

// ── UTF-8 ──────────────────────────────────────────────────────────────────────────────────────────────────────────

bool follows(const Byte* at, const Byte* end, int count, Byte low, Byte high) {
  if (end - at < count || at[0] < low || at[0] > high) return false;
  for (int i = 1; i < count; ++i)
    if ((at[i] & 0xC0) != 0x80) return false;
  return true;
}

// Bytes of the character at `at`; 0 where there is none: an overlong form, half a pair, a number above U+10FFFF.
// "Table 3-7. Well-Formed UTF-8 Byte Sequences", https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf
int character(const Byte* at, const Byte* end) {
  const Byte lead = *at++;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) return follows(at, end, 1, 0x80, 0xBF) ? 2 : 0;
  if (lead < 0xF0) return follows(at, end, 2, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) ? 3 : 0;
  return follows(at, end, 3, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) ? 4 : 0;
}

// The number of bytes up to the first that begins no character; `size` where all do.
std::size_t well_formed(const Byte* data, std::size_t size) {
  const Byte *at = data, *end = data + size;
  while (at < end) {
    for (std::uint64_t word; end - at >= 8; at += 8) {
      std::memcpy(&word, at, 8);
      if (word & 0x8080808080808080U) break;
    }
    if (at == end) break;
    const int length = character(at, end);
    if (!length) break;
    at += length;
  }
  return static_cast<std::size_t>(at - data);
}

// An element that is no text: a copy, since others may change it once its lock is given back.
struct NoText {
  std::size_t number;
  std::string bytes;

  // What Python says of it, with the GIL.
  [[noreturn]] void raise() const {
    PyObject* decoded = PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), nullptr);
    if (decoded) {
      Py_DECREF(decoded);
      refuse(element(number) + " is no UTF-8");
    }
    nb::python_error error;
    const std::string reason = nb::str(error.value().attr("reason")).c_str() + (" (" + element(number) + ")");
    error.value().attr("reason") = nb::str(reason.c_str());
    throw error;
  }
};

bool is_text(const Span& run) { return well_formed(run.data, run.size) == run.size; }

NoText no_text(std::size_t i, const Span& run) { return {i, std::string(reinterpret_cast<const char*>(run.data), run.size)}; }

// ── the layout ─────────────────────────────────────────────────────────────────────────────────────────────────────

struct Data {
  explicit Data(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  Data(const Data&) = delete;
  Data& operator=(const Data&) = delete;
  ~Data() { PyBuffer_Release(&view); }
  const Byte* begin() const { return static_cast<const Byte*>(view.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view.len); }

  Py_buffer view{};
};

// Takes elements one after the other; std::invalid_argument for the first that is not there. The memory may change between two
// walks, so that every walk checks its lengths.
class Reader {
 public:
  Reader(const Data& data, std::size_t count) : at_(data.begin()), end_(at_ + data.size()), count_(count) {
    // As many elements as there are lengths for: `count` is not believed before this.
    if (data.size() < kLength || (data.size() - kLength) / kLength < count)
      refuse(std::to_string(data.size()) + " bytes are too few for the lengths of " + std::to_string(count) + " elements");
    const std::size_t found = get_length(at_);
    if (found != count) refuse("holds " + std::to_string(found) + " elements, expected " + std::to_string(count));
    at_ += kLength;
  }

  Span next() {
    if (left() < kLength) refuse("ends before the length of " + element(number_));
    const std::size_t length = get_length(at_);
    at_ += kLength;
    if (length > left())
      refuse(element(number_) + " of " + std::to_string(length) + " bytes reaches over the end, " + std::to_string(left()) + " bytes on");
    const Span found{at_, length};
    at_ += length;
    ++number_;
    return found;
  }

  // All of them; whether they are texts comes last.
  void check(bool text) {
    std::optional<NoText> bad;
    while (number_ < count_) {
      const Span found = next();
      if (text && !bad && !is_text(found)) bad = no_text(number_ - 1, found);
    }
    if (left()) refuse(std::to_string(left()) + " bytes follow after the last element");
    if (bad) throw *bad;
  }

 private:
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }

  const Byte *at_, *end_;
  const std::size_t count_;
  std::size_t number_ = 0;
};

// Counts elements, so that memory for them can be had, and puts them into it.
class Writer {
 public:
  // The bytes of elements that were counted.
  void count(std::size_t i, std::size_t size) {
    if (size > kMostBytes) refuse(element(i) + " is too large: " + std::to_string(size) + " bytes");
    total_ += kLength + size;
  }

  nb::object allocate(std::size_t elements) {
    if (elements > kMostBytes) refuse("more elements than can be counted: " + std::to_string(elements));
    PyObject* made = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(total_ + kLength));
    if (!made) throw nb::python_error();
    at_ = reinterpret_cast<Byte*>(PyBytes_AS_STRING(made));
    put_length(at_, elements);
    at_ += kLength;
    return nb::steal(made);
  }

  void put(std::size_t i, const Byte* data, std::size_t size) {
    if (total_ < kLength || total_ - kLength < size) changed(i);
    put_length(at_, size);
    if (size) std::memcpy(at_ + kLength, data, size);
    at_ += kLength + size;
    total_ -= kLength + size;
  }

  void finish(std::size_t elements) const {
    if (total_) changed(elements);
  }

 private:
  [[noreturn]] static void changed(std::size_t i) { refuse("elements before " + element(i) + " were changed meanwhile"); }

  std::size_t total_ = 0;
  Byte* at_ = nullptr;
};

// ── arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PyArrayObject* as_array(nb::handle object, int type, bool writable) {
  if (!PyArray_Check(object.ptr())) refuse("expected an array");
  auto* array = reinterpret_cast<PyArrayObject*>(object.ptr());
  if (PyArray_TYPE(array) != type) refuse("expected an array of another data type");
  if (writable && !PyArray_ISWRITEABLE(array)) refuse("expected a writable array");
  return array;
}

std::size_t count_of(PyArrayObject* array) { return static_cast<std::size_t>(PyArray_SIZE(array)); }

// Hands each element on in C order, with its number.
template <typename Work>
void each(PyArrayObject* array, Work&& work) {
  const int axes = PyArray_NDIM(array);
  const npy_intp *shape = PyArray_DIMS(array), *strides = PyArray_STRIDES(array);
  if (PyArray_SIZE(array) == 0) return;
  char* at = PyArray_BYTES(array);
  std::array<npy_intp, kMaxAxes> index{};
  const npy_intp inner = axes ? shape[axes - 1] : 1, step = axes ? strides[axes - 1] : 0;
  for (std::size_t number = 0;;) {
    for (npy_intp i = 0; i < inner; ++i) work(number++, at + i * step);
    int axis = axes - 2;
    for (; axis >= 0; --axis) {
      at += strides[axis];
      if (++index[static_cast<std::size_t>(axis)] < shape[axis]) break;
      at -= shape[axis] * strides[axis];
      index[static_cast<std::size_t>(axis)] = 0;
    }
    if (axis < 0) return;
  }
}

struct Missing {
  std::size_t number;
};

// The lock of the texts of an array. Who has it asks for no GIL.
class Locked {
 public:
  explicit Locked(PyArrayObject* array)
      : allocator_(NpyString_acquire_allocator(reinterpret_cast<PyArray_StringDTypeObject*>(PyArray_DESCR(array)))) {}
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() { NpyString_release_allocator(allocator_); }

  Span load(std::size_t i, const char* at) const {
    npy_static_string found{0, nullptr};
    const int state = NpyString_load(allocator_, reinterpret_cast<const npy_packed_static_string*>(at), &found);
    if (state != 0) throw Missing{i};
    return {reinterpret_cast<const Byte*>(found.buf), found.size};
  }

  void store(char* at, const Span& text) const {
    auto* packed = reinterpret_cast<npy_packed_static_string*>(at);
    if (NpyString_pack(allocator_, packed, reinterpret_cast<const char*>(text.data), text.size) < 0) throw std::bad_alloc();
  }

 private:
  npy_string_allocator* allocator_;
};

// Hands on each text of an array, with its number, under the lock of the texts and without the GIL.
template <typename Work>
void each_text(PyArrayObject* array, Work&& work) {
  try {
    nb::gil_scoped_release released;
    const Locked texts(array);
    each(array, [&](std::size_t i, char* at) { work(i, at, texts); });
  } catch (const Missing& missing) {
    throw nb::type_error((element(missing.number) + " is missing").c_str());
  } catch (const NoText& bad) {
    bad.raise();
  }
}

nb::object encode_texts(nb::handle object) {
  PyArrayObject* array = as_array(object, NPY_VSTRING, false);
  const std::size_t count = count_of(array);
  Writer writer;
  each_text(array, [&](std::size_t i, const char* at, const Locked& texts) {
    const Span text = texts.load(i, at);
    if (!is_text(text)) throw no_text(i, text);
    writer.count(i, text.size);
  });
  nb::object bytes = writer.allocate(count);
  each_text(array, [&](std::size_t i, const char* at, const Locked& texts) {
    const Span text = texts.load(i, at);
    writer.put(i, text.data, text.size);
  });
  writer.finish(count);
  return bytes;
}

// Nothing is stored unless all can be.
void decode_texts(nb::handle object, nb::handle out) {
  PyArrayObject* array = as_array(out, NPY_VSTRING, true);
  const std::size_t count = count_of(array);
  const Data data(object);
  try {
    nb::gil_scoped_release released;
    Reader(data, count).check(true);
  } catch (const NoText& bad) {
    bad.raise();
  }
  Reader reader(data, count);
  each_text(array, [&](std::size_t, char* at, const Locked& texts) { texts.store(at, reader.next()); });
}

nb::object encode_runs(nb::handle object) {
  PyArrayObject* array = as_array(object, NPY_OBJECT, false);
  const std::size_t count = count_of(array);
  Writer writer;
  const auto walk = [&](auto&& work) {
    each(array, [&](std::size_t i, char* at) {
      PyObject* item = *reinterpret_cast<PyObject**>(at);
      if (!item || !PyBytes_Check(item)) throw nb::type_error((element(i) + " is " + (item ? Py_TYPE(item)->tp_name : "NoneType")).c_str());
      work(i, reinterpret_cast<const Byte*>(PyBytes_AS_STRING(item)), static_cast<std::size_t>(PyBytes_GET_SIZE(item)));
    });
  };
  walk([&](std::size_t i, const Byte*, std::size_t size) { writer.count(i, size); });
  nb::object bytes = writer.allocate(count);
  walk([&](std::size_t i, const Byte* run, std::size_t size) { writer.put(i, run, size); });
  writer.finish(count);
  return bytes;
}

void decode_runs(nb::handle object, nb::handle out) {
  PyArrayObject* array = as_array(out, NPY_OBJECT, true);
  const std::size_t count = count_of(array);
  const Data data(object);
  Reader(data, count).check(false);
  Reader reader(data, count);
  each(array, [&](std::size_t, char* at) {
    const Span run = reader.next();
    PyObject* made = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(run.data), static_cast<Py_ssize_t>(run.size));
    if (!made) throw nb::python_error();
    auto** place = reinterpret_cast<PyObject**>(at);
    PyObject* old = *place;
    *place = made;
    Py_XDECREF(old);
  });
}

}  // namespace

void bind_elements(nb::module_& m) {
  if (PyArray_ImportNumPyAPI() < 0) throw nb::python_error();
  m.def("encode_texts", &encode_texts);
  m.def("decode_texts", &decode_texts);
  m.def("encode_runs", &encode_runs);
  m.def("decode_runs", &decode_runs);
}

}  // namespace zarrant
