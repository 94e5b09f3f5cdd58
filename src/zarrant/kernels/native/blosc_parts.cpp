// Functions of the Blosc that is compiled in, done again in less time: the decoder of BloscLZ, and the way to bits in planes and
// back. blosc.c calls these instead of its own (cmake/vendored.cmake); what they accept and return is the same, of which tests
// make sure. Formats: c-blosc's blosclz.c, and https://github.com/kiyo-masui/bitshuffle.
#include <cstring>

#include "kernels.h"

#if defined(ZARRANT_VENDORED)

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define ZARRANT_AVX2 1
#endif

extern "C" {
void blosc_internal_shuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, const std::uint8_t* dst);
int blosc_internal_bitshuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, const std::uint8_t* dst,
                              const std::uint8_t* scratch);
void blosc_internal_unshuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, const std::uint8_t* dst);
int blosc_internal_bitunshuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, const std::uint8_t* dst,
                                const std::uint8_t* scratch);
}

namespace zarrant {
namespace {

// ── BloscLZ ────────────────────────────────────────────────────────────────────────────────────────────────────────

// The longest literal. Where both sides have room for it, all of it is copied: that takes less time than to look how long it is.
constexpr std::ptrdiff_t kLiteral = 32;
// Most matches are no longer.
constexpr std::ptrdiff_t kMatch = 64;
// Matches further away than this have two more bytes of distance.
constexpr std::ptrdiff_t kNear = 8191;

template <std::ptrdiff_t Size>
void copy_up(const Byte* from, Byte* to, std::ptrdiff_t count) {
  for (std::ptrdiff_t done = 0; done < count; done += Size) std::memcpy(to + done, from + done, Size);
}

// Repeats the `distance` bytes before `to` until `count` are written. The `room` bytes from `to` on may be overwritten.
void repeat_bytes(Byte* to, std::ptrdiff_t distance, std::ptrdiff_t count, std::ptrdiff_t room) {
  const Byte* from = to - distance;
  if (distance == 1) {
    std::memset(to, *from, static_cast<std::size_t>(count));
  } else if (room < count + 16) {
    for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = from[i];
  } else if (distance >= 8) {
    copy_up<8>(from, to, count);
  } else {
    // Twice, thrice ... the distance is one as well, as soon as there are as many bytes.
    for (std::ptrdiff_t i = 0; i < 8; ++i) to[i] = from[i];
    const std::ptrdiff_t further = (7 / distance + 1) * distance;
    copy_up<8>(to + 8 - further, to + 8, count - 8);
  }
}

// Literals and matches follow each other as they like, so a branch that asks which it is, or how long, is a guess that fails half
// of the time: 25 cycles for each of them in blosclz_decompress. Here there are few such branches.
class BloscLZ {
 public:
  BloscLZ(const Byte* in, std::ptrdiff_t size, Byte* out, std::ptrdiff_t capacity)
      : in_(in), end_(in + size), begin_(out), out_(out), limit_(out + capacity) {}

  // The bytes written, or 0 where the input is damaged.
  int run() {
    if (in_ == end_) return 0;
    control_ = *in_++ & 31u;
    for (State state = State::kGoes;;) {
      while (state == State::kGoes && end_ - in_ >= 2 * kLiteral && limit_ - out_ >= 2 * kLiteral) state = fast();
      if (state == State::kGoes) state = control_ < 32 ? literal() : match();
      if (state == State::kDamaged) return 0;
      if (state == State::kEnded) return static_cast<int>(out_ - begin_);
    }
  }

 private:
  enum class State { kGoes, kEnded, kDamaged };

  // A literal, or none, and what follows it.
  State fast() {
    const std::ptrdiff_t is_literal = control_ < 32, mask = -is_literal;
    const std::ptrdiff_t count = (static_cast<std::ptrdiff_t>(control_) + 1) & mask;
    std::memcpy(out_, in_, kLiteral);
    out_ += count;
    in_ += count;
    control_ = static_cast<unsigned>((control_ & ~mask) | (*in_ & mask));
    in_ += is_literal;
    return control_ < 32 ? State::kGoes : match();
  }

