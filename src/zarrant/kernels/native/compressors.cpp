// One row through one compression library. Contexts are kept per thread: at 1 KiB a fresh one costs three times the
// compression itself.
#include <algorithm>
#include <cstring>

#include "kernels.h"

#if defined(ZARRANT_ZSTD)
#if defined(ZARRANT_VENDORED)
// Frames block by block: those functions are in every library, but not meant for those who link to one that may be replaced.
#define ZSTD_STATIC_LINKING_ONLY
#define ZSTD_DISABLE_DEPRECATE_WARNINGS
#endif
#include <zstd.h>
#include <zstd_errors.h>
#endif
#if defined(ZARRANT_BLOSC)
#include <blosc.h>
#endif
#if defined(ZARRANT_LIBDEFLATE)
#include <libdeflate.h>
#endif

namespace zarrant {
namespace {

constexpr std::array<const char*, 6> kBloscNames = {"blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"};

[[maybe_unused]] void check_made(bool made, const char* what) {
  if (!made) throw std::runtime_error(std::string(what) + " could not compress a row");
}

#if defined(ZARRANT_ZSTD)

struct Zstd {
  ZSTD_CCtx* compressor = ZSTD_createCCtx();
  ZSTD_DCtx* decompressor = ZSTD_createDCtx();
  std::int64_t level = 0;
  std::int64_t checksum = -1;

  Zstd() {
    if (!compressor || !decompressor) throw std::bad_alloc();
  }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  ~Zstd() {
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(decompressor);
  }

  static Zstd& here() {
    thread_local Zstd contexts;
    return contexts;
  }

  void set(std::int64_t wanted_level, std::int64_t wanted_checksum) {
    if (level == wanted_level && checksum == wanted_checksum) return;
    ZSTD_CCtx_reset(compressor, ZSTD_reset_session_and_parameters);
    ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, static_cast<int>(wanted_level));
    ZSTD_CCtx_setParameter(compressor, ZSTD_c_checksumFlag, static_cast<int>(wanted_checksum));
    level = wanted_level;
    checksum = wanted_checksum;
  }
};

std::size_t zstd_compress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity) {
  Zstd& zstd = Zstd::here();
  zstd.set(step.with[0], step.with[1]);
  const std::size_t written = ZSTD_compress2(zstd.compressor, dst, capacity, src, size);
  check_made(!ZSTD_isError(written), "zstd");
  return written;
}

std::size_t zstd_decompress(const Byte* src, std::size_t size, Byte* dst, std::size_t limit) {
  // In one pass the library needs no window of its own: `dst` bounds what a hostile header can make it allocate.
  const std::size_t written = ZSTD_decompressDCtx(Zstd::here().decompressor, dst, limit, src, size);
  if (!ZSTD_isError(written)) return written;
  if (std::strstr(ZSTD_getErrorName(written), "Destination buffer is too small")) too_large("zstd", limit);
  throw BadData(std::string("zstd: ") + ZSTD_getErrorName(written));
}

#if defined(ZARRANT_VENDORED)

// A block needs those before it: what can be left out is at the end.
bool zstd_decompress_part(const Byte* src, std::size_t size, Byte* dst, std::size_t full, Part part) {
  ZSTD_frameHeader header;
  const bool plain = ZSTD_getFrameHeader(&header, src, size) == 0 && header.frameType == ZSTD_frame && header.dictID == 0 &&
                     header.checksumFlag == 0 && header.frameContentSize == full;
  if (!plain || full - part.stop < header.blockSizeMax || ZSTD_findFrameCompressedSize(src, size) != size) return false;
  ZSTD_DCtx* reader = Zstd::here().decompressor;
  if (ZSTD_isError(ZSTD_decompressBegin(reader))) return false;
  for (std::size_t done = 0; done < part.stop;) {
    const std::size_t next = ZSTD_nextSrcSizeToDecompress(reader);
    if (next == 0 || next > size) return false;
    const std::size_t written = ZSTD_decompressContinue(reader, dst + done, full - done, src, next);
    if (ZSTD_isError(written)) return false;
    done += written;
    src += next;
    size -= next;
  }
  return true;
}

