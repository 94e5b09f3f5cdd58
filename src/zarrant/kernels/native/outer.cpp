// Every combination of a segment of each axis (lists of indices), without a box for each: the offsets of each axis are found once.
#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace zarrant {
namespace {

using Wide = __int128;

bool within(std::int64_t start, std::int64_t step, std::int64_t count, std::int64_t length) {
  const Wide last = Wide(start) + Wide(step) * (count - 1);
  return start >= 0 && start < length && last >= 0 && last < length;
}

// Bytes from the start of the array: where an element is, and where it goes.
struct Place {
  std::ptrdiff_t src, dst;
};

const std::int64_t* span_of(const Outer& outer, int axes, std::int64_t row, int axis) {
  return outer.spans + (row * (axes - 1) + axis - 1) * 2;
}

// The elements of an axis, in the order of the segments.
std::vector<Place> places_of(const Strided& src, const Strided& dst, const Outer& outer, std::int64_t row, int axis) {
  const std::int64_t* span = span_of(outer, src.axes, row, axis);
  const Boxes& all = outer.segments;
  std::vector<Place> places;
  for (std::int64_t i = span[0]; i < span[1]; ++i)
    for (std::int64_t n = 0; n < all.shape[i]; ++n)
      places.push_back({(all.src_start[i] + n * all.src_step[axis]) * src.strides[axis],
                        (all.dst_start[i] + n * all.dst_step[axis]) * dst.strides[axis]});
  return places;
}

// A line of elements of a size that is known when this is compiled; 0: `itemsize`.
template <std::size_t Size>
void copy_line(const Byte* src, Byte* dst, const std::vector<Place>& line, std::size_t itemsize) {
  for (const Place& place : line) std::memcpy(dst + place.dst, src + place.src, Size ? Size : itemsize);
}

using CopyLine = void (*)(const Byte*, Byte*, const std::vector<Place>&, std::size_t);

CopyLine copy_of(std::int64_t itemsize) {
  switch (itemsize) {
    case 1: return copy_line<1>;
    case 2: return copy_line<2>;
    case 4: return copy_line<4>;
    case 8: return copy_line<8>;
    case 16: return copy_line<16>;
    default: return copy_line<0>;
  }
}

}  // namespace

void check_outer(const Strided& src, const Strided& dst, const Outer& outer, std::int64_t rows) {
  const Boxes& all = outer.segments;
  if (src.shape[0] < 1 || dst.shape[0] < 1) throw std::invalid_argument("expected rows and values");
  for (std::int64_t row = 0; row < rows; ++row)
    for (int axis = 1; axis < src.axes; ++axis) {
      const std::int64_t* span = span_of(outer, src.axes, row, axis);
      if (span[0] < 0 || span[1] < span[0] || span[1] > all.count) throw std::invalid_argument("expected segments that are there");
      for (std::int64_t i = span[0]; i < span[1]; ++i)
        if (all.shape[i] < 1 || !within(all.src_start[i], all.src_step[axis], all.shape[i], src.shape[axis]) ||
            !within(all.dst_start[i], all.dst_step[axis], all.shape[i], dst.shape[axis]))
          throw std::invalid_argument("segment " + std::to_string(i) + " leaves axis " + std::to_string(axis));
    }
}

Part reach_of(const Strided& rows, const Outer& outer, std::int64_t row, std::size_t size) {
  std::int64_t low = 0, high = rows.itemsize;
  for (int axis = 1; axis < rows.axes; ++axis) {
    const std::int64_t* span = span_of(outer, rows.axes, row, axis);
    if (span[0] == span[1]) return {0, size};
    std::int64_t least = rows.shape[axis], most = 0;
    for (std::int64_t i = span[0]; i < span[1]; ++i) {
      const std::int64_t start = outer.segments.src_start[i];
      const std::int64_t last = start + (outer.segments.shape[i] - 1) * outer.segments.src_step[axis];
      least = std::min({least, start, last});
      most = std::max({most, start, last});
    }
    low += least * rows.strides[axis];
    high += most * rows.strides[axis];
  }
  return {static_cast<std::size_t>(low), static_cast<std::size_t>(high)};
}

void copy_outer(const Strided& src, const Strided& dst, const Outer& outer, std::int64_t row) {
  std::vector<std::vector<Place>> axes;
  for (int axis = 1; axis < src.axes; ++axis) {
    axes.push_back(places_of(src, dst, outer, row, axis));
    if (axes.back().empty()) return;
  }
  const std::vector<Place> line = axes.empty() ? std::vector<Place>{{0, 0}} : std::move(axes.back());
  if (!axes.empty()) axes.pop_back();
  const Byte* from = src.data + src.origin;
  Byte* into = dst.data + dst.origin;
  const CopyLine copy = copy_of(src.itemsize);
  std::vector<std::size_t> at(axes.size(), 0);
  for (;;) {
    Place place{0, 0};
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
      place.src += axes[axis][at[axis]].src;
      place.dst += axes[axis][at[axis]].dst;
    }
    copy(from + place.src, into + place.dst, line, static_cast<std::size_t>(src.itemsize));
    std::size_t axis = axes.size();
    while (axis > 0 && ++at[axis - 1] == axes[axis - 1].size()) at[--axis] = 0;
    if (axis == 0) return;
  }
}

}  // namespace zarrant
