# The C libraries from their sources, as scripts/sources.py fetched them to ZARRANT_SOURCES: static and hidden in the module, so
# that they meet no other copy in the process. Leaves the targets vendored_zstd, vendored_blosc and vendored_libdeflate.
# The instructions of newer CPUs are chosen at run time by the libraries themselves: nothing here depends on the machine.
string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
if(processor MATCHES "^(x86_64|amd64)$" AND NOT CMAKE_OSX_ARCHITECTURES MATCHES "arm64")
  set(x86_64 TRUE)
endif()

function(vendored name)
  add_library(vendored_${name} STATIC ${ARGN})
  set_target_properties(vendored_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
  target_compile_options(vendored_${name} PRIVATE $<$<AND:$<CONFIG:Release>,$<NOT:$<C_COMPILER_ID:MSVC>>>:-O3>)
  target_compile_options(vendored_${name} PRIVATE $<IF:$<C_COMPILER_ID:MSVC>,/w,-w>) # their warnings are not ours to mend
  if(ZARRANT_SANITIZE STREQUAL "address")
    target_compile_options(vendored_${name} PRIVATE -fno-sanitize=undefined) # nor their loads from odd addresses
  endif()
endfunction()

# Compress and decompress only; dictionary training, legacy formats and threads stay away.
file(GLOB files CONFIGURE_DEPENDS ${ZARRANT_SOURCES}/zstd/common/*.c ${ZARRANT_SOURCES}/zstd/compress/*.c ${ZARRANT_SOURCES}/zstd/decompress/*.c)
if(x86_64 AND NOT MSVC)
  enable_language(ASM)
  list(APPEND files ${ZARRANT_SOURCES}/zstd/decompress/huf_decompress_amd64.S)
endif()
vendored(zstd ${files})
target_include_directories(vendored_zstd PUBLIC ${ZARRANT_SOURCES}/zstd)
# An empty ZSTDLIB_VISIBLE takes the exports away that its header asks for.
target_compile_definitions(vendored_zstd PRIVATE ZSTDLIB_VISIBLE= ZSTDERRORLIB_VISIBLE= ZSTD_LEGACY_SUPPORT=0 XXH_NAMESPACE=ZSTD_)
if(NOT x86_64 OR MSVC)
  target_compile_definitions(vendored_zstd PRIVATE ZSTD_DISABLE_ASM=1)
endif()

# Its calls of ZSTD_compress and ZSTD_decompress, which make a context for every block, become ours, which keep one for a thread;
# its decoder of BloscLZ and its way to planes of bits and back become the faster ones of blosc_parts.cpp.
set(blosc ${ZARRANT_SOURCES}/blosc)
file(GLOB files CONFIGURE_DEPENDS ${blosc}/lz4/*.c ${blosc}/zlib/*.c)
list(FILTER files EXCLUDE REGEX "/zlib/gz[a-z]+\\.c$") # files, which Blosc has not
foreach(name IN ITEMS blosc fastcopy shuffle shuffle-generic bitshuffle-generic)
  list(APPEND files ${blosc}/blosc/${name}.c)
endforeach()
if(x86_64)
  foreach(name IN ITEMS shuffle bitshuffle)
    list(APPEND files ${blosc}/blosc/${name}-sse2.c ${blosc}/blosc/${name}-avx2.c)
    set_source_files_properties(${blosc}/blosc/${name}-avx2.c PROPERTIES COMPILE_OPTIONS $<IF:$<C_COMPILER_ID:MSVC>,/arch:AVX2,-mavx2>)
  endforeach()
endif()
# The encoder of BloscLZ looks for the end of a match and of a run byte by byte, which takes a third of its time. It is compiled
# from a copy that counts bits instead, and makes the same bytes.
if(x86_64 AND NOT MSVC)
  file(READ ${blosc}/blosc/blosclz.c text)
  function(change pattern new)
    string(REGEX REPLACE "${pattern}" "${new}" changed "${text}")
    if(changed STREQUAL text)
      message(FATAL_ERROR "blosclz.c is another one than that which is changed here: ${pattern}")
    endif()
    set(text "${changed}" PARENT_SCOPE)
  endfunction()
  # 16 bytes of a match, compared one by one instead of by four: the bits that differ say which is the first.
  change("_mm_cmpeq_epi32(\\(value, value2\\);[^{]*{)[^{}]*{}[^}]*"
    "_mm_cmpeq_epi8\\1 return ip + __builtin_ctz(~(unsigned)_mm_movemask_epi8(cmp)) + 1; ")
  # 8 bytes of a run.
  change("(if \\(value != value2\\) {)[^}]*" "\\1 return ip + (__builtin_ctzll((unsigned long long)(value ^ value2)) >> 3); ")
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/blosclz.c)
  file(CONFIGURE OUTPUT ${copy} CONTENT "${text}" @ONLY)
  list(APPEND files ${copy})
else()
  list(APPEND files ${blosc}/blosc/blosclz.c)
endif()
vendored(blosc ${files})
target_include_directories(vendored_blosc PUBLIC ${blosc}/blosc PRIVATE ${blosc}/lz4 ${blosc}/zlib)
target_link_libraries(vendored_blosc PRIVATE vendored_zstd)
target_compile_definitions(vendored_blosc PRIVATE HAVE_LZ4 HAVE_ZLIB HAVE_ZSTD)
if(NOT WIN32)
  target_compile_definitions(vendored_blosc PRIVATE HAVE_UNISTD_H=1)
endif()
if(x86_64)
  target_compile_definitions(vendored_blosc PRIVATE SHUFFLE_SSE2_ENABLED SHUFFLE_AVX2_ENABLED)
endif()
set_source_files_properties(
  ${blosc}/blosc/blosc.c PROPERTIES COMPILE_DEFINITIONS
  "ZSTD_compress=zarrant_zstd_compress;ZSTD_decompress=zarrant_zstd_decompress;\
blosclz_decompress=zarrant_blosclz_decompress;blosc_internal_bitshuffle=zarrant_bitshuffle;\
blosc_internal_bitunshuffle=zarrant_bitunshuffle")
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries(vendored_blosc PRIVATE Threads::Threads)
# Snappy is C++ and in no archive that we fetch: where the system has it, Blosc gets it.
find_path(SNAPPY_INCLUDE snappy-c.h)
find_library(SNAPPY_LIBRARY snappy)
option(ZARRANT_SNAPPY "Let Blosc use the system's Snappy" ON)
if(ZARRANT_SNAPPY AND SNAPPY_INCLUDE AND SNAPPY_LIBRARY)
  target_compile_definitions(vendored_blosc PRIVATE HAVE_SNAPPY)
  target_include_directories(vendored_blosc PRIVATE ${SNAPPY_INCLUDE})
  target_link_libraries(vendored_blosc PRIVATE ${SNAPPY_LIBRARY})
endif()

file(GLOB files CONFIGURE_DEPENDS ${ZARRANT_SOURCES}/libdeflate/lib/*.c ${ZARRANT_SOURCES}/libdeflate/lib/*/*.c)
vendored(libdeflate ${files})
target_include_directories(vendored_libdeflate PUBLIC ${ZARRANT_SOURCES}/libdeflate)

# The licences travel with the code: into the wheel's metadata.
if(DEFINED SKBUILD_METADATA_DIR)
  install(DIRECTORY ${ZARRANT_SOURCES}/licenses/ DESTINATION ${SKBUILD_METADATA_DIR}/licenses)
endif()
