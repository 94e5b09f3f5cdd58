// One strided copy: any strides on both sides, in the loop order that touches each cache line of the larger side once.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace zarrant {
namespace {

struct Item16 {
  std::uint64_t words[2];
};

template <typename T>
inline T load(const Byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
inline void store(Byte* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

// ── one loop ───────────────────────────────────────────────────────────────────────────────────────────────────────

// Items of a size known to the compiler: a call of memcpy costs as much as moving 64 bytes.
template <std::size_t Size>
void copy_fixed(const Byte* src, Byte* dst, const Loop& loop) {
  for (std::int64_t i = 0; i < loop.count; ++i) {
    std::memcpy(dst, src, Size);
    src += loop.src;
    dst += loop.dst;
  }
}

// Items of `Blocks` whole blocks of `Width` bytes, and some bytes more, or none: the last block ends with the item.
template <std::size_t Width, std::size_t Blocks>
void copy_by_blocks(const Byte* src, Byte* dst, std::size_t size, const Loop& loop) {
  for (std::int64_t i = 0; i < loop.count; ++i) {
    for (std::size_t block = 0; block < Blocks; ++block) std::memcpy(dst + block * Width, src + block * Width, Width);
    std::memcpy(dst + size - Width, src + size - Width, Width);
    src += loop.src;
    dst += loop.dst;
  }
}

constexpr std::size_t kBlock = 16, kMostBlocks = 16;

using CopyByBlocks = void (*)(const Byte*, Byte*, std::size_t, const Loop&);
template <std::size_t... Blocks>
constexpr std::array<CopyByBlocks, sizeof...(Blocks)> all_blocks(std::index_sequence<Blocks...>) {
  return {copy_by_blocks<kBlock, Blocks>...};
}
// By the number of whole blocks. Measured: 0.65 to 0.85 of the time of a call of memcpy for each item.
constexpr auto kCopyByBlocks = all_blocks(std::make_index_sequence<kMostBlocks>());

// Items one after the other from items `Step` apart. A step that the compiler knows becomes instructions for many items.
template <typename T, std::int64_t Step>
void gather_step(const Byte* __restrict src, Byte* __restrict dst, std::int64_t count) {
  constexpr std::int64_t size = sizeof(T);
  for (std::int64_t i = 0; i < count; ++i) store<T>(dst + i * size, load<T>(src + i * Step * size));
}

template <typename T>
bool gather_steps(const Byte* src, Byte* dst, const Loop& loop) {
  constexpr std::int64_t size = sizeof(T);
  if (loop.dst != size) return false;
  if (loop.src == 2 * size) return gather_step<T, 2>(src, dst, loop.count), true;
  if (loop.src == 3 * size) return gather_step<T, 3>(src, dst, loop.count), true;
  if (loop.src == 4 * size) return gather_step<T, 4>(src, dst, loop.count), true;
  if (loop.src == -size && size > 1) return gather_step<T, -1>(src, dst, loop.count), true;
  if (loop.src == 0) return gather_step<T, 0>(src, dst, loop.count), true;
  return false;
}

bool gather_close(const Byte* src, Byte* dst, std::size_t size, const Loop& loop) {
  switch (size) {
    case 1: return gather_steps<std::uint8_t>(src, dst, loop);
    case 2: return gather_steps<std::uint16_t>(src, dst, loop);
    case 4: return gather_steps<std::uint32_t>(src, dst, loop);
    case 8: return gather_steps<std::uint64_t>(src, dst, loop);
    default: return false;
  }
}

void copy_loop(const Byte* src, Byte* dst, std::size_t size, const Loop& loop) {
  if (gather_close(src, dst, size, loop)) return;
  switch (size) {
    case 1: return copy_fixed<1>(src, dst, loop);
    case 2: return copy_fixed<2>(src, dst, loop);
    case 4: return copy_fixed<4>(src, dst, loop);
    case 8: return copy_fixed<8>(src, dst, loop);
    case 16: return copy_fixed<16>(src, dst, loop);
    case 32: return copy_fixed<32>(src, dst, loop);
    case 64: return copy_fixed<64>(src, dst, loop);
    case 128: return copy_fixed<128>(src, dst, loop);
    case 256: return copy_fixed<256>(src, dst, loop);
    default: break;
  }
  if (size > kBlock && size < kBlock * kMostBlocks) return kCopyByBlocks[size / kBlock](src, dst, size, loop);
  if (size > 8 && size < kBlock) return copy_by_blocks<8, 1>(src, dst, size, loop);
  for (std::int64_t i = 0; i < loop.count; ++i) std::memcpy(dst + i * loop.dst, src + i * loop.src, size);
}

#if defined(__SSE2__)

// Lines that go past the caches, 16 bytes at a time; both ends of the line are multiples of 16 bytes in the destination.
template <std::size_t Size>
inline __attribute__((always_inline)) void stream_line(const Byte* src, Byte* dst, std::size_t size) {
  const std::size_t whole = Size ? Size : size;
  for (std::size_t at = 0; at < whole; at += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(dst + at), _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + at)));
}

template <std::size_t Size>
void stream_loop(const Byte* src, Byte* dst, std::size_t size, const Loop& loop) {
  for (std::int64_t i = 0; i < loop.count; ++i) stream_line<Size>(src + i * loop.src, dst + i * loop.dst, size);
}

#endif

// Shorter lines do not fill what the machine sends to memory at once.
constexpr std::size_t kStreamed = 32;
// Measured: 8 lines ahead of a gather are enough to hide the memory behind it.
constexpr std::int64_t kAhead = 8;
// Longer lines are found by the prefetcher of the machine, and so are those that lie as near as this.
constexpr std::size_t kPrefetched = 1024;
constexpr std::int64_t kNear = 64;

// `copy_loop`, with lines through or past the caches.
void copy_lines(const Byte* src, Byte* dst, std::size_t size, const Loop& loop, Lines lines) {
#if defined(__SSE2__)
  const bool even = ((reinterpret_cast<std::uintptr_t>(dst) | static_cast<std::uintptr_t>(loop.dst) | size) & 15) == 0;
  if (lines == Lines::kStreamed && size >= kStreamed && even) {
    if (size == 32) return stream_loop<32>(src, dst, size, loop);
    if (size == 64) return stream_loop<64>(src, dst, size, loop);
    return stream_loop<0>(src, dst, size, loop);
  }
#endif
  if (lines == Lines::kPrefetched && size <= kPrefetched && loop.count > kAhead && std::abs(loop.src) >= kNear) {
    constexpr std::int64_t part = 4;
    for (std::int64_t i = 0; i < loop.count; i += part) {
      const std::int64_t count = std::min(part, loop.count - i);
      const Byte* from = src + i * loop.src;
      for (std::int64_t k = 0; k < count; ++k)
        for (std::size_t at = 0; at < size; at += 64) __builtin_prefetch(from + (kAhead + k) * loop.src + static_cast<std::int64_t>(at));
      copy_loop(from, dst + i * loop.dst, size, {count, loop.src, loop.dst});
    }
    return;
  }
  copy_loop(src, dst, size, loop);
}

// Whether a few lines lie side by side, so that all of them can be asked for ahead.
bool side_by_side(std::size_t size, const Loop& line) {
  const std::int64_t reach = line.count * line.src;
  return line.src > 0 && reach <= static_cast<std::int64_t>(kPrefetched) && line.src <= static_cast<std::int64_t>(size) + 64;
}

// Rows of a few lines side by side, as where several boxes are gathered together: each row is asked for some rows ahead.
void copy_rows(const Byte* src, Byte* dst, std::size_t size, const Loop& rows, const Loop& line) {
  const std::int64_t reach = (line.count - 1) * line.src + static_cast<std::int64_t>(size);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (i + kAhead < rows.count)
      for (std::int64_t at = 0; at < reach; at += 64) __builtin_prefetch(src + (i + kAhead) * rows.src + at);
    copy_loop(src + i * rows.src, dst + i * rows.dst, size, line);
  }
}

