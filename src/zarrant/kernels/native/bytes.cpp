// Plain byte work: CRC-32C, byte order, the fill test, packing.
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define ZARRANT_X86 1
#include <immintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace zarrant {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78;  // Castagnoli, bits reversed (RFC 3720, appendix B.4)

using Table = std::array<std::array<std::uint32_t, 256>, 8>;

// Slicing by eight: table k is the effect of a byte that k zero bytes follow.
constexpr Table make_table() {
  Table table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? kPolynomial : 0);
    table[0][i] = value;
  }
  for (std::size_t k = 1; k < 8; ++k)
    for (std::size_t i = 0; i < 256; ++i) table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 255];
  return table;
}

constexpr Table kTable = make_table();

[[maybe_unused]] std::uint32_t crc_table(std::uint32_t crc, const Byte* data, std::size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    std::uint32_t next = 0;
    for (int k = 0; k < 4; ++k) next ^= kTable[7 - k][(data[k] ^ (crc >> (8 * k))) & 255];
    for (int k = 4; k < 8; ++k) next ^= kTable[7 - k][data[k]];
    crc = next;
  }
  for (; size; --size, ++data) crc = kTable[0][(crc ^ *data) & 255] ^ (crc >> 8);
  return crc;
}

#if defined(ZARRANT_X86)

// The effect on a register of `zeros` zero bytes, as four byte tables.
using Shift = std::array<std::array<std::uint32_t, 256>, 4>;

Shift make_shift(std::size_t zeros) {
  Shift shift{};
  for (int lane = 0; lane < 4; ++lane) {
    for (int bit = 0; bit < 8; ++bit) {
      std::uint32_t crc = 1u << (8 * lane + bit);
      for (std::size_t i = 0; i < zeros; ++i) crc = kTable[0][crc & 255] ^ (crc >> 8);
      shift[lane][std::size_t{1} << bit] = crc;
    }
    for (std::size_t i = 1; i < 256; ++i) shift[lane][i] = shift[lane][i & (i - 1)] ^ shift[lane][i & -i];
  }
  return shift;
}

std::uint32_t apply(const Shift& shift, std::uint32_t crc) {
  return shift[0][crc & 255] ^ shift[1][(crc >> 8) & 255] ^ shift[2][(crc >> 16) & 255] ^ shift[3][crc >> 24];
}

std::uint64_t word(const Byte* data) {
  std::uint64_t value;
  std::memcpy(&value, data, 8);
  return value;
}

// The instruction takes three cycles and starts one a cycle: three lanes side by side, joined at the end of a block.
template <std::size_t Lane>
__attribute__((target("sse4.2,crc32"))) std::uint32_t crc_lanes(std::uint32_t crc, const Byte*& data, std::size_t& size) {
  static const Shift shift = make_shift(Lane);
  while (size >= 3 * Lane) {
    std::uint64_t a = crc, b = 0, c = 0;
    for (std::size_t i = 0; i < Lane; i += 8) {
      a = _mm_crc32_u64(a, word(data + i));
      b = _mm_crc32_u64(b, word(data + Lane + i));
      c = _mm_crc32_u64(c, word(data + 2 * Lane + i));
    }
    crc = apply(shift, static_cast<std::uint32_t>(a)) ^ static_cast<std::uint32_t>(b);
    crc = apply(shift, crc) ^ static_cast<std::uint32_t>(c);
    data += 3 * Lane;
    size -= 3 * Lane;
  }
  return crc;
}

__attribute__((target("sse4.2,crc32"))) std::uint32_t crc_sse42(std::uint32_t crc, const Byte* data, std::size_t size) {
  crc = crc_lanes<4096>(crc, data, size);
  crc = crc_lanes<256>(crc, data, size);
  std::uint64_t wide = crc;
  for (; size >= 8; size -= 8, data += 8) wide = _mm_crc32_u64(wide, word(data));
  crc = static_cast<std::uint32_t>(wide);
  for (; size; --size, ++data) crc = _mm_crc32_u8(crc, *data);
  return crc;
}

#elif defined(__ARM_FEATURE_CRC32)

