// How long the dead bytes of a shard stay, and how their place is used again: as codecs/sharding/dead_bytes.py does it, which says why.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels.h"

namespace zarrant {

struct Extent {  // bytes of a shard
  std::int64_t start, stop;
};

struct DeadExtent {
  std::int64_t start, stop, clock;  // when they died
};

struct DeadRules {
  double limit;  // of the live bytes; 1 and more: all dead bytes stay
  std::int64_t kept_bytes, kept_updates, first_record, min_hole, max_multiple, max_extents;

  // How many dead bytes stay, beside so many live ones.
  std::int64_t allowance(std::int64_t live) const;
  bool needs_record(std::int64_t dead, std::int64_t live) const;
  bool is_too_long(std::int64_t length, std::int64_t live) const;
};

struct DeadRecord {
  std::int64_t clock;
  std::vector<DeadExtent> extents;
};

constexpr std::int64_t kRecordTail = 24;

// Sorted by where they begin.
void in_order(std::vector<Extent>& extents);

// Bytes of the record that ends with this tail; 0 if it is no tail of a record.
std::int64_t record_size(const DeadRules& rules, const Byte* tail);

// None if the record, whose bytes begin at `start` of the shard, is damaged or does not fit what is live.
std::optional<DeadRecord> read_record(Span record, std::vector<Extent> live, std::int64_t first, std::int64_t start);

// Old bytes [first, end) with holes, the place `at` of the new bytes, and the record.
struct ShardLayout {
  std::int64_t end, at;
  std::vector<Extent> holes;
  std::vector<Byte> record;
};

// A place for `added` bytes beside the old ones, `data`, of which `most` dead ones stay. `live`, and `dying`, some of it: in order. None if there are
// too many dead extents for a record.
std::optional<ShardLayout> lay_out(const DeadRules& rules, const std::vector<Extent>& live, const std::vector<Extent>& dying,
                                   std::optional<DeadRecord> record, Extent data, std::int64_t added, std::int64_t most);

}  // namespace zarrant