// ── two loops: a transposition ─────────────────────────────────────────────────────────────────────────────────────

// A block of N × N items whose rows are contiguous in the source and whose columns are in the destination.
template <typename T>
struct Block {
  static constexpr int N = 4;
  static void copy(const Byte* src, std::int64_t src_pitch, Byte* dst, std::int64_t dst_pitch) {
    T items[N][N];
    for (int j = 0; j < N; ++j) std::memcpy(items[j], src + j * src_pitch, sizeof items[j]);
    for (int i = 0; i < N; ++i)
      for (int j = 0; j < N; ++j) store<T>(dst + i * dst_pitch + j * static_cast<int>(sizeof(T)), items[j][i]);
  }
};

#if defined(__SSE2__)

inline __m128i load128(const Byte* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }
inline __m128i load64(const Byte* at) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)); }
inline void store128(Byte* at, __m128i value) { _mm_storeu_si128(reinterpret_cast<__m128i*>(at), value); }

inline void store_halves(Byte* at, std::int64_t pitch, __m128i value) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(at), value);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(at + pitch), _mm_unpackhi_epi64(value, value));
}

template <>
struct Block<std::uint8_t> {
  static constexpr int N = 8;
  static void copy(const Byte* src, std::int64_t sp, Byte* dst, std::int64_t dp) {
    const __m128i a = _mm_unpacklo_epi8(load64(src), load64(src + sp));
    const __m128i b = _mm_unpacklo_epi8(load64(src + 2 * sp), load64(src + 3 * sp));
    const __m128i c = _mm_unpacklo_epi8(load64(src + 4 * sp), load64(src + 5 * sp));
    const __m128i d = _mm_unpacklo_epi8(load64(src + 6 * sp), load64(src + 7 * sp));
    const __m128i e = _mm_unpacklo_epi16(a, b), f = _mm_unpackhi_epi16(a, b);
    const __m128i g = _mm_unpacklo_epi16(c, d), h = _mm_unpackhi_epi16(c, d);
    store_halves(dst, dp, _mm_unpacklo_epi32(e, g));
    store_halves(dst + 2 * dp, dp, _mm_unpackhi_epi32(e, g));
    store_halves(dst + 4 * dp, dp, _mm_unpacklo_epi32(f, h));
    store_halves(dst + 6 * dp, dp, _mm_unpackhi_epi32(f, h));
  }
};