  State literal() {
    const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(control_) + 1;
    if (limit_ - out_ < count || end_ - in_ < count) return State::kDamaged;
    std::memcpy(out_, in_, static_cast<std::size_t>(count));
    out_ += count;
    in_ += count;
    return next();
  }

  State next() {
    if (in_ >= end_) return State::kEnded;
    control_ = *in_++;
    return State::kGoes;
  }

  State match() {
    std::ptrdiff_t count = (control_ >> 5) + 2, distance = static_cast<std::ptrdiff_t>(control_ & 31u) << 8;
    if (end_ - in_ < 2) return State::kDamaged;
    if (count == 9) {
      Byte more;
      do {
        if (end_ - in_ < 2) return State::kDamaged;
        more = *in_++;
        count += more;
      } while (more == 255);
    }
    const Byte low = *in_++;
    if (low == 255 && distance == 31 << 8) {
      if (end_ - in_ < 2) return State::kDamaged;
      distance = (static_cast<std::ptrdiff_t>(in_[0]) << 8 | in_[1]) + kNear + 1;
      in_ += 2;
    } else {
      distance += low + 1;
    }
    const std::ptrdiff_t room = limit_ - out_;
    if (room < count || out_ - begin_ < distance) return State::kDamaged;
    const State state = next();
    if (state == State::kEnded) return state;
    if (distance < 16 || room < count + kMatch) {
      repeat_bytes(out_, distance, count, room);
    } else {
      copy_up<16>(out_ - distance, out_, kMatch);
      if (count > kMatch) copy_up<16>(out_ - distance + kMatch, out_ + kMatch, count - kMatch);
    }
    out_ += count;
    return state;
  }

  const Byte *in_, *const end_;
  Byte *const begin_, *out_, *const limit_;
  unsigned control_ = 0;
};

// ── bits in planes ─────────────────────────────────────────────────────────────────────────────────────────────────

#if defined(ZARRANT_AVX2)

// Bit b of out[8 j + e] is bit e of the byte j of row b, where the 8 rows of `pitch` bytes follow each other: 8 × 8 bits for each j.
// First the bits change places between 8 rows of 32 bytes, then these are woven into each other.
struct Rows {
  __m256i at[8];
};

template <int Shift>
__attribute__((target("avx2"), always_inline)) inline void exchange(Rows& rows, __m256i mask) {
  for (int i = 0; i < 8; ++i) {
    if (i & Shift) continue;
    __m256i &low = rows.at[i], &high = rows.at[i + Shift];
    const __m256i changed = _mm256_and_si256(_mm256_xor_si256(_mm256_srli_epi16(low, Shift), high), mask);
    high = _mm256_xor_si256(high, changed);
    low = _mm256_xor_si256(low, _mm256_slli_epi16(changed, Shift));
  }
}

__attribute__((target("avx2"), always_inline)) inline void weave(const Rows& rows, Byte* out) {
  __m256i pairs[8], fours[8], eights[8];
  for (int i = 0; i < 4; ++i) {
    pairs[i] = _mm256_unpacklo_epi8(rows.at[2 * i], rows.at[2 * i + 1]);
    pairs[4 + i] = _mm256_unpackhi_epi8(rows.at[2 * i], rows.at[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    fours[2 * i] = _mm256_unpacklo_epi16(pairs[2 * i], pairs[2 * i + 1]);
    fours[2 * i + 1] = _mm256_unpackhi_epi16(pairs[2 * i], pairs[2 * i + 1]);
  }
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 2; ++i) {
      eights[4 * half + 2 * i] = _mm256_unpacklo_epi32(fours[4 * half + i], fours[4 * half + 2 + i]);
      eights[4 * half + 2 * i + 1] = _mm256_unpackhi_epi32(fours[4 * half + i], fours[4 * half + 2 + i]);
    }
  for (int i = 0; i < 4; ++i) {
    const __m256i first = _mm256_permute2x128_si256(eights[2 * i], eights[2 * i + 1], 0x20);
    const __m256i second = _mm256_permute2x128_si256(eights[2 * i], eights[2 * i + 1], 0x31);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i), first);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 128 + 32 * i), second);
  }
}