#endif
#endif
#if defined(ZARRANT_BLOSC)

std::size_t blosc_compress_row(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity) {
  const auto& [compressor, level, shuffle, typesize, blocksize] = step.with;
  const int written =
      blosc_compress_ctx(static_cast<int>(level), static_cast<int>(shuffle), static_cast<std::size_t>(typesize), size, src,
                         dst, capacity, kBloscNames[static_cast<std::size_t>(compressor)],
                         static_cast<std::size_t>(blocksize), 1);
  check_made(written > 0, "Blosc");
  return static_cast<std::size_t>(written);
}

std::size_t blosc_decompress_row(const Byte* src, std::size_t size, Byte* dst, std::size_t limit) {
  if (size < BLOSC_MIN_HEADER_LENGTH) throw BadData(std::to_string(size) + " bytes are too short for a Blosc header");
  const std::size_t content = load_little<std::uint32_t>(src + 4), stored = load_little<std::uint32_t>(src + 12);
  if (stored != size)
    throw BadData("Blosc frame of " + std::to_string(stored) + " bytes stored in " + std::to_string(size));
  if (content > limit) too_large("Blosc", limit);
  if (content == 0) return 0;
  std::size_t checked = 0;
  if (blosc_cbuffer_validate(src, size, &checked) < 0 || checked != content) throw BadData("Blosc: invalid header");
  const int written = blosc_decompress_ctx(src, dst, content, 1);
  if (written < 0 || static_cast<std::size_t>(written) != content) throw BadData("Blosc: invalid frame");
  return content;
}

// Blocks are independent of each other.
bool blosc_decompress_part(const Byte* src, std::size_t size, Byte* dst, std::size_t full, Part part) {
  std::size_t checked = 0;
  if (size < BLOSC_MIN_HEADER_LENGTH || load_little<std::uint32_t>(src + 12) != size) return false;
  if (blosc_cbuffer_validate(src, size, &checked) < 0) return false;
  const std::size_t item = src[3], block = load_little<std::uint32_t>(src + 8);
  if (checked != full || full > BLOSC_MAX_BUFFERSIZE || item == 0 || full % item || block == 0 || block % item) return false;
  const std::size_t start = part.start / block * block, stop = std::min(full, (part.stop + block - 1) / block * block);
  // What is decoded this way is copied once more.
  if (stop - start > full / 2) return false;
  const int written = blosc_getitem(src, static_cast<int>(start / item), static_cast<int>((stop - start) / item), dst + start);
  return written >= 0 && static_cast<std::size_t>(written) == stop - start;
}

#endif
#if defined(ZARRANT_LIBDEFLATE)

struct Deflate {
  std::array<libdeflate_compressor*, 10> compressors{};
  libdeflate_decompressor* decompressor = nullptr;

  Deflate() = default;
  Deflate(const Deflate&) = delete;
  Deflate& operator=(const Deflate&) = delete;
  ~Deflate() {
    for (libdeflate_compressor* made : compressors)
      if (made) libdeflate_free_compressor(made);
    if (decompressor) libdeflate_free_decompressor(decompressor);
  }

  static Deflate& here() {
    thread_local Deflate contexts;
    return contexts;
  }

  libdeflate_compressor* at(std::int64_t level) {
    libdeflate_compressor*& made = compressors[static_cast<std::size_t>(level)];
    if (!made) made = libdeflate_alloc_compressor(static_cast<int>(level));
    if (!made) throw std::bad_alloc();
    return made;
  }

  libdeflate_decompressor* reader() {
    if (!decompressor) decompressor = libdeflate_alloc_decompressor();
    if (!decompressor) throw std::bad_alloc();
    return decompressor;
  }
};