template <>
struct Block<std::uint16_t> {
  static constexpr int N = 8;
  static void copy(const Byte* src, std::int64_t sp, Byte* dst, std::int64_t dp) {
    __m128i a[8], b[8];
    for (int j = 0; j < 8; ++j) a[j] = load128(src + j * sp);
    for (int j = 0; j < 4; ++j) {
      b[2 * j] = _mm_unpacklo_epi16(a[2 * j], a[2 * j + 1]);
      b[2 * j + 1] = _mm_unpackhi_epi16(a[2 * j], a[2 * j + 1]);
    }
    for (int half = 0; half < 2; ++half) {
      const __m128i *q = b + 4 * half;
      a[4 * half + 0] = _mm_unpacklo_epi32(q[0], q[2]);
      a[4 * half + 1] = _mm_unpackhi_epi32(q[0], q[2]);
      a[4 * half + 2] = _mm_unpacklo_epi32(q[1], q[3]);
      a[4 * half + 3] = _mm_unpackhi_epi32(q[1], q[3]);
    }
    for (int i = 0; i < 4; ++i) {
      store128(dst + 2 * i * dp, _mm_unpacklo_epi64(a[i], a[4 + i]));
      store128(dst + (2 * i + 1) * dp, _mm_unpackhi_epi64(a[i], a[4 + i]));
    }
  }
};

template <>
struct Block<std::uint32_t> {
  static constexpr int N = 4;
  static void copy(const Byte* src, std::int64_t sp, Byte* dst, std::int64_t dp) {
    const __m128i r0 = load128(src), r1 = load128(src + sp), r2 = load128(src + 2 * sp), r3 = load128(src + 3 * sp);
    const __m128i a = _mm_unpacklo_epi32(r0, r1), b = _mm_unpackhi_epi32(r0, r1);
    const __m128i c = _mm_unpacklo_epi32(r2, r3), d = _mm_unpackhi_epi32(r2, r3);
    store128(dst, _mm_unpacklo_epi64(a, c));
    store128(dst + dp, _mm_unpackhi_epi64(a, c));
    store128(dst + 2 * dp, _mm_unpacklo_epi64(b, d));
    store128(dst + 3 * dp, _mm_unpackhi_epi64(b, d));
  }
};

