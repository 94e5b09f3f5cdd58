// A program over all rows of a mini-batch. Each row goes straight from its place to its place; only steps in the middle of
// a chain pass through scratch memory of the thread, whose size the program and the row length bound, never the data.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels.h"

namespace zarrant {
namespace {

// As SLACK in program.py: what another writer's intermediate may take beyond twice our own bound.
constexpr std::size_t kSlack = 1 << 16;
// Scratch beyond this is given back after a call; it is about the largest chunk that is common.
constexpr std::size_t kKept = 16 << 20;

class Scratch {
 public:
  Byte* at_least(std::size_t size) {
    if (size > size_) {
      bytes_.reset();
      size_ = 0;
      bytes_.reset(new Byte[size]);
      size_ = size;
    }
    return bytes_.get();
  }
  void trim() {
    if (size_ > kKept) bytes_.reset(), size_ = 0;
  }

 private:
  std::unique_ptr<Byte[]> bytes_;
  std::size_t size_ = 0;
};

// Two places to alternate between, for chains of several steps.
struct Pair {
  std::array<Scratch, 2> places;
  bool second = false;

  static Pair& here() {
    thread_local Pair pair;
    return pair;
  }
  Byte* next(std::size_t size) {
    second = !second;
    return places[second].at_least(size);
  }
};

struct Trimmed {
  Pair& pair = Pair::here();
  ~Trimmed() {
    for (Scratch& place : pair.places) place.trim();
  }
};

bool fixed(const Step& step) { return step.code == kSwap || step.code == kCrc32c; }

// The bytes that decoding step `steps` may give: exact where the steps before it fix the length.
std::size_t decode_limit(const Program& program, std::size_t steps, std::size_t size) {
  const std::size_t bound = encoded_bound(program, steps, size);
  for (std::size_t i = 0; i < steps; ++i)
    if (!fixed(program[i])) return 2 * bound + kSlack;
  return bound;
}

// The last step that moves bytes writes to their final place; checksums after it are appended there.
std::size_t last_move(const Program& program) {
  std::size_t last = program.size();
  while (last > 0 && program[last - 1].code == kCrc32c) --last;
  return last;
}

// `bounds` are the most bytes after each step; they may fall again where a step is external.
std::size_t encode_row(const Program& program, const std::vector<std::size_t>& bounds, const Byte* row, std::size_t size,
                       Byte* place, Pair& scratch) {
  const std::size_t most = *std::max_element(bounds.begin(), bounds.end());
  const std::size_t moves = last_move(program);
  const Byte* now = row;
  Byte* writable = nullptr;
  if (moves == 0) {
    if (size) std::memcpy(place, row, size);
    now = writable = place;
  }
  for (std::size_t i = 0; i < program.size(); ++i) {
    const Step& step = program[i];
    if (step.code == kCrc32c) {
      if (!writable) {
        writable = scratch.next(most);
        if (size) std::memcpy(writable, now, size);
        now = writable;
      }
      store_little(crc32c(now, size, 0), writable + size);
      size += 4;
      continue;
    }
    writable = i + 1 == moves ? place : scratch.next(most);
    if (step.code == kSwap)
      swap_words(now, writable, size, static_cast<std::size_t>(step.with[0]));
    else
      size = compress(step, now, size, writable, bounds[i + 1]);
    now = writable;
  }
  return size;
}

std::string no_words(std::size_t size, std::size_t word) {
  return std::to_string(size) + " bytes are no whole number of " + std::to_string(word) + "-byte words";
}

void check_crc(const Byte* data, std::size_t size, bool check) {
  if (size < 4) throw BadData(std::to_string(size) + " bytes are too short for a CRC-32C");
  if (!check) return;
  const std::uint32_t computed = crc32c(data, size - 4, 0), stored = load_little<std::uint32_t>(data + size - 4);
  if (computed == stored) return;
  char text[64];
  std::snprintf(text, sizeof text, "CRC-32C is %08x, stored %08x", computed, stored);
  throw BadData(text);
}

// Undoes one step; `row` is where the last moving step may write directly.
Span decode_step(const Program& program, std::size_t index, std::size_t limit, Span now, Byte* row, std::size_t size, Part part,
                 bool check, Pair& scratch) {
  const Step& step = program[index];
  if (step.code == kCrc32c) {
    check_crc(now.data, now.size, check);
    return {now.data, now.size - 4};
  }
  if (step.code == kSwap) {
    const auto word = static_cast<std::size_t>(step.with[0]);
    if (now.size % word) throw BadData(no_words(now.size, word));
    if (now.size != size) return now;  // the length check will say so
    swap_words(now.data, row, size, word);
    return {row, size};
  }
  const bool all = part.start == 0 && part.stop == size;
  if (index == 0 && !all && decompress_part(step, now.data, now.size, row, size, part)) return {row, size};
  bool direct = true;
  for (std::size_t i = 0; i < index; ++i) direct = direct && program[i].code == kSwap;
  Byte* place = direct ? row : scratch.next(limit);
  return {place, decompress(step, now.data, now.size, place, limit)};
}

}  // namespace

std::size_t encoded_bound(const Program& program, std::size_t steps, std::size_t size) {
  for (std::size_t i = 0; i < steps; ++i) {
    if (program[i].code == kCrc32c) size += 4;
    else if (program[i].code != kSwap) size = compressed_bound(program[i], size);
  }
  return size;
}

std::vector<std::size_t> encoded_bounds(const Program& program, std::size_t size) {
  std::vector<std::size_t> bounds;
  for (std::size_t steps = 0; steps <= program.size(); ++steps) bounds.push_back(encoded_bound(program, steps, size));
  return bounds;
}

std::size_t encode_one(const Program& program, const std::vector<std::size_t>& bounds, const Byte* row, std::size_t size,
                       Byte* place) {
  return encode_row(program, bounds, row, size, place, Pair::here());
}

std::vector<std::size_t> decode_limits(const Program& program, std::size_t size) {
  std::vector<std::size_t> limits;
  for (std::size_t steps = 0; steps < program.size(); ++steps) limits.push_back(decode_limit(program, steps, size));
  return limits;
}

bool has_length(std::size_t found, std::size_t size, const Program& program, std::size_t word, Failure& failure) {
  if (found == size) return true;
  if (word && found % word)
    failure = {0, -1, no_words(found, word)};
  else
    failure = {0, static_cast<std::int64_t>(program.size()),
               "decoded to " + std::to_string(found) + " bytes, expected " + std::to_string(size)};
  return false;
}

bool decode_one(const Program& program, const std::vector<std::size_t>& limits, Span span, Byte* row, std::size_t size, Part part,
                bool check, std::size_t word, Failure& failure) {
  std::size_t index = program.size();
  try {
    while (index > 0) {
      --index;
      span = decode_step(program, index, limits[index], span, row, size, part, check, Pair::here());
    }
  } catch (const BadData& bad) {
    failure = {0, static_cast<std::int64_t>(index), bad.what()};
    return false;
  }
  if (!has_length(span.size, size, program, word, failure)) return false;
  if (span.data != row && size) std::memcpy(row, span.data, size);
  return true;
}

void trim_scratch() { const Trimmed scratch; }

std::size_t encode(const Program& program, const Byte* rows, std::int64_t count, std::size_t size, const Byte* keep,
                   Byte* arena, std::int64_t* sizes) {
  const std::vector<std::size_t> bounds = encoded_bounds(program, size);
  const Trimmed scratch;
  std::size_t total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (keep && !keep[i]) {
      sizes[i] = -1;
      continue;
    }
    const Byte* row = rows + static_cast<std::size_t>(i) * size;
    const std::size_t written = encode_one(program, bounds, row, size, arena + total);
    sizes[i] = static_cast<std::int64_t>(written);
    total += written;
  }
  return total;
}

std::vector<Failure> decode(const Program& program, const std::vector<Span>& spans, Byte* rows, std::ptrdiff_t pitch,
                            std::size_t size, bool check) {
  const std::vector<std::size_t> limits = decode_limits(program, size);
  const Trimmed scratch;
  std::vector<Failure> failures;
  Failure failure;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    Byte* row = rows + static_cast<std::ptrdiff_t>(i) * pitch;
    if (decode_one(program, limits, spans[i], row, size, {0, size}, check, 0, failure)) continue;
    failure.row = static_cast<std::int64_t>(i);
    failures.push_back(failure);
  }
  return failures;
}

}  // namespace zarrant
