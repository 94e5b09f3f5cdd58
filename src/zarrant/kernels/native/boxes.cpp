// Many boxes of two arrays. All boxes are checked, then copied; neighbours that touch along a line are copied as one, so
// that the larger array is walked along whole lines.
#include <algorithm>
#include <cstdlib>

#include "kernels.h"

namespace zarrant {
namespace {

using Wide = __int128;

void check_side(const Strided& array, const std::int64_t* start, const std::int64_t* step, const std::int64_t* shape,
                std::int64_t box, const char* name) {
  for (int axis = 0; axis < array.axes; ++axis) {
    const Wide last = Wide(start[axis]) + Wide(step[axis]) * (shape[axis] - 1);
    const bool inside = start[axis] >= 0 && start[axis] < array.shape[axis] && last >= 0 && last < array.shape[axis];
    if (!inside)
      throw std::invalid_argument("box " + std::to_string(box) + " leaves axis " + std::to_string(axis) + " of the " +
                                  name + ", of length " + std::to_string(array.shape[axis]) + ": starts at " +
                                  std::to_string(start[axis]) + ", " + std::to_string(shape[axis]) + " steps of " +
                                  std::to_string(step[axis]));
  }
}

bool is_empty(const std::int64_t* shape, int axes) { return std::find(shape, shape + axes, 0) != shape + axes; }

}  // namespace

void check_boxes(const Strided& src, const Strided& dst, const Boxes& boxes) {
  const int axes = src.axes;
  for (std::int64_t box = 0; box < boxes.count; ++box) {
    const std::int64_t at = box * axes;
    const std::int64_t* shape = boxes.shape + at;
    if (std::any_of(shape, shape + axes, [](std::int64_t count) { return count < 0; }))
      throw std::invalid_argument("box " + std::to_string(box) + " has a negative length");
    if (is_empty(shape, axes)) continue;
    check_side(src, boxes.src_start + at, boxes.src_step, shape, box, "source");
    check_side(dst, boxes.dst_start + at, boxes.dst_step, shape, box, "destination");
    for (int axis = 0; axis < axes; ++axis)
      if (boxes.dst_step[axis] == 0 && shape[axis] > 1) throw std::invalid_argument("a destination cannot step by 0");
  }
}

namespace {

std::int64_t offset(const Strided& array, const std::int64_t* start) {
  std::int64_t bytes = array.origin;
  for (int axis = 0; axis < array.axes; ++axis) bytes += start[axis] * array.strides[axis];
  return bytes;
}

// Bytes from one element of a box to the next. A step may be anything where it is never taken.
std::int64_t pitch(std::int64_t stride, std::int64_t step, std::int64_t count) { return count > 1 ? stride * step : 0; }

// A run: `count` boxes of one shape at one distance from each other on both sides.
struct Run {
  std::int64_t count;
  std::int64_t src;
  std::int64_t dst;
};

bool follows(const std::int64_t* starts, std::int64_t box, std::int64_t first, int axes) {
  const std::int64_t *zero = starts + first * axes, *one = zero + axes, *last = starts + (box - 1) * axes,
                     *next = last + axes;
  for (int axis = 0; axis < axes; ++axis)
    if (next[axis] - last[axis] != one[axis] - zero[axis]) return false;
  return true;
}

// Whether two neighbours of the run touch along the axis that `array` stores as lines.
bool touches(const Strided& array, const std::int64_t* step, const std::int64_t* shape, std::int64_t distance) {
  std::int64_t line = 0;
  for (int axis = 0; axis < array.axes; ++axis) {
    const std::int64_t bytes = std::abs(pitch(array.strides[axis], step[axis], shape[axis])) * shape[axis];
    if (bytes > 0 && (line == 0 || bytes < line)) line = bytes;
  }
  return std::abs(distance) <= std::max(line, array.itemsize);
}

// Later boxes must win, so boxes that are copied side by side may not share a place in the destination.
bool apart(const Strided& dst, const std::int64_t* step, const std::int64_t* shape, const std::int64_t* zero) {
  const std::int64_t* one = zero + dst.axes;
  for (int axis = 0; axis < dst.axes; ++axis) {
    const std::int64_t span = shape[axis] > 1 ? (shape[axis] - 1) * std::abs(step[axis]) + 1 : 1;
    if (dst.strides[axis] != 0 && std::abs(one[axis] - zero[axis]) >= span) return true;
  }
  return false;
}

// The most bytes of a run: it is walked once per line of a box; what it touches on the compact side has to stay cached.
constexpr double kRunBytes = 2 << 20;
// When the compact side is written, its lines of a run lie a box apart and compete for the same ways of the first cache;
// measured with 8^3 to 64^3 boxes of uint16: 16 boxes, or as many as fit that cache, beat fewer and more by up to a half.
constexpr double kGatherBytes = 64 << 10;
constexpr std::int64_t kGatherBoxes = 16;

Run find_run(const Strided& src, const Strided& dst, const Boxes& boxes, std::int64_t first, std::int64_t end) {
  const int axes = src.axes;
  const std::int64_t* shape = boxes.shape + first * axes;
  Run run{1, 0, 0};
  if (first + 1 >= end || !std::equal(shape, shape + axes, shape + axes)) return run;
  double bytes = static_cast<double>(src.itemsize);
  for (int axis = 0; axis < axes; ++axis) bytes *= static_cast<double>(shape[axis]);
  const std::int64_t *src_zero = boxes.src_start + first * axes, *dst_zero = boxes.dst_start + first * axes;
  run.src = offset(src, src_zero + axes) - offset(src, src_zero);
  run.dst = offset(dst, dst_zero + axes) - offset(dst, dst_zero);
  const bool scatter = touches(dst, boxes.dst_step, shape, run.dst);
  if (!scatter && !touches(src, boxes.src_step, shape, run.src)) return run;
  if (!apart(dst, boxes.dst_step, shape, dst_zero)) return run;
  std::int64_t most = std::min(end - first, static_cast<std::int64_t>(kRunBytes / bytes));
  if (!scatter) most = std::min(most, std::max(kGatherBoxes, static_cast<std::int64_t>(kGatherBytes / bytes)));
  while (run.count < most) {
    const std::int64_t box = first + run.count;
    const bool same = std::equal(shape, shape + axes, boxes.shape + box * axes) &&
                      follows(boxes.src_start, box, first, axes) && follows(boxes.dst_start, box, first, axes);
    if (!same) break;
    ++run.count;
  }
  return run;
}

}  // namespace

void copy_range(const Strided& src, const Strided& dst, const Boxes& boxes, std::int64_t first, std::int64_t end, Lines lines) {
  const int axes = src.axes;
  std::array<Loop, kMaxAxes + 1> loops;
  for (std::int64_t box = first; box < end;) {
    const std::int64_t* shape = boxes.shape + box * axes;
    if (is_empty(shape, axes)) {
      ++box;
      continue;
    }
    const Run run = find_run(src, dst, boxes, box, end);
    loops[0] = {run.count, run.src, run.dst};
    for (int axis = 0; axis < axes; ++axis)
      loops[axis + 1] = {shape[axis], pitch(src.strides[axis], boxes.src_step[axis], shape[axis]),
                         pitch(dst.strides[axis], boxes.dst_step[axis], shape[axis])};
    copy_strided(src.data + offset(src, boxes.src_start + box * axes), dst.data + offset(dst, boxes.dst_start + box * axes),
                 src.itemsize, loops.data(), axes + 1, lines);
    box += run.count;
  }
}

void copy_boxes(const Strided& src, const Strided& dst, const Boxes& boxes) {
  check_boxes(src, dst, boxes);
  copy_range(src, dst, boxes, 0, boxes.count, Lines::kPrefetched);
}

}  // namespace zarrant