#endif

// `along` steps through a line of the source, `across` through a line of the destination.
template <typename T>
void copy_plain(const Byte* src, Byte* dst, const Loop& along, const Loop& across) {
  for (std::int64_t i = 0; i < along.count; ++i)
    for (std::int64_t j = 0; j < across.count; ++j)
      store<T>(dst + i * along.dst + j * across.dst, load<T>(src + i * along.src + j * across.src));
}

template <typename T>
void copy_blocks(const Byte* src, Byte* dst, const Loop& along, const Loop& across) {
  constexpr int N = Block<T>::N;
  const std::int64_t whole_i = along.count / N * N, whole_j = across.count / N * N;
  for (std::int64_t i = 0; i < whole_i; i += N)
    for (std::int64_t j = 0; j < whole_j; j += N)
      Block<T>::copy(src + i * along.src + j * across.src, across.src, dst + i * along.dst + j * across.dst, along.dst);
  if (whole_i < along.count)
    copy_plain<T>(src + whole_i * along.src, dst + whole_i * along.dst, {along.count - whole_i, along.src, along.dst},
                  {whole_j, across.src, across.dst});
  if (whole_j < across.count)
    copy_plain<T>(src + whole_j * across.src, dst + whole_j * across.dst, along,
                  {across.count - whole_j, across.src, across.dst});
}

// Tiles of one cache line on each side. Lines a power of two apart share the ways of a cache, so each is touched once:
// those of the source are gathered in a stage, those of the destination are filled from it a few at a time. Measured: up to
// 3 times faster than blocks taken from where they lie.
template <typename T>
void copy_tiles(const Byte* src, Byte* dst, const Loop& along, const Loop& across) {
  constexpr std::int64_t size = sizeof(T), tile = std::max<std::int64_t>(64 / size, 8);
  const bool unit = along.src == size && across.dst == size;
  alignas(64) Byte stage[tile * tile * size];
  for (std::int64_t j = 0; j < across.count; j += tile) {
    for (std::int64_t i = 0; i < along.count; i += tile) {
      const Byte* from = src + i * along.src + j * across.src;
      Byte* into = dst + i * along.dst + j * across.dst;
      Loop rows{std::min(tile, along.count - i), along.src, along.dst};
      Loop columns{std::min(tile, across.count - j), across.src, across.dst};
      if (!unit) {
        copy_plain<T>(from, into, rows, columns);
        continue;
      }
      copy_loop(from, stage, static_cast<std::size_t>(rows.count * size), {columns.count, across.src, tile * size});
      columns.src = tile * size;
      copy_blocks<T>(stage, into, rows, columns);
    }
  }
}

void copy_pair(const Byte* src, Byte* dst, std::size_t size, const Loop& along, const Loop& across) {
  switch (size) {
    case 1: return copy_tiles<std::uint8_t>(src, dst, along, across);
    case 2: return copy_tiles<std::uint16_t>(src, dst, along, across);
    case 4: return copy_tiles<std::uint32_t>(src, dst, along, across);
    case 8: return copy_tiles<std::uint64_t>(src, dst, along, across);
    case 16: return copy_tiles<Item16>(src, dst, along, across);
    default: break;
  }
  for (std::int64_t j = 0; j < across.count; ++j) copy_loop(src + j * across.src, dst + j * across.dst, size, along);
}

// ── the order of loops ─────────────────────────────────────────────────────────────────────────────────────────────

// Takes from `loops` the one that continues a contiguous item, as long as there is one, and makes the item longer.
int absorb(Loop* loops, int axes, std::size_t& size) {
  const auto item = [&](const Loop& loop) { return loop.src == loop.dst && loop.src == static_cast<std::int64_t>(size); };
  for (Loop* found; (found = std::find_if(loops, loops + axes, item)) != loops + axes; --axes) {
    size *= static_cast<std::size_t>(found->count);
    std::copy(found + 1, loops + axes, found);
  }
  return axes;
}

