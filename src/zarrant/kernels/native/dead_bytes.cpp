// See dead_bytes.h.
#include "dead_bytes.h"

#include <algorithm>
#include <cstring>

namespace zarrant {
namespace {

constexpr Byte kMagic[8] = {0x89, 'z', 'd', 'e', 'a', 'd', '\r', '\n'};
constexpr std::int64_t kExtentBytes = 24, kMaxClock = std::int64_t{1} << 62;

// The checksum of a record: of its bytes with zero in the place of it.
std::uint32_t checksum(Span record) {
  Byte tail[kRecordTail];
  const std::size_t body = record.size - kRecordTail;
  std::memcpy(tail, record.data + body, kRecordTail);
  store_little(std::uint32_t{0}, tail + 12);
  return crc32c(tail, kRecordTail, crc32c(record.data, body, 0));
}

std::vector<Byte> encode(const DeadRecord& record) {
  std::vector<Byte> bytes(record.extents.size() * kExtentBytes + kRecordTail);
  Byte* at = bytes.data();
  for (const DeadExtent& each : record.extents) {
    store_little(each.start, at), store_little(each.stop, at + 8), store_little(each.clock, at + 16);
    at += kExtentBytes;
  }
  store_little(record.clock, at);
  store_little(static_cast<std::uint32_t>(record.extents.size()), at + 8);
  std::memcpy(at + 16, kMagic, sizeof kMagic);
  store_little(checksum({bytes.data(), bytes.size()}), at + 12);
  return bytes;
}

// The gaps of some bytes between extents in order.
std::vector<Extent> gaps(const std::vector<Extent>& taken, Extent data) {
  std::vector<Extent> found;
  std::int64_t end = data.start;
  for (const Extent& each : taken) {
    if (end < each.start) found.push_back({end, each.start});
    end = std::max(end, each.stop);
  }
  if (end < data.stop) found.push_back({end, data.stop});
  return found;
}

// Puts new bytes into the smallest free extent that is large enough, else at the end.
std::int64_t place(std::vector<Extent>& free, std::int64_t end, std::int64_t added) {
  Extent* best = nullptr;
  for (Extent& each : free) {
    const std::int64_t length = each.stop - each.start;
    if (length >= added && (!best || length < best->stop - best->start)) best = &each;
  }
  if (added == 0 || !best) return end;
  const std::int64_t at = best->start;
  best->start += added;
  return at;
}

}  // namespace

void in_order(std::vector<Extent>& extents) {
  std::stable_sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.start < b.start; });
}

std::int64_t DeadRules::allowance(std::int64_t live) const {
  return std::max(kept_bytes, static_cast<std::int64_t>(static_cast<double>(live) * limit));
}

bool DeadRules::needs_record(std::int64_t dead, std::int64_t live) const {
  return limit < 1 && first_record * dead > allowance(live);  // safety: native dead bytes
}

bool DeadRules::is_too_long(std::int64_t length, std::int64_t live) const {
  return limit < 1 && length > max_multiple * (live + allowance(live));
}

std::int64_t record_size(const DeadRules& rules, const Byte* tail) {
  const auto count = static_cast<std::int64_t>(load_little<std::uint32_t>(tail + 8));
  const bool known = std::memcmp(tail + 16, kMagic, sizeof kMagic) == 0 && count <= rules.max_extents;
  return known ? count * kExtentBytes + kRecordTail : 0;
}

std::optional<DeadRecord> read_record(Span record, std::vector<Extent> live, std::int64_t first, std::int64_t start) {
  const Byte* const tail = record.data + record.size - kRecordTail;
  const auto clock = load_little<std::uint64_t>(tail);
  if (checksum(record) != load_little<std::uint32_t>(tail + 12) || clock >= kMaxClock) return std::nullopt;
  DeadRecord found{static_cast<std::int64_t>(clock), {}};
  for (const Byte* at = record.data; at < tail; at += kExtentBytes) {
    const DeadExtent each{load_little<std::int64_t>(at), load_little<std::int64_t>(at + 8), load_little<std::int64_t>(at + 16)};
    if (each.start >= each.stop || each.clock > found.clock) return std::nullopt;
    found.extents.push_back(each);
    live.push_back({each.start, each.stop});
  }
  in_order(live);
  std::int64_t end = first;
  for (const Extent& each : live) {
    if (each.start < end || each.stop > start) return std::nullopt;
    end = each.stop;
  }
  return found;
}

std::optional<ShardLayout> lay_out(const DeadRules& rules, const std::vector<Extent>& live, const std::vector<Extent>& dying,
                                   std::optional<DeadRecord> record, Extent data, std::int64_t added, std::int64_t most) {
  if (!record) {
    record.emplace();
    for (const Extent& each : gaps(live, data)) record->extents.push_back({each.start, each.stop, 0});
  }
  std::int64_t died = 0;
  for (const Extent& each : dying) died += each.stop - each.start;
  const std::int64_t clock = record->clock + std::min(died, most / rules.kept_updates);  // safety: native dead clock
  std::vector<DeadExtent>& dead = record->extents;
  for (const Extent& each : dying) dead.push_back({each.start, each.stop, clock});
  const auto expired = [&](const DeadExtent& each) {  // what a stranger wrote there may be any number
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(clock) - static_cast<std::uint64_t>(each.clock)) >= most;
  };
  dead.erase(std::remove_if(dead.begin(), dead.end(), expired), dead.end());  // safety: native dead bytes that stay
  if (static_cast<std::int64_t>(dead.size()) > rules.max_extents) return std::nullopt;
  std::vector<Extent> taken = live;
  for (const DeadExtent& each : dead) taken.push_back({each.start, each.stop});
  in_order(taken);
  std::vector<Extent> free = gaps(taken, data);
  ShardLayout made{data.stop, 0, {}, {}};
  if (!free.empty() && free.back().stop == data.stop) {
    made.end = free.back().start;
    free.pop_back();
  }
  made.at = place(free, made.end, added);
  for (const Extent& each : free)
    if (each.stop - each.start >= rules.min_hole) made.holes.push_back(each);
  record->clock = clock;
  made.record = encode(*record);
  return made;
}

}  // namespace zarrant