std::uint32_t crc_arm(std::uint32_t crc, const Byte* data, std::size_t size) {
  for (; size >= 8; size -= 8, data += 8) {
    std::uint64_t value;
    std::memcpy(&value, data, 8);
    crc = __crc32cd(crc, value);
  }
  for (; size; --size, ++data) crc = __crc32cb(crc, *data);
  return crc;
}

#endif

inline std::uint16_t reversed(std::uint16_t value) { return __builtin_bswap16(value); }
inline std::uint32_t reversed(std::uint32_t value) { return __builtin_bswap32(value); }
inline std::uint64_t reversed(std::uint64_t value) { return __builtin_bswap64(value); }

template <typename Word>
inline __attribute__((always_inline)) void swap_loop(const Byte* src, Byte* dst, std::size_t size) {
  for (std::size_t i = 0; i < size; i += sizeof(Word)) {
    Word value;
    std::memcpy(&value, src + i, sizeof(Word));
    value = reversed(value);
    std::memcpy(dst + i, &value, sizeof(Word));
  }
}

#if defined(ZARRANT_X86)

// Reverses words of 2, 4 or 8 bytes, 32 bytes at a time; returns how far it came.
__attribute__((target("avx2"))) std::size_t swap_avx2(const Byte* src, Byte* dst, std::size_t size, std::size_t word) {
  alignas(32) Byte order[32];
  for (std::size_t i = 0; i < 32; ++i) order[i] = static_cast<Byte>((i & 15) ^ (word - 1));
  const __m256i mask = _mm256_load_si256(reinterpret_cast<const __m256i*>(order));
  std::size_t done = 0;
  for (; done + 32 <= size; done += 32) {
    const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + done));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + done), _mm256_shuffle_epi8(value, mask));
  }
  return done;
}

#endif

}  // namespace

std::uint32_t crc32c(const Byte* data, std::size_t size, std::uint32_t value) {
  const std::uint32_t crc = ~value;
#if defined(ZARRANT_X86)
  static const bool instruction = __builtin_cpu_supports("sse4.2");
  return ~(instruction ? crc_sse42(crc, data, size) : crc_table(crc, data, size));
#elif defined(__ARM_FEATURE_CRC32)
  return ~crc_arm(crc, data, size);
#else
  return ~crc_table(crc, data, size);
#endif
}

void swap_words(const Byte* src, Byte* dst, std::size_t size, std::size_t word) {
  const bool tabled = word == 2 || word == 4 || word == 8;
  if (tabled) {
#if defined(ZARRANT_X86)
    static const bool avx2 = __builtin_cpu_supports("avx2");
    const std::size_t done = avx2 ? swap_avx2(src, dst, size, word) : 0;
    src += done, dst += done, size -= done;
#endif
    if (word == 2) return swap_loop<std::uint16_t>(src, dst, size);
    if (word == 4) return swap_loop<std::uint32_t>(src, dst, size);
    return swap_loop<std::uint64_t>(src, dst, size);
  }
  for (std::size_t at = 0; at < size; at += word) {
    for (std::size_t low = 0, high = word - 1; low <= high && high < word; ++low, --high) {
      const Byte first = src[at + low], last = src[at + high];
      dst[at + low] = last;
      dst[at + high] = first;
    }
  }
}

// A row repeats `fill` exactly when it begins with it and equals itself, moved by its length: memcmp leaves early and is
// as wide as the machine.
bool is_repetition(const Byte* row, std::size_t size, const Byte* fill, std::size_t fill_size) {
  if (size == 0) return true;
  return std::memcmp(row, fill, fill_size) == 0 && std::memcmp(row, row + fill_size, size - fill_size) == 0;
}

void pack(const std::vector<Span>& spans, Byte* dst) {
  // EncodedRows in an order of their own give the prefetcher of the machine nothing to go by at their beginnings.
  constexpr std::size_t kAhead = 8;
  for (std::size_t i = 0; i < spans.size();) {
    if (i + kAhead < spans.size()) __builtin_prefetch(spans[i + kAhead].data);
    const Byte* from = spans[i].data;
    std::size_t size = spans[i].size;
    while (++i < spans.size() && spans[i].data == from + size) size += spans[i].size;
    if (size) std::memcpy(dst, from, size);
    dst += size;
  }
}

}  // namespace zarrant