__attribute__((target("avx2"))) void gather_bits(const Byte* rows, std::size_t pitch, Byte* out) {
  std::size_t at = 0;
  for (; at + 32 <= pitch; at += 32) {
    Rows block;
    for (std::size_t i = 0; i < 8; ++i) block.at[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + i * pitch + at));
    exchange<4>(block, _mm256_set1_epi8(0x0f));
    exchange<2>(block, _mm256_set1_epi8(0x33));
    exchange<1>(block, _mm256_set1_epi8(0x55));
    weave(block, out + 8 * at);
  }
  for (; at < pitch; ++at)
    for (unsigned e = 0; e < 8; ++e) {
      unsigned byte = 0;
      for (std::size_t b = 0; b < 8; ++b) byte |= (rows[b * pitch + at] >> e & 1u) << b;
      out[8 * at + e] = static_cast<Byte>(byte);
    }
}

// The other way: bit e of the byte j of row b is bit b of in[8 j + e].
__attribute__((target("avx2"))) void scatter_bits(const Byte* in, std::size_t pitch, Byte* rows) {
  std::size_t at = 0;
  for (; at + 4 <= pitch; at += 4) {
    __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 8 * at));
    for (std::size_t b = 8; b-- > 0; bytes = _mm256_add_epi8(bytes, bytes)) {
      const int bits = _mm256_movemask_epi8(bytes);
      std::memcpy(rows + b * pitch + at, &bits, 4);
    }
  }
  for (; at < pitch; ++at)
    for (std::size_t b = 0; b < 8; ++b) {
      unsigned byte = 0;
      for (unsigned e = 0; e < 8; ++e) byte |= (in[8 * at + e] >> b & 1u) << e;
      rows[b * pitch + at] = static_cast<Byte>(byte);
    }
}

#endif

}  // namespace
}  // namespace zarrant

extern "C" int zarrant_blosclz_decompress(const void* input, int size, void* output, int capacity) {
  return zarrant::BloscLZ(static_cast<const zarrant::Byte*>(input), size, static_cast<zarrant::Byte*>(output), capacity).run();
}

// The planes of bits become planes of bytes, and these elements. Elements of one byte are there then.
extern "C" int zarrant_bitunshuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, std::uint8_t* dst,
                                    std::uint8_t* scratch) {
#if defined(ZARRANT_AVX2)
  const std::size_t count = size / itemsize, bytes = count * itemsize;
  if (count % 8 == 0 && __builtin_cpu_supports("avx2")) {
    std::uint8_t* planes = itemsize == 1 ? dst : scratch;
    for (std::size_t plane = 0; plane < itemsize; ++plane)
      zarrant::gather_bits(src + plane * count, count / 8, planes + plane * count);
    if (itemsize > 1) blosc_internal_unshuffle(itemsize, bytes, scratch, dst);
    std::memcpy(dst + bytes, src + bytes, size - bytes);
    return static_cast<int>(count);
  }
#endif
  return blosc_internal_bitunshuffle(itemsize, size, src, dst, scratch);
}

// Elements become planes of bytes, and these planes of bits.
extern "C" int zarrant_bitshuffle(std::size_t itemsize, std::size_t size, const std::uint8_t* src, std::uint8_t* dst,
                                  std::uint8_t* scratch) {
#if defined(ZARRANT_AVX2)
  const std::size_t count = size / itemsize, bytes = count * itemsize;
  if (count % 8 == 0 && __builtin_cpu_supports("avx2")) {
    if (itemsize > 1) blosc_internal_shuffle(itemsize, bytes, src, scratch);
    const std::uint8_t* planes = itemsize == 1 ? src : scratch;
    for (std::size_t plane = 0; plane < itemsize; ++plane)
      zarrant::scatter_bits(planes + plane * count, count / 8, dst + plane * count);
    std::memcpy(dst + bytes, src + bytes, size - bytes);
    return static_cast<int>(count);
  }
#endif
  return blosc_internal_bitshuffle(itemsize, size, src, dst, scratch);
}

#endif