std::size_t gzip_compress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity) {
  const std::size_t written = libdeflate_gzip_compress(Deflate::here().at(step.with[0]), src, size, dst, capacity);
  check_made(written > 0, "gzip");
  return written;
}

std::size_t gzip_decompress(const Byte* src, std::size_t size, Byte* dst, std::size_t limit) {
  libdeflate_decompressor* reader = Deflate::here().reader();
  std::size_t done = 0;
  do {  // RFC 1952: members follow each other; tools pad with zeros
    std::size_t taken = 0, written = 0;
    const libdeflate_result result =
        libdeflate_gzip_decompress_ex(reader, src, size, dst + done, limit - done, &taken, &written);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE) too_large("gzip", limit);
    if (result != LIBDEFLATE_SUCCESS) throw BadData("gzip: invalid or truncated");
    done += written;
    src += taken;
    size -= taken;
    while (size && *src == 0) ++src, --size;
  } while (size);
  return done;
}

#endif

std::size_t external_bound(const Step& step, std::size_t size) {
  const std::int64_t bound =
      reinterpret_cast<ExternalBound>(step.with[2])(static_cast<std::int64_t>(size), step.with[3]);
  if (bound < 0)
    throw std::invalid_argument("the bound of an external step is negative for " + std::to_string(size) +
                                " bytes: " + std::to_string(bound));
  return static_cast<std::size_t>(bound);
}

std::int64_t external_call(std::int64_t function, const Step& step, const Byte* src, std::size_t size, Byte* dst,
                           std::size_t capacity) {
  return reinterpret_cast<ExternalCode>(function)(src, static_cast<std::int64_t>(size), dst,
                                                  static_cast<std::int64_t>(capacity), step.with[3]);
}

std::size_t external_compress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity) {
  const std::int64_t written = external_call(step.with[0], step, src, size, dst, capacity);
  if (written < 0 || static_cast<std::size_t>(written) > capacity)
    throw std::runtime_error("an external step could not encode a row: " + std::to_string(written));
  return static_cast<std::size_t>(written);
}

std::size_t external_decompress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t limit) {
  const std::int64_t written = external_call(step.with[1], step, src, size, dst, limit);
  if (written == -1 || (written > 0 && static_cast<std::size_t>(written) > limit)) too_large("external", limit);
  if (written < 0) throw BadData("external: error " + std::to_string(written));
  return static_cast<std::size_t>(written);
}

[[noreturn]] void absent(const Step& step) {
  throw std::invalid_argument("step " + std::to_string(step.code) + " is not built in");
}

// The version of a library, and whether it was compiled into the module.
[[maybe_unused]] std::string served(const char* version) {
#if defined(ZARRANT_VENDORED)
  return std::string(version) + " (built in)";
#else
  return std::string(version) + " (the system's)";
#endif
}

}  // namespace

#if defined(ZARRANT_VENDORED)

// What the Blosc that is compiled in calls for ZSTD_compress and ZSTD_decompress: the same frames from the contexts of this
// thread. It is C, which no exception may cross: an error code of zstd makes Blosc store the block as it is, or refuse it.
extern "C" std::size_t zarrant_zstd_compress(void* dst, std::size_t capacity, const void* src, std::size_t size, int level) {
  try {
    Zstd& zstd = Zstd::here();
    zstd.set(level, 0);
    return ZSTD_compress2(zstd.compressor, dst, capacity, src, size);
  } catch (const std::bad_alloc&) {
    return static_cast<std::size_t>(-ZSTD_error_memory_allocation);
  }
}

extern "C" std::size_t zarrant_zstd_decompress(void* dst, std::size_t capacity, const void* src, std::size_t size) {
  try {
    return ZSTD_decompressDCtx(Zstd::here().decompressor, dst, capacity, src, size);
  } catch (const std::bad_alloc&) {
    return static_cast<std::size_t>(-ZSTD_error_memory_allocation);
  }
}

#endif