// Joins neighbours that are one loop on both sides.
int join(Loop* loops, int axes) {
  int last = 0;
  for (int next = 1; next < axes; ++next) {
    Loop &outer = loops[last], &inner = loops[next];
    if (outer.src == inner.src * inner.count && outer.dst == inner.dst * inner.count)
      outer = {outer.count * inner.count, inner.src, inner.dst};
    else
      loops[++last] = inner;
  }
  return axes ? last + 1 : 0;
}

// Drops loops of one step, turns round those that go backwards on both sides, and walks the side with the larger reach in
// memory order.
int arrange(const Byte*& src, Byte*& dst, Loop* loops, int axes) {
  axes = static_cast<int>(std::remove_if(loops, loops + axes, [](const Loop& loop) { return loop.count == 1; }) - loops);
  std::int64_t src_reach = 0, dst_reach = 0;
  for (int axis = 0; axis < axes; ++axis) {
    Loop& loop = loops[axis];
    src_reach += (loop.count - 1) * std::abs(loop.src);
    dst_reach += (loop.count - 1) * std::abs(loop.dst);
    if (loop.src < 0 && loop.dst < 0) {
      src += (loop.count - 1) * loop.src, dst += (loop.count - 1) * loop.dst;
      loop.src = -loop.src, loop.dst = -loop.dst;
    }
  }
  const bool by_src = src_reach > dst_reach;
  std::stable_sort(loops, loops + axes, [by_src](const Loop& a, const Loop& b) {
    const std::int64_t a_src = std::abs(a.src), a_dst = std::abs(a.dst), b_src = std::abs(b.src), b_dst = std::abs(b.dst);
    return by_src ? std::pair(a_src, a_dst) > std::pair(b_src, b_dst) : std::pair(a_dst, a_src) > std::pair(b_dst, b_src);
  });
  return axes;
}

int narrowest(const Loop* loops, int axes, std::int64_t Loop::* side) {
  int best = 0;
  for (int axis = 1; axis < axes; ++axis) {
    const std::int64_t stride = std::abs(loops[axis].*side), least = std::abs(loops[best].*side);
    if (stride != 0 && (least == 0 || stride < least)) best = axis;
  }
  return best;
}

// Walks `outer` loops and hands each place to `inner`.
template <typename Inner>
void walk(const Byte* src, Byte* dst, const Loop* outer, int axes, const Inner& inner) {
  if (axes == 0) return inner(src, dst);
  for (std::int64_t i = 0; i < outer->count; ++i)
    walk(src + i * outer->src, dst + i * outer->dst, outer + 1, axes - 1, inner);
}

}  // namespace

void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

void copy_strided(const Byte* src, Byte* dst, std::int64_t itemsize, Loop* loops, int axes, Lines lines) {
  std::size_t size = static_cast<std::size_t>(itemsize);
  axes = arrange(src, dst, loops, axes);
  axes = absorb(loops, axes, size);
  axes = join(loops, axes);
  if (axes == 0) {
    const Loop once{1, 0, 0};
    copy_lines(src, dst, size, once, lines);
    return;
  }
  const int along = narrowest(loops, axes, &Loop::src), across = narrowest(loops, axes, &Loop::dst);
  if (along == across || size > sizeof(Item16)) {
    const Loop last = loops[axes - 1];
    if (lines == Lines::kPrefetched && axes > 1 && last.count <= kAhead && side_by_side(size, last)) {
      const Loop rows = loops[axes - 2];
      walk(src, dst, loops, axes - 2, [&](const Byte* from, Byte* into) { copy_rows(from, into, size, rows, last); });
      return;
    }
    walk(src, dst, loops, axes - 1, [&](const Byte* from, Byte* into) { copy_lines(from, into, size, last, lines); });
    return;
  }
  const Loop line = loops[along], column = loops[across];
  const int low = std::min(along, across), high = std::max(along, across);
  std::copy(loops + high + 1, loops + axes, loops + high);
  std::copy(loops + low + 1, loops + axes - 1, loops + low);
  walk(src, dst, loops, axes - 2, [&](const Byte* from, Byte* into) { copy_pair(from, into, size, line, column); });
}

}  // namespace zarrant
