// Which subchunks a box of a shard touches, where their bytes are, and which part of each goes where. Plain integers, no bytes.
#include <algorithm>
#include <numeric>

#include "kernels.h"

namespace zarrant {
namespace {

// The box within the shard, and how many subchunks it touches along each axis.
std::vector<std::int64_t> touched(const ShardBox& box, std::int64_t entries) {
  std::vector<std::int64_t> along;
  std::int64_t all = 1;
  for (int axis = 0; axis < box.axes; ++axis) {
    const std::int64_t edge = box.edge[axis], grid = box.grid[axis], start = box.start[axis], count = box.count[axis];
    std::int64_t length = 0, beyond = 0;
    const bool good = edge > 0 && grid > 0 && start >= 0 && count > 0 && !__builtin_mul_overflow(edge, grid, &length) &&
                      start < length && count <= length - start && !__builtin_add_overflow(box.value[axis], count, &beyond) &&
                      !__builtin_mul_overflow(all, grid, &all);
    if (!good) throw std::invalid_argument("expected a box within the shard");
    along.push_back((start + count - 1) / edge - start / edge + 1);
  }
  if (all != entries) throw std::invalid_argument("expected an entry for each subchunk");
  return along;
}

}  // namespace

bool valid_index(const std::int64_t* table, std::int64_t entries, std::int64_t start, std::int64_t stop) {
  std::int64_t end = start;
  bool ascending = true;
  for (std::int64_t entry = 0; entry < entries; ++entry) {
    const std::int64_t offset = table[2 * entry], size = table[2 * entry + 1];
    if (offset == -1 && size == -1) continue;
    if (offset < start || size < 0 || offset > stop || size > stop - offset) return false;
    if (size == 0) continue;
    ascending = ascending && offset >= end;
    end = offset + size;
  }
  if (ascending) return true;
  std::vector<std::pair<std::int64_t, std::int64_t>> spans;
  for (std::int64_t entry = 0; entry < entries; ++entry)
    if (table[2 * entry + 1] > 0) spans.emplace_back(table[2 * entry], table[2 * entry + 1]);
  std::sort(spans.begin(), spans.end());
  for (std::size_t i = 1; i < spans.size(); ++i)
    if (spans[i].first < spans[i - 1].first + spans[i - 1].second) return false;
  return true;
}

std::int64_t count_touched(const ShardBox& box, std::int64_t entries) {
  const std::vector<std::int64_t> along = touched(box, entries);
  return std::accumulate(along.begin(), along.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t plan_box(const ShardBox& box, const ShardIndex& index, std::int64_t limit, std::int64_t first, std::int64_t end,
                      const BoxPlan& plan, std::vector<std::pair<std::int64_t, std::int64_t>>& runs) {
  const std::vector<std::int64_t> along = touched(box, index.entries);
  const std::int64_t all = std::accumulate(along.begin(), along.end(), std::int64_t{1}, std::multiplies<>());
  if (first < 0 || end < first || end > all) throw std::invalid_argument("expected rows of the box");
  std::int64_t stored = 0;
  for (std::int64_t number = first; number < end; ++number) {
    const std::int64_t row = number - first, at = row * (box.axes + 1);
    std::int64_t rest = number, entry = 0, stride = 1;
    plan.value_start[at] = 0;
    plan.row_start[at] = row;
    plan.shape[at] = 1;
    for (int axis = box.axes - 1; axis >= 0; --axis) {
      const std::int64_t edge = box.edge[axis], begin = box.start[axis];
      const std::int64_t place = begin / edge + rest % along[axis];
      rest /= along[axis];
      entry += place * stride;
      stride *= box.grid[axis];
      const std::int64_t low = std::max(begin, place * edge), high = std::min(begin + box.count[axis], (place + 1) * edge);
      plan.value_start[at + axis + 1] = box.value[axis] + low - begin;
      plan.row_start[at + axis + 1] = low - place * edge;
      plan.shape[at + axis + 1] = high - low;
    }
    const std::int64_t size = index.size[entry], offset = index.offset[entry];
    if (size == -1) continue;
    std::int64_t beyond = 0;
    if (size < 0 || size > limit || offset < 0 || __builtin_add_overflow(offset, size, &beyond)) return -1;
    plan.number[stored] = row;
    plan.offset[stored] = offset;
    plan.size[stored] = size;
    ++stored;
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(stored));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return plan.offset[a] < plan.offset[b]; });
  for (const std::int64_t i : order) {
    const std::int64_t start = plan.offset[i];
    if (runs.empty() || start != runs.back().first + runs.back().second) runs.emplace_back(start, 0);
    plan.which[i] = static_cast<std::int64_t>(runs.size()) - 1;
    plan.offset[i] = start - runs.back().first;
    runs.back().second += plan.size[i];
  }
  return stored;
}

}  // namespace zarrant