void too_large(const char* what, std::size_t limit) {
  throw BadData(std::string("too large: ") + what + " decodes to more than " + std::to_string(limit) + " bytes");
}

std::vector<std::pair<std::string, bool>> features() {
  bool zstd = false, blosc = false, gzip = false;
  std::array<bool, kBloscNames.size()> inside{};
#if defined(ZARRANT_ZSTD)
  zstd = true;
#endif
#if defined(ZARRANT_BLOSC)
  blosc = true;
  for (std::size_t i = 0; i < kBloscNames.size(); ++i) inside[i] = blosc_compname_to_compcode(kBloscNames[i]) >= 0;
#endif
#if defined(ZARRANT_LIBDEFLATE)
  gzip = true;
#endif
  std::vector<std::pair<std::string, bool>> all = {
      {"swap", true}, {"blosc", blosc}, {"zstd", zstd}, {"gzip", gzip}, {"crc32c", true}, {"external", true}};
  for (std::size_t i = 0; i < kBloscNames.size(); ++i) all.emplace_back(std::string("blosc:") + kBloscNames[i], inside[i]);
  return all;
}

std::vector<std::pair<std::string, std::string>> libraries() {
  std::vector<std::pair<std::string, std::string>> all;
#if defined(ZARRANT_ZSTD)
  all.emplace_back("zstd", served(ZSTD_versionString()));
#endif
#if defined(ZARRANT_BLOSC)
  all.emplace_back("c-blosc", served(blosc_get_version_string()));
#endif
#if defined(ZARRANT_LIBDEFLATE)
  all.emplace_back("libdeflate", served(LIBDEFLATE_VERSION_STRING));
#endif
  return all;
}

std::size_t compressed_bound(const Step& step, std::size_t size) {
  switch (step.code) {
    case kExternal: return external_bound(step, size);
#if defined(ZARRANT_ZSTD)
    case kZstd: return ZSTD_compressBound(size);
#endif
#if defined(ZARRANT_BLOSC)
    case kBlosc: return size + BLOSC_MAX_OVERHEAD;
#endif
#if defined(ZARRANT_LIBDEFLATE)
    case kGzip: return libdeflate_gzip_compress_bound(nullptr, size);
#endif
    default: absent(step);
  }
}

std::size_t compress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t capacity) {
  switch (step.code) {
    case kExternal: return external_compress(step, src, size, dst, capacity);
#if defined(ZARRANT_ZSTD)
    case kZstd: return zstd_compress(step, src, size, dst, capacity);
#endif
#if defined(ZARRANT_BLOSC)
    case kBlosc: return blosc_compress_row(step, src, size, dst, capacity);
#endif
#if defined(ZARRANT_LIBDEFLATE)
    case kGzip: return gzip_compress(step, src, size, dst, capacity);
#endif
    default: absent(step);
  }
}

std::size_t decompress(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t limit) {
  switch (step.code) {
    case kExternal: return external_decompress(step, src, size, dst, limit);
#if defined(ZARRANT_ZSTD)
    case kZstd: return zstd_decompress(src, size, dst, limit);
#endif
#if defined(ZARRANT_BLOSC)
    case kBlosc: return blosc_decompress_row(src, size, dst, limit);
#endif
#if defined(ZARRANT_LIBDEFLATE)
    case kGzip: return gzip_decompress(src, size, dst, limit);
#endif
    default: absent(step);
  }
}

bool decompress_part(const Step& step, const Byte* src, std::size_t size, Byte* dst, std::size_t full, Part part) {
  switch (step.code) {
#if defined(ZARRANT_ZSTD) && defined(ZARRANT_VENDORED)
    case kZstd: return zstd_decompress_part(src, size, dst, full, part);
#endif
#if defined(ZARRANT_BLOSC)
    case kBlosc: return blosc_decompress_part(src, size, dst, full, part);
#endif
    default: return false;
  }
}

}  // namespace zarrant
